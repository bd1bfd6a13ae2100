"""One process at a time at one place on the disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout  # torch requires it, so it is always there

from mocse_timm.checks import BadInput

__all__ = ["alone"]


@contextmanager
def alone(lock: Path, doing: str, place: Path) -> Iterator[None]:
    """Hold the file ``lock`` inside the block, and remove it then.

    Args:
        lock: a name that nothing else has.
        doing: what is done meanwhile, for the message to others: ``fetching FILE``.
        place: what is written, for the message where the disk refuses.

    Raises:
        BadInput: if another process holds it, or the disk refuses to write.
    """
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise BadInput(f"another process is {doing}: wait for it") from None
    except OSError as error:
        raise BadInput(f"cannot write {place} ({error.strerror or error}): give another --data-dir") from None
