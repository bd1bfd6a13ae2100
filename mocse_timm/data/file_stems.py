"""The names of a part's image files, by which the same photographs are known in two folders."""

from pathlib import Path

from mocse_timm.data.image_files import ImageFiles
from mocse_timm.data.splits import FileImages, MemoryImages

__all__ = ["file_stems"]


def file_stems(split: MemoryImages | FileImages) -> tuple[str, ...] | None:
    """Return each file's name without folder and ending, in the part's order; None where no names are known."""
    if isinstance(split, MemoryImages):
        return split.stems
    if isinstance(split.dataset, ImageFiles):
        return tuple(path.stem for path in split.dataset.files.paths)
    samples = getattr(split.dataset, "samples", None)  # torchvision's folders: (path, label)
    return None if samples is None else tuple(Path(path).stem for path, _ in samples)
