"""Unpacking a downloaded .tar beside its place, and moving it there when it is whole."""

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import CORRUPTIONS
from mocse_timm.corruptions.npy_layout import LABELS, npy_file

__all__ = ["unpack"]

DEEPEST = 3  # folders above a corruption inside a .tar, at most
ARRAYS = {LABELS, *map(npy_file, CORRUPTIONS)}


def _extract(tar: Path, staging: Path, *, progress: bool) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise BadInput("this Python cannot unpack safely: use Python 3.11.4 or later")
    size = tar.stat().st_size
    with (
        tarfile.open(tar, "r:") as archive,
        tqdm(
            total=size, desc=f"unpacking {tar.name}", unit="B", unit_scale=True, disable=None if progress else True
        ) as bar,
    ):
        for member in archive:
            archive.extract(member, staging, filter="data")
            bar.update(archive.offset - bar.n)


def _contents(staging: Path) -> Iterator[Path]:
    """Give the arrays and the corruptions' folders, wherever they lie."""
    level = [staging]
    for _ in range(DEEPEST):
        inside = [path for folder in level for path in sorted(folder.iterdir())]
        found = [path for path in inside if path.name in ARRAYS or (path.name in CORRUPTIONS and (path / "1").is_dir())]
        yield from found
        level = [path for path in inside if path.is_dir() and path not in found]


def _move(staging: Path, folder: Path, tar: Path) -> None:
    found = list(_contents(staging))
    if not found:
        raise BadInput(f"{tar} holds no corrupted images: it is not the published archive; remove it")
    parents = {path.parent for path in found}
    if not folder.exists() and len(parents) == 1:
        parents.pop().rename(folder)  # at once, so that a part is never taken for the whole
        return
    folder.mkdir(exist_ok=True)
    for path in found:
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)


def unpack(tar: Path, folder: Path, *, progress: bool = False) -> None:
    """Put the corruptions in ``tar`` into ``folder``; if something goes wrong, nothing is left of them.

    Raises:
        BadInput: if the file is damaged, holds something that would be written elsewhere or no corruptions, or the
            disk is full.
    """
    staging = folder.parent / f".{folder.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir()
        _extract(tar, staging, progress=progress)
        _move(staging, folder, tar)
    except tarfile.FilterError as error:
        raise BadInput(
            f"{tar} holds {error.tarinfo.name!r}, which would not stay inside the folder: it is not the published "
            "archive; nothing was unpacked, remove it"
        ) from None
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(f"{tar} cannot be unpacked ({error}): remove it and download it again") from None
    except OSError as error:
        raise BadInput(
            f"{tar} could not be unpacked into {folder.parent} ({error.strerror or error}): make room or give another "
            "--data-dir, and run the command again"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
