"""What a data set is here: a training part, a validation part, and the names of the classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mocse_timm.checks import BadInput
from mocse_timm.data.resizing import Resizing

__all__ = ["DataSplits", "FileImages", "ImageDataset", "MemoryImages"]


class ImageDataset(Protocol):
    """Anything of known length that gives one ``(PIL image, int label)`` per index, as timm's data sets do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True, eq=False)
class MemoryImages:
    """A set decoded once and kept in memory.

    Shapes: N = images, C = channels.

    Args:
        images: (N, C, H, W) uint8, pixel values in [0, 255].
        labels: (N,) int64 class indices.
        stems: names of the N files that were decoded, without folders and endings; None where there were no files.
        files_sha256: of the names and sizes of those files, see :mod:`mocse_timm.data.images_digest`; None likewise.
        squashed: whether images of the set, in whichever part, were no squares and were squeezed into some.

    Raises:
        BadInput: if a shape or number type is another, or the two lengths differ.
    """

    images: Tensor
    labels: Tensor
    stems: tuple[str, ...] | None = None
    files_sha256: str | None = None
    squashed: bool = False

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise BadInput(
                f"images in memory must be uint8 of shape (N, C, H, W), "
                f"got {self.images.dtype} of shape {tuple(self.images.shape)}: convert them first"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise BadInput(
                f"labels must be int64 of shape ({len(self.images)},), one per image, "
                f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}: convert them first"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def resizing(self) -> Resizing:
        """How the images became squares when they were decoded: whole and bilinearly."""
        return Resizing(1.0, "squash" if self.squashed else "center", "bilinear")


@dataclass(frozen=True, eq=False)
class FileImages:
    """A set whose images are decoded each time they are needed: too many or too large for memory.

    Args:
        dataset: gives ``(PIL image, int label)`` per index; its own ``transform``, if it has one, stays None.
        labels: (N,) int64, every label where they are known without decoding; used only for checks.
    """

    dataset: ImageDataset
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.dataset)


@dataclass(frozen=True, eq=False)
class DataSplits:
    """A data set ready for loaders.

    Args:
        name: as the user wrote it, for messages.
        train: images to learn from.
        validation: images to measure on, none of them in ``train``.
        class_names: one per class; a label is an index into it.

    Raises:
        BadInput: if there are fewer than two classes, a part is empty, or a label is not in [0, num_classes).
    """

    name: str
    train: MemoryImages | FileImages
    validation: MemoryImages | FileImages
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise BadInput(
                f"data set {self.name!r} has {self.num_classes} class(es): a classifier needs at least two, "
                "so give a set with two or more"
            )
        for part, split in (("train", self.train), ("validation", self.validation)):
            if len(split) == 0:
                raise BadInput(f"the {part} part of data set {self.name!r} has no images: add some")
            if split.labels is None:
                continue
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.num_classes:
                raise BadInput(
                    f"the {part} part of data set {self.name!r} has label {low if low < 0 else high}, but its "
                    f"{self.num_classes} classes are numbered 0 to {self.num_classes - 1}: fix or remove those labels"
                )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def public_name(self) -> str:
        """The name for what may be published: of a folder only its last part, never where it lies on this machine."""
        prefix, colon, path = self.name.partition(":")
        return f"{prefix}:{Path(path).resolve().name}" if colon and prefix == "folder" else self.name
