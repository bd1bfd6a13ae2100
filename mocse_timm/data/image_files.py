"""Opening image files: one at a time, or a whole list into one tensor."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from mocse_timm.checks import BadInput
from mocse_timm.data.folder_layout import LabelledFiles

__all__ = ["ImageFiles", "decode_files", "open_image", "stored_size"]

DEEP_MODES = ("I", "F")  # Pillow clips 16- and 32-bit values at 255 instead of scaling them
# What Pillow raises for files it cannot or will not open; the last is its guard against gigapixel images.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
CHUNK = 256  # images a thread decodes before it takes new ones; handing them out singly costs 30 us each


def stored_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from the file's header, without decoding the pixels.

    Raises:
        BadInput: if the file is not an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except UNREADABLE as error:
        raise BadInput(f"image file {path} cannot be read ({error}): replace or remove it") from None


def open_image(path: Path, mode: str, *, upright: bool = False) -> Image.Image:
    """Return the decoded image in Pillow's ``mode``, RGB or L.

    Args:
        path: of the file.
        mode: RGB or L.
        upright: turn a photograph as its camera says it was held; data sets are read as they are stored.

    Raises:
        OSError: if the file cannot be decoded or has more than 8 bits per channel.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(DEEP_MODES):
                raise OSError(f"{image.mode} pixels, more than 8 bits per channel")
            image.load()
            if upright:
                image = ImageOps.exif_transpose(image)
            return image if image.mode == mode else image.convert(mode)
    except UNREADABLE as error:
        raise OSError(str(error)) from None


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
            raise BadInput(f"image file {path} cannot be read ({error}): replace or remove it") from None


def decode_files(
    paths: list[Path],
    *,
    mode: str,
    stored: tuple[int, int],
    size: int,
    resize: bool,
    num_threads: int = 0,
    progress: bool = False,
) -> Tensor:
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
        (N, C, size, size) uint8.

    Raises:
        BadInput: naming the first file, if any cannot be decoded or has another size.
    """
    channels = len(mode)
    result = np.empty((len(paths), channels, size, size), dtype=np.uint8)

    def decode(index: int) -> str | None:
        try:
            image = open_image(paths[index], mode)
        except OSError as error:
            return str(error)
        if not resize and (image.height, image.width) != stored:
            return f"it is {image.height}x{image.width} where the first image is {stored[0]}x{stored[1]}"
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        result[index] = np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)
        return None

    def decode_chunk(start: int) -> list[tuple[Path, str]]:
        outcomes = [(paths[index], decode(index)) for index in range(start, min(start + CHUNK, len(paths)))]
        return [(path, reason) for path, reason in outcomes if reason is not None]

    refused: list[tuple[Path, str]] = []
    with ThreadPoolExecutor(num_threads or os.cpu_count() or 1) as pool:
        with tqdm(total=len(paths), desc="decoding images", unit="image", disable=None if progress else True) as bar:
            for number, of_chunk in enumerate(pool.map(decode_chunk, range(0, len(paths), CHUNK))):
                refused += of_chunk
                bar.update(min(CHUNK, len(paths) - number * CHUNK))
    if refused:
        path, reason = refused[0]
        raise BadInput(
            f"{len(refused)} of {len(paths)} image files cannot be used, the first is {path} ({reason}): "
            "replace or remove them, or pass --img-size N if only their sizes differ"
        )
    return torch.from_numpy(result)
