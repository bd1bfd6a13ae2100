"""Corrupted images batch by batch: read from an archive, or made while the model works.

Letters: K corruptions, S severities, N images of a cell, B images of a batch.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import Archive
from mocse_timm.data import FileImages, Loader, MemoryImages, to_float
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
    def notes(self) -> tuple[str, ...]:
        """A sentence for everything that is left out."""
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


@dataclass(frozen=True, eq=False)
class ArchiveSource:
    """Cells read from disk, one after the other."""

    archive: Archive
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    chosen: Tensor
    num_images: int
    """Of a whole cell."""
    share: Share
    make_loader: Callable[[MemoryImages | FileImages], Loader]

    @property
    def title(self) -> str:
        """The archive's own."""
        return self.archive.title

    @property
    def notes(self) -> tuple[str, ...]:
        """The archive's own."""
        return self.archive.notes

    def parts(self) -> Generator[Part]:
        """Yield every batch of every cell once."""
        for row, name in enumerate(self.corruptions):
            for column, severity in enumerate(self.severities):
                cell = self.archive.cell(name, severity)
                if len(cell) != self.num_images:
                    raise BadInput(
                        f"{self.archive.folder} has {len(cell)} images of {name} at severity {severity}, and "
                        f"{self.num_images} in another cell; unpack or download the archive again"
                    )
                start = 0
                for images, labels in self.make_loader(_subset(cell, self.chosen)):
                    yield Part(row, column, slice(start, start + len(labels)), images, labels)
                    start += len(labels)


@dataclass(frozen=True, eq=False)
class GeneratedSource:
    """Cells made from the clean images and kept nowhere.

    Every clean batch is loaded once and goes through all cells. Images that are read from files are corrupted as the
    loader gives them, resized and cropped; so it is done in ImageNet-C. An image's place in its data set decides its
    random draws: a subset, an archive made with the same seed, and any number of processes have the same pixels.
    """

    split: MemoryImages | FileImages
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    chosen: Tensor
    share: Share
    make_loader: Callable[[MemoryImages | FileImages], Loader]
    device: torch.device
    seed: int = 0
    workers: int = 1
    frost_dir: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Never the name of an official archive."""
        return f"generated (mocse_timm {metadata.version('mocse_timm')}, seed {self.seed})"

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
