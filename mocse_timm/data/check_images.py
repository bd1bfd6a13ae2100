"""Decoding every image file once before a training begins: a broken one is named now, not in the middle of an epoch."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from mocse_timm.data.broken_images import BrokenImage, refuse_broken
from mocse_timm.data.image_files import ImageFiles, open_image
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

    def check(path: Path) -> BrokenImage | None:
        try:
            open_image(path, mode, rough=True)
        except OSError as error:
            return BrokenImage(path, str(error))
        return None

    def check_chunk(start: int) -> list[BrokenImage]:
        return [found for path in paths[start : start + CHUNK] if (found := check(path)) is not None]

    broken: list[BrokenImage] = []
    with (
        warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),  # refused, so in vain
        ThreadPoolExecutor(num_threads or os.cpu_count() or 1) as pool,
        tqdm(total=len(paths), desc="checking images", unit="image", disable=None if progress else True) as bar,
    ):
        for number, of_chunk in enumerate(pool.map(check_chunk, range(0, len(paths), CHUNK))):
            broken += of_chunk
            bar.update(min(CHUNK, len(paths) - number * CHUNK))
    return broken


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
