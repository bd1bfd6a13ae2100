"""Files of results: refused before the work if they cannot be written, and never seen half-written."""

import os
from collections.abc import Sequence
from pathlib import Path

from mocse_timm.checks import BadInput

__all__ = ["check_output", "write_whole"]


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def check_output(path: str | Path, endings: Sequence[str], what: str) -> Path:
    """Return the path of a file that can be written.

    Args:
        path: of the file to come.
        endings: the file types allowed, such as ``(".json", ".csv")``.
        what: its name in messages, such as ``results file``.

    Raises:
        BadInput: if it has another ending, is a folder, or its folder does not exist or cannot be written.
    """
    path = Path(path)
    allowed = " or ".join(endings)
    if path.suffix not in endings:
        raise BadInput(f"{what} {path} must end in {allowed}")
    if path.is_dir():
        raise BadInput(f"{what} {path} is a folder; give a file name ending in {allowed}")
    if not path.parent.is_dir():
        raise BadInput(f"folder {path.parent} of the {what} does not exist; make it first")
    try:  # permissions alone do not tell: a disk may be mounted to be read only
        _beside(path).touch()
        _beside(path).unlink()
    except OSError as error:
        raise BadInput(f"cannot write the {what} {path} ({error.strerror}); choose another place") from None
    return path


def write_whole(path: Path, content: str | bytes, what: str) -> None:
    """Write ``content`` beside ``path`` and rename it, so that whoever reads sees the old file or the new one.

    Raises:
        BadInput: if the disk refuses it.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content  # names may be no text
    try:
        _beside(path).write_bytes(data)
        os.replace(_beside(path), path)
    except OSError as error:
        _beside(path).unlink(missing_ok=True)
        raise BadInput(f"cannot write the {what} {path} ({error.strerror}); choose another place") from None
