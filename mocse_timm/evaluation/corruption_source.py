"""Corrupted images batch by batch: read from an archive, or made while the model works.

Letters: K corruptions, S severities, N images of a cell, B images of a batch.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import Archive
from mocse_timm.corruptions.frost import find_frost_textures, frost_digest
from mocse_timm.data import FileImages, Loader, MemoryImages, Resizing, to_float
from mocse_timm.data.splits import ImageDataset
from mocse_timm.evaluation.corruption_worker import Task, corrupted

__all__ = ["ArchiveSource", "GeneratedSource", "Part", "Share", "Source", "choose_images"]


@dataclass(frozen=True, eq=False)
class Part:
    """One batch of one cell."""

    row: int
    """The corruption's place among the K."""
    column: int
    """The severity's place among the S."""
    places: slice
    """The batch's places among this process's images of the cell."""
    images: Tensor
    """(B, 3, H, W), float in [0, 1]."""
    labels: Tensor
    """(B,), int64."""


@dataclass(frozen=True)
class Share:
    """This process's part of the work: images p, p + P, p + 2P, ... of every cell."""

    process_index: int = 0
    num_processes: int = 1

    def of(self, chosen: Tensor) -> Tensor:
        """Return this process's rows of ``chosen``."""
        return chosen[self.process_index :: self.num_processes]


class Source(Protocol):
    """Where corrupted images come from."""

    @property
    def title(self) -> str:
        """What reports call it."""
        ...

    @property
    def ours(self) -> bool:
        """Whether they were made from the clean images by this package."""
        ...

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The K names."""
        ...

    @property
    def severities(self) -> tuple[int, ...]:
        """The S severities."""
        ...

    @property
    def chosen(self) -> Tensor:
        """(N,) int64: the images' places in the data set, or in each cell of an archive; rising."""
        ...

    @property
    def share(self) -> Share:
        """This process's."""
        ...

    @property
    def side(self) -> int:
        """Of every image, in pixels."""
        ...

    @property
    def resizing(self) -> Resizing | None:
        """How the clean images became squares; None where an archive does not say."""
        ...

    @property
    def frost_sha256(self) -> str | None:
        """Of frost's photographs; None without frost, or where an archive does not say."""
        ...

    @property
    def stems(self) -> tuple[str, ...] | None:
        """Names of the image files of a whole cell, without folders and endings; None where no names are known."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for everything that is left out or not used."""
        ...

    def parts(self) -> Generator[Part]:
        """Yield every batch of every cell once; close the iterator to stop early."""
        ...


def choose_images(total: int, wanted: int | None) -> Tensor:
    """Return the rising places of ``wanted`` of ``total`` images, spread by chance: the same ones for every model."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    return order[:wanted].sort().values


def _subset(split: MemoryImages | FileImages, chosen: Tensor) -> MemoryImages | FileImages:
    if len(chosen) == len(split):
        return split
    if isinstance(split, MemoryImages):
        return MemoryImages(split.images[chosen], split.labels[chosen])
    labels = None if split.labels is None else split.labels[chosen]
    return FileImages(Subset(split.dataset, chosen.tolist()), labels)  # type: ignore[arg-type]  (a Subset has the length and items that are asked for)


class _WholeImages:
    """An archive's image files, given as they are: one of another size is refused, where a loader would resize it."""

    def __init__(self, dataset: ImageDataset, side: int, cell: str) -> None:
        self.dataset = dataset
        self.side = side
        self.cell = cell

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        image, label = self.dataset[index][:2]
        if image.size != (self.side, self.side):
            raise BadInput(
                f"image {index} of {self.cell} is {image.height}x{image.width} pixels, the first of the archive "
                f"{self.side}x{self.side}; unpack or download it again"
            )
        return image, label


