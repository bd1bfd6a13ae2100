"""Batches from images in memory, augmented a batch at a time on the device they are used on."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mocse_timm.data.batch_augmentation import cutout, random_crop, random_flip, to_float
from mocse_timm.data.seeds import drawing_from, make_generator
from mocse_timm.data.sharding import check_pairs, check_sharding, training_batches, validation_batches
from mocse_timm.data.splits import MemoryImages

__all__ = ["MemoryLoader"]


class MemoryLoader:
    """Iterate over ``(images, labels)``: (B, C, H, W) float32 in [0, 1] and (B,) int64, both on ``device``.

    Training shuffles, augments and drops what does not fill a batch; a set smaller than one batch is one batch.
    Validation keeps every image once, in order, unchanged. A batch depends only on the seed, the epoch, its number and
    the process, so that a resumed run goes on exactly.

    Args:
        split: the images.
        batch_size: images per batch in this process.
        training: whether to shuffle, augment and drop.
        device: where batches are made; the whole set is moved there once.
        seed: of order and augmentation.
        padding: pixels of the random crop; 0 for none.
        hflip: probability of mirroring.
        cutout: side in pixels of the black square; 0 for none.
        mixup: timm's Mixup, or None. With it labels become (B, classes) float32.
        process_index: this process's number among ``num_processes``.
        num_processes: how many share the set.

    Raises:
        BadInput: if the set cannot be shared out so, or mixup meets an odd batch.
    """

    def __init__(
        self,
        split: MemoryImages,
        *,
        batch_size: int,
        training: bool,
        device: torch.device | str = "cpu",
        seed: int = 0,
        padding: int = 4,
        hflip: float = 0.5,
        cutout: int = 0,
        mixup: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        check_sharding(len(split), batch_size, process_index, num_processes)
        self.images = split.images.to(device)
        self.labels = split.labels.to(device)
        self.batch_size = batch_size
        self.training = training
        self.seed = seed
        self.epoch, self.first_batch = 0, 0
        self.padding = padding
        self.hflip = hflip
        self.cutout = cutout
        self.mixup = mixup if training else None
        self.process_index = process_index
        self.num_processes = num_processes
        if self.mixup is not None:
            check_pairs(len(split), batch_size, num_processes)
        self._length = len(self._batches())
        self.num_images = sum(len(batch) for batch in self._batches())

    def _batches(self) -> list[Tensor]:
        share = {"process_index": self.process_index, "num_processes": self.num_processes}
        if self.training:
            return training_batches(len(self.labels), self.batch_size, seed=self.seed, epoch=self.epoch, **share)
        return validation_batches(len(self.labels), self.batch_size, **share)

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the order and the augmentation of the next pass, and the batch it begins with."""
        self.epoch, self.first_batch = epoch, first_batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number, indices in list(enumerate(self._batches()))[self.first_batch :]:
            indices = indices.to(self.images.device)
            images, labels = self.images.index_select(0, indices), self.labels.index_select(0, indices)
            if self.training:
                generator = make_generator("augmentation", self.seed, self.epoch, number, self.process_index)
                images = random_crop(images, self.padding, generator)
                images = random_flip(images, self.hflip, generator)
                images = cutout(images, self.cutout, generator)
            images = to_float(images)
            if self.mixup is not None:
                with drawing_from("mixup", self.seed, self.epoch, number, self.process_index):
                    images, labels = self.mixup(images, labels)
            yield images, labels
