"""Decoding every image file once before a training begins: a broken one is named now, not in the middle of an epoch."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mocse_timm.data.broken_images import BrokenImage, refuse_broken
from mocse_timm.data.image_files import ImageFiles, open_image, visit_files
from mocse_timm.data.splits import DataSplits, FileImages

__all__ = ["check_images", "find_broken"]

CHUNK = 16  # images a thread takes at a time


def _alone(found: list[BrokenImage]) -> list[BrokenImage]:
    return found


def find_broken(paths: Sequence[Path], mode: str, *, num_threads: int = 0, progress: bool = False) -> list[BrokenImage]:
    """Return the files that cannot be decoded to Pillow's ``mode``, in the order of ``paths``.

    Every byte of the pixels is read, but JPEGs are decoded at an eighth of their size: the bits have to be unpacked all
    the same, but most of the arithmetic falls away.

    Args:
        paths: of image files.
        mode: RGB or L.
        num_threads: that decode at the same time, as Pillow does without Python's lock; 0 for one per CPU core.
        progress: show a bar.
    """

    def check(index: int) -> str | None:
        try:
            open_image(paths[index], mode, rough=True)
        except OSError as error:
            return str(error)
        return None

    return visit_files(paths, check, what="checking images", chunk=CHUNK, num_threads=num_threads, progress=progress)


def check_images(
    data: DataSplits,
    *,
    num_workers: int = 0,
    progress: bool = False,
    process_index: int = 0,
    num_processes: int = 1,
    gather: Callable[[list[BrokenImage]], list[BrokenImage]] = _alone,
) -> None:
    """Decode every image of both parts of ``data`` that is read from a file of ours whenever it is needed.

    Images in memory have been decoded, and the files of timm's data sets are timm's: both pass unread.

    Args:
        data: the set.
        num_workers: threads; 0 for one per CPU core.
        progress: show a bar.
        process_index: this process's number among ``num_processes``, which share the files.
        num_processes: how many check at the same time.
        gather: puts the lists of all processes together, so that all refuse alike.

    Raises:
        BadInput: if any cannot be decoded: how many, the first few by name, and why.
    """
    datasets = [part.dataset for part in (data.train, data.validation) if isinstance(part, FileImages)]
    files = [dataset for dataset in datasets if isinstance(dataset, ImageFiles)]
    paths = [path for dataset in files for path in dataset.files.paths]
    if not paths:
        return
    broken = find_broken(paths[process_index::num_processes], files[0].mode, num_threads=num_workers, progress=progress)
    refuse_broken(sorted(gather(broken)), len(paths), or_else=", or pass --no-check-images to train until one is met")
