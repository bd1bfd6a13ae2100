"""What tells the images of one part of a data set from those of another that has as many of each class."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mocse_timm.data.image_files import ImageFiles
from mocse_timm.data.splits import FileImages, MemoryImages

__all__ = ["files_digest", "images_digest"]

CHUNK = 4096  # images whose bytes are put in order at a time


def files_digest(paths: Sequence[Path]) -> str:
    """Return the sha256 of the files' names, with those of their folders, and sizes in bytes, in their order.

    None is opened: of photographs hardly two have one size. A file that is gone counts as one of -1 bytes.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            size = path.stat().st_size
        except OSError:
            size = -1
        digest.update(f"{path.parent.name}/{path.name} {size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _pixels_digest(split: MemoryImages) -> str:
    """Return the sha256 of (N, H, W, C) uint8 pixels and (N,) int64 labels, as a manifest has it."""
    digest = hashlib.sha256()
    for images in split.images.split(CHUNK):
        digest.update(images.permute(0, 2, 3, 1).contiguous().numpy().data)
    digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()


def images_digest(split: MemoryImages | FileImages) -> str | None:
    """Return 64 hexadecimal digits that stand for the images of ``split``, in their order.

    They come from :func:`files_digest` where there are files, otherwise from pixels and labels; None where images are
    decoded one by one from what has no names.
    """
    if isinstance(split, MemoryImages):
        return split.files_sha256 or _pixels_digest(split)
    if isinstance(split.dataset, ImageFiles):
        return files_digest(split.dataset.files.paths)
    samples = getattr(split.dataset, "samples", None)  # torchvision's folders: (path, label)
    return None if samples is None else files_digest([Path(path) for path, _ in samples])
