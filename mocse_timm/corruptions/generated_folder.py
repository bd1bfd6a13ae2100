"""The rules for a folder of generated corruptions: who may write into it, and what in it is kept."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout  # torch requires it, so it is always there
from tqdm import tqdm

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.checksum import file_digest
from mocse_timm.corruptions.manifest import MANIFEST, Manifest

__all__ = ["check_same_making", "finished_files", "locked"]

LOCK = ".lock"


def _remove_parts(folder: Path) -> None:
    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder if need be and hold it alone inside the block; half-written files are removed before and after.

    The lock goes with the process, however that ends.

    Raises:
        BadInput: if the folder holds something that is not ours, or another process writes into it.
        OSError: if it cannot be written.
    """
    fresh = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted(path.name for path in folder.iterdir() if path.name != LOCK and path.suffix != ".part")
    if strangers and not (folder / MANIFEST).is_file():
        raise BadInput(f"{folder} holds something else ({strangers[0]}) and no {MANIFEST}: give another --output")
    try:
        with FileLock(folder / LOCK, timeout=0):
            try:
                _remove_parts(folder)
                yield
            finally:
                _remove_parts(folder)
                (folder / LOCK).unlink(missing_ok=True)
                for place in fresh:
                    with suppress(OSError):  # not empty
                        place.rmdir()
    except Timeout:
        raise BadInput(f"another process is writing into {folder}: wait for it, or give another --output") from None


def check_same_making(folder: Path, before: Manifest, now: Manifest) -> None:
    """Refuse to mix images, sizes, seeds, severities or versions in one folder.

    Raises:
        BadInput: naming the first difference.
    """
    pairs = [
        (name.replace("_", " "), getattr(before, name), getattr(now, name))
        for name in ("dataset", "split", "num_images", "image_size", "severities", "seed")
    ]
    packages = sorted({*before.versions, *now.versions})
    pairs += [(package, before.versions.get(package), now.versions.get(package)) for package in packages]
    pairs.append(("images of sha256", before.source_sha256, now.source_sha256))
    if before.frost_sha256 and now.frost_sha256:
        pairs.append(("photographs of frost of sha256", before.frost_sha256, now.frost_sha256))
    for name, old, new in pairs:
        if old != new:
            raise BadInput(
                f"{folder} was begun with {name} {old}, and not {new}: give another --output, or remove the folder"
            )


def finished_files(folder: Path, manifest: Manifest, *, progress: bool = False) -> dict[str, str]:
    """Return sha256 by name of the files that are still what the manifest says; others will be made again."""
    there = {name: folder / name for name in manifest.files if (folder / name).is_file()}
    total = sum(path.stat().st_size for path in there.values())
    kept: dict[str, str] = {}
    with tqdm(
        total=total, desc="checking finished files", unit="B", unit_scale=True, disable=None if progress else True
    ) as bar:
        for name, path in there.items():
            if file_digest(path, "sha256", bar) == manifest.files[name]:
                kept[name] = manifest.files[name]
    return kept
