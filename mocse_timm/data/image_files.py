"""Opening image files: one at a time, or a whole list into one tensor."""

import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from mocse_timm.checks import BadInput
from mocse_timm.data.broken_images import BrokenImage, printable, refuse_broken
from mocse_timm.data.folder_layout import LabelledFiles

__all__ = ["UNREADABLE", "ImageFiles", "decode_files", "open_image", "stored_size", "visit_files"]

DEEP_MODES = ("I", "F")  # Pillow clips 16- and 32-bit values at 255 instead of scaling them
# What Pillow raises for files it cannot or will not open. Its guard against gigapixel images is an error above twice
# its limit and a warning below, which Python can be told to raise. Its decoders of AVIF and DDS raise RuntimeErrors.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
CHUNK = 256  # images a thread decodes before it takes new ones; handing them out singly costs 30 us each


def _reason(error: Exception) -> str:
    """Return in a few words, without the file's name, why it could not be opened."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than {Image.MAX_IMAGE_PIXELS} pixels, Pillow's limit"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Hold an image file open inside the block; whatever is wrong with it becomes an OSError that says so."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would keep its reader waiting for ever
            raise OSError("it is not a file")
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError
            yield image
    except UNREADABLE as error:
        raise OSError(_reason(error)) from None


def stored_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from the file's header, without decoding the pixels.

    Raises:
        BadInput: if the file is not an image.
    """
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning), _opened(path) as image:
            return image.height, image.width
    except OSError as error:
        raise BadInput(f"image file {printable(path)} cannot be read ({error}): replace or remove it") from None


def open_image(path: Path, mode: str, *, upright: bool = False, rough: bool = False) -> Image.Image:
    """Return the decoded image in Pillow's ``mode``, RGB or L.

    Args:
        path: of the file.
        mode: RGB or L.
        upright: turn a photograph as its camera says it was held; data sets are read as they are stored.
        rough: decode a JPEG at an eighth of its size, which reads as much of the file as decoding all of it.

    Raises:
        OSError: if the file cannot be decoded, has more than 8 bits per channel, or more pixels than Pillow's limit.
    """
    with _opened(path) as image:
        if image.mode.startswith(DEEP_MODES):
            raise OSError(f"{image.mode} pixels, more than 8 bits per channel")
        if rough:
            image.draft(None, (1, 1))  # the smallest there is; other formats know no draft
        image.load()
        if upright:
            image = ImageOps.exif_transpose(image)
        return image if image.mode == mode else image.convert(mode)


class ImageFiles:
    """Files decoded one at a time: ``dataset[index]`` is ``(PIL image, int label)``.

    Raises:
        BadInput: on reading an image that cannot be decoded. timm's own data set would put the next image, with
            the next image's label, in its place.
    """

    def __init__(self, files: LabelledFiles, mode: str) -> None:
        self.files = files
        self.mode = mode

    def __len__(self) -> int:
        return len(self.files.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path = self.files.paths[index]
        try:
            return open_image(path, self.mode), self.files.labels[index]
        except OSError as error:
            raise BadInput(f"image file {printable(path)} cannot be read ({error}): replace or remove it") from None


def visit_files(
    paths: Sequence[Path],
    visit: Callable[[int], str | None],
    *,
    what: str,
    chunk: int,
    num_threads: int = 0,
    progress: bool = False,
) -> list[BrokenImage]:
    """Call ``visit`` with the place of every path and return the files it refused, in the order of ``paths``.

    Args:
        paths: of image files.
        visit: returns None, or why a file cannot be used.
        what: is done, for the bar.
        chunk: files a thread takes at a time.
        num_threads: that work at the same time, as Pillow does without Python's lock; 0 for one per CPU core.
        progress: show a bar.
    """

    def visit_chunk(start: int) -> list[BrokenImage]:
        outcomes = [(paths[index], visit(index)) for index in range(start, min(start + chunk, len(paths)))]
        return [BrokenImage(path, reason) for path, reason in outcomes if reason is not None]

    broken: list[BrokenImage] = []
    with (
        warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),  # refused, so in vain
        ThreadPoolExecutor(num_threads or os.cpu_count() or 1) as pool,
        tqdm(total=len(paths), desc=what, unit="image", disable=None if progress else True) as bar,
    ):
        for number, of_chunk in enumerate(pool.map(visit_chunk, range(0, len(paths), chunk))):
            broken += of_chunk
            bar.update(min(chunk, len(paths) - number * chunk))
    return broken


def decode_files(
    paths: list[Path],
    *,
    mode: str,
    stored: tuple[int, int],
    size: int,
    resize: bool,
    num_threads: int = 0,
    progress: bool = False,
) -> tuple[Tensor, bool]:
    """Decode every file once.

    Shapes: N = files, C = 3 for mode RGB and 1 for L.

    Args:
        paths: in the order wanted.
        stored: (height, width) every image must have, unless ``resize``.
        size: side of the result; images of another size are resized (bilinear, antialiased) if ``resize``.
        resize: whether images may differ in size from ``stored``.
        num_threads: that decode at the same time; 0 for one per CPU core. They overlap waiting for the disk.
        progress: show a bar.

    Returns:
        (N, C, size, size) uint8; and whether any image was no square, and so was squeezed into one.

    Raises:
        BadInput: naming the first few files, if any cannot be decoded or have another size.
    """
    channels = len(mode)
    result = np.empty((len(paths), channels, size, size), dtype=np.uint8)
    squeezed = np.zeros(len(paths), dtype=bool)

    def decode(index: int) -> str | None:
        try:
            image = open_image(paths[index], mode)
        except OSError as error:
            return str(error)
        if not resize and (image.height, image.width) != stored:
            return f"it is {image.height}x{image.width} where the first image is {stored[0]}x{stored[1]}"
        squeezed[index] = image.height != image.width
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        result[index] = np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)
        return None

    broken = visit_files(paths, decode, what="decoding images", chunk=CHUNK, num_threads=num_threads, progress=progress)
    refuse_broken(broken, len(paths), or_else=", or pass --img-size N if only their sizes differ")
    return torch.from_numpy(result), bool(squeezed.any())
