"""The layout of CIFAR-10-C: one array a corruption, severity after severity, and one array of labels.

Letters: N = images of the clean set, S = severities (5, or as many as were asked for), H, W = sides in pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import CORRUPTIONS, SEVERITIES
from mocse_timm.data.splits import FileImages, MemoryImages

__all__ = ["LABELS", "NpyLayout", "npy_file", "open_npy_layout"]

LABELS = "labels.npy"
LARGEST_CELL = 512 * 1024**2  # bytes; CIFAR-10-C's cells have 31 MB, 10,000 images of 224x224 have 1.5 GB


def npy_file(name: str) -> str:
    """Return the name of the file that holds the corruption ``name``."""
    return f"{name}.npy"


def _open(path: Path) -> np.ndarray:
    """Map ``path`` into memory; nothing but the header is read."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(f"{path} is missing: unpack, download or generate the archive again") from None
    except (OSError, ValueError, EOFError) as error:
        reason = "it is shorter than its header says" if "mmap length" in str(error) else " ".join(str(error).split())
        raise BadInput(f"{path} is truncated or damaged ({reason}): download or generate it again") from None
    if not isinstance(array, np.ndarray):  # a zip of arrays
        array.close()
        raise BadInput(f"{path} is no .npy file: download or generate it again")
    extra = path.stat().st_size - (array.offset if isinstance(array, np.memmap) else 0) - array.nbytes
    if extra:
        raise BadInput(f"{path} is {extra} bytes longer than its header says: download or generate it again")
    return array


def _read_labels(path: Path, num_severities: int) -> torch.Tensor:
    """Return the (N,) int64 labels, which the file repeats for every severity."""
    labels = _open(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0 or len(labels) % num_severities:
        raise BadInput(
            f"{path} must hold the labels of all images {num_severities} times in a row, "
            f"got {labels.dtype} of shape {labels.shape}: download or generate the archive again"
        )
    rows = labels.reshape(num_severities, -1).astype(np.int64)
    if (rows != rows[0]).any():
        raise BadInput(f"{path} has other labels at one severity than at another: the images and labels do not match")
    return torch.from_numpy(rows[0].copy())


class MappedImages:
    """Rows of a mapped file as a data set of ``(PIL image, int label)``: for cells too large for memory."""

    def __init__(self, pixels: np.ndarray, labels: torch.Tensor) -> None:
        self.pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(np.array(self.pixels[index])), int(self.labels[index])


@dataclass(frozen=True, eq=False)
class NpyLayout:
    """Files that have been looked at and fit together; :func:`open_npy_layout` makes it."""

    folder: Path
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    labels: torch.Tensor
    """(N,) int64, in the order of the clean set."""
    class_names: None = None

    def read(self, name: str, severity: int) -> MemoryImages | FileImages:
        """Return the images of one corruption at one severity: only those N rows of the file are read.

        If even they are too many for memory, they are read one at a time.
        """
        rows = slice(*(len(self.labels) * (self.severities.index(severity) + step) for step in (0, 1)))
        pixels = _open(self.folder / npy_file(name))[rows]
        if pixels.nbytes > LARGEST_CELL:
            return FileImages(MappedImages(pixels, self.labels), self.labels)
        return MemoryImages(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))), self.labels)


def open_npy_layout(
    folder: Path, *, severities: tuple[int, ...] = SEVERITIES, wanted: tuple[str, ...] | None = None
) -> NpyLayout:
    """Look at every file's header and size, and at the labels.

    Args:
        folder: that holds the files.
        severities: in the order in which the files hold them.
        wanted: corruptions that have to be there; None for those that are.

    Raises:
        BadInput: if a file is missing, truncated or of another shape, or labels and images do not match.
    """
    corruptions = wanted or tuple(name for name in CORRUPTIONS if (folder / npy_file(name)).is_file())
    labels = _read_labels(folder / LABELS, len(severities))
    shape: tuple[int, ...] | None = None
    for name in corruptions:
        array = _open(folder / npy_file(name))
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
            raise BadInput(
                f"{folder / npy_file(name)} must hold uint8 images of shape (images, height, width, 3), "
                f"got {array.dtype} of shape {array.shape}: download or generate it again"
            )
        if len(array) != len(labels) * len(severities):
            raise BadInput(
                f"{folder / npy_file(name)} has {len(array)} images but {LABELS} beside it "
                f"{len(labels) * len(severities)} labels: they do not belong together; download or generate them again"
            )
        shape = shape or array.shape
        if array.shape != shape:
            raise BadInput(
                f"{folder / npy_file(name)} has images of {array.shape[1]}x{array.shape[2]} pixels, "
                f"{npy_file(corruptions[0])} beside it of {shape[1]}x{shape[2]}: keep archives in folders of their own"
            )
    return NpyLayout(folder, corruptions, severities, labels)