@dataclass(frozen=True, eq=False)
class ArchiveSource:
    """Cells read from disk, one after the other; ``make_loader`` must neither resize nor crop."""

    archive: Archive
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    chosen: Tensor
    labels: Tensor
    """(N,) int64, of a whole cell: every cell must have them."""
    stems: tuple[str, ...] | None
    """Names of a whole cell's files; None for arrays, which are in the clean order."""
    side: int
    """Of every image, in pixels."""
    share: Share
    make_loader: Callable[[MemoryImages | FileImages], Loader]

    @property
    def title(self) -> str:
        """The archive's own."""
        return self.archive.title

    @property
    def ours(self) -> bool:
        """An archive with a manifest is."""
        return self.archive.manifest is not None

    @property
    def resizing(self) -> Resizing | None:
        """Of an archive of ours what its manifest says, and what holds for all of them."""
        manifest = self.archive.manifest
        if manifest is None or manifest.crop_pct is None:
            return None
        return Resizing(manifest.crop_pct, manifest.crop_mode or "center")

    @property
    def frost_sha256(self) -> str | None:
        """What the manifest of an archive of ours says."""
        manifest = self.archive.manifest
        return manifest.frost_sha256 if manifest is not None and "frost" in self.corruptions else None

    @property
    def notes(self) -> tuple[str, ...]:
        """The archive's own."""
        return self.archive.notes

    def _cell(self, name: str, severity: int) -> MemoryImages | FileImages:
        cell = self.archive.cell(name, severity)
        assert cell.labels is not None, "an archive knows its labels"
        if len(cell) != len(self.labels):
            raise BadInput(
                f"{self.archive.folder} has {len(cell)} images of {name} at severity {severity}, and "
                f"{len(self.labels)} in another cell; unpack or download the archive again"
            )
        if not torch.equal(cell.labels, self.labels):
            at = (cell.labels != self.labels).nonzero()[0]
            label = min(int(cell.labels[at]), int(self.labels[at]))
            raise BadInput(
                f"{self.archive.folder} has another number of images of class {label} in {name} at severity "
                f"{severity} than in another cell; unpack or download the archive again"
            )
        if isinstance(cell, FileImages):
            where = f"{name} at severity {severity} in {self.archive.folder}"
            return FileImages(_WholeImages(cell.dataset, self.side, where), cell.labels)
        return cell

    def parts(self) -> Generator[Part]:
        """Yield every batch of every cell once.

        Raises:
            BadInput: if a cell has other labels than the first, or an image of another size.
        """
        for row, name in enumerate(self.corruptions):
            for column, severity in enumerate(self.severities):
                cell = self._cell(name, severity)
                start = 0
                for images, labels in self.make_loader(_subset(cell, self.chosen)):
                    yield Part(row, column, slice(start, start + len(labels)), images, labels)
                    start += len(labels)


@dataclass(frozen=True, eq=False)
class GeneratedSource:
    """Cells made from the clean images and kept nowhere.

    Every clean batch is loaded once and goes through all cells. Images that are read from files are corrupted as the
    loader gives them, resized and cropped; so it is done in ImageNet-C. An image's place in its data set decides its
    random draws: a subset, an archive made with the same seed and crop, and any number of processes have the same
    pixels.
    """

    split: MemoryImages | FileImages
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    chosen: Tensor
    share: Share
    make_loader: Callable[[MemoryImages | FileImages], Loader]
    device: torch.device
    side: int
    resizing: Resizing
    """How ``make_loader`` makes squares of the images, or how those in memory became such."""
    seed: int = 0
    workers: int = 1
    frost_dir: str | None = None
    notes: tuple[str, ...] = ()
    ours: bool = True
    stems: None = None
    """The clean images themselves need no names."""

    @property
    def title(self) -> str:
        """Never the name of an official archive."""
        return f"generated (mocse_timm {metadata.version('mocse_timm')}, seed {self.seed})"

    @property
    def frost_sha256(self) -> str | None:
        """Of those that frost is made with."""
        return frost_digest(find_frost_textures(self.frost_dir)) if "frost" in self.corruptions else None

    def _tasks(self) -> Iterator[Task]:
        start, indices = 0, self.share.of(self.chosen).numpy()
        for images, labels in self.make_loader(_subset(self.split, self.chosen)):
            pixels = np.ascontiguousarray((images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
            places = slice(start, start + len(labels))
            start += len(labels)
            for row, name in enumerate(self.corruptions):
                for column, severity in enumerate(self.severities):
                    tag = (row, column, places, labels)
                    yield Task(pixels, indices[places], name, severity, tag)

    def parts(self) -> Generator[Part]:
        """Yield every batch of every cell once."""
        made = corrupted(self._tasks(), workers=self.workers, seed=self.seed, frost_dir=self.frost_dir)
        with closing(made):
            for task, pixels in made:
                row, column, places, labels = task.tag
                images = torch.from_numpy(pixels).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
                yield Part(row, column, places, to_float(images), labels)
