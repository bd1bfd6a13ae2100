"""Batches from images that are transformed one at a time: from files, or with a policy that needs PIL images.

``timm.data.create_loader`` is not used: its samplers take the process's number from ``torch.distributed`` only, their
order cannot be resumed, and its validation sampler repeats images. The transforms are timm's.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.util import Finalize
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from mocse_timm.checks import BadInput
from mocse_timm.data.batch_augmentation import cutout, to_float
from mocse_timm.data.image_files import UNREADABLE
from mocse_timm.data.per_image_transforms import ImageTransform
from mocse_timm.data.seeds import drawing_from, make_generator
from mocse_timm.data.sharding import check_pairs, check_sharding, training_batches, validation_batches
from mocse_timm.data.splits import FileImages, ImageDataset, MemoryImages

__all__ = ["PerImageLoader", "PillowView"]


class PillowView:
    """Images in memory as a data set of ``(PIL image, int label)``."""

    def __init__(self, split: MemoryImages) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels = self.split.images[index].permute(1, 2, 0).numpy()
        return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels), int(self.split.labels[index])


class _Transformed(Dataset):
    """Looked up by (epoch, index), so that workers which live for many epochs know which one it is."""

    def __init__(self, dataset: ImageDataset, transform: ImageTransform, in_chans: int, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.in_chans = in_chans
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | BadInput:
        epoch, index = key
        try:
            image, label = self.dataset[index][:2]
        except BadInput as refusal:
            return refusal
        except UNREADABLE as error:  # of timm's and torchvision's sets, which name no file
            return BadInput(f"image {index} cannot be read ({' '.join(str(error).split())}): replace or remove it")
        if self.in_chans == 1:
            image = image.convert("L")
        # Policies are written for RGB; of a gray image all three channels stay equal, so the first is the result.
        with drawing_from(self.seed, epoch, index):
            pixels = self.transform(image.convert("RGB"))
        return pixels[..., : self.in_chans, :, :], int(label)


def _collate(items: list[Any]) -> Any:
    """Stack a batch, or pass on the refusal in it; raised in a worker it would arrive inside a traceback."""
    refusals = [item for item in items if isinstance(item, BadInput)]
    return refusals[0] if refusals else default_collate(items)


class _WorkerSignals:
    """Called in each worker: leaves Ctrl-C and SIGTERM to the main process, which needs it for the step it finishes.

    Python's way to end workers at exit is SIGTERM as well, and to wait for them: the main process says so before.
    """

    def __init__(self) -> None:
        self.exiting = multiprocessing.Value("b", 0, lock=False)
        Finalize(self, setattr, (self.exiting, "value", 1), exitpriority=0)  # atexit is not run in a Process's end

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._end_at_exit)

    def _end_at_exit(self, *signal_and_frame: object) -> None:
        if self.exiting.value:
            os._exit(0)


class _EpochBatches:
    """The batch sampler: lists of (epoch, index)."""

    def __init__(self, batches: Callable[[int], list[Tensor]]) -> None:
        self.batches = batches
        self.epoch, self.first_batch = 0, 0
        self.length = len(batches(0))

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.batches(self.epoch)[self.first_batch :]:
            yield [(self.epoch, index) for index in batch.tolist()]


class PerImageLoader:
    """Iterate over ``(images, labels)`` as :class:`mocse_timm.data.memory_loader.MemoryLoader` does.

    What happens to an image depends only on the seed, the epoch and its index: the number of workers and of
    processes changes nothing. Cutout and mixup depend on the batch's number and the process as well.

    Args:
        split: the images.
        transform: of one RGB PIL image to (3, H, W) uint8, or (S, 3, H, W) for S versions of it. Batches have then
            S * B images, the first versions first, and B labels.
        batch_size: images per batch in this process.
        training: shuffle and drop what does not fill a batch, or keep every image in order.
        in_chans: 3, or 1 to make images gray.
        device: where batches are put.
        seed: of order and augmentation.
        num_workers: processes that decode and transform; 0 for none beside this one.
        cutout: side in pixels of one black square in training; 0 for none.
        mixup: timm's Mixup, or None; used in training.
        process_index: this process's number among ``num_processes``.
        num_processes: how many share the set.

    Raises:
        BadInput: if the set cannot be shared out so, mixup meets an odd batch, or (while iterating) a file cannot be
            read.
    """

    def __init__(
        self,
        split: MemoryImages | FileImages,
        transform: ImageTransform,
        *,
        batch_size: int,
        training: bool,
        in_chans: int = 3,
        device: torch.device | str = "cpu",
        seed: int = 0,
        num_workers: int = 0,
        cutout: int = 0,
        mixup: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        check_sharding(len(split), batch_size, process_index, num_processes)
        share = {"process_index": process_index, "num_processes": num_processes}

        def batches(epoch: int) -> list[Tensor]:
            if training:
                return training_batches(len(split), batch_size, seed=seed, epoch=epoch, **share)
            return validation_batches(len(split), batch_size, **share)

        self.mixup = mixup if training else None
        if self.mixup is not None:
            check_pairs(len(split), batch_size, num_processes)
        self.num_images = sum(len(batch) for batch in batches(0))
        self.cutout = cutout if training else 0
        self.device = torch.device(device)
        self.seed = seed
        self.process_index = process_index
        self.sampler = _EpochBatches(batches)
        dataset = PillowView(split) if isinstance(split, MemoryImages) else split.dataset
        self.loader: DataLoader[Any] = DataLoader(
            _Transformed(dataset, transform, in_chans, seed),
            batch_sampler=self.sampler,  # type: ignore[arg-type]  (of pairs, where the stubs know single indices)
            collate_fn=_collate,
            num_workers=num_workers,
            worker_init_fn=_WorkerSignals() if num_workers else None,
            generator=torch.Generator(),  # its own: the seeds it draws for workers must not move the global one
            persistent_workers=num_workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the order and the augmentation of the next pass, and the batch it begins with."""
        self.sampler.epoch, self.sampler.first_batch = epoch, first_batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = self.sampler.epoch
        for number, batch in enumerate(self.loader, start=self.sampler.first_batch):
            if isinstance(batch, BadInput):
                # A new one: this frame would hold the exception that holds this frame, and freeing such a ring
                # makes torch wait 5 seconds for its workers.
                raise BadInput(str(batch))
            images, labels = batch
            images = to_float(images.to(self.device, non_blocking=True))
            if images.ndim == 5:  # (B, S, C, H, W): the first version of all images, then the second of all
                images = images.transpose(0, 1).flatten(0, 1)
            labels = labels.to(self.device, non_blocking=True)
            if self.cutout:
                generator = make_generator("augmentation", self.seed, epoch, number, self.process_index)
                images = cutout(images, self.cutout, generator)
            if self.mixup is not None:
                with drawing_from("mixup", self.seed, epoch, number, self.process_index):
                    images, labels = self.mixup(images, labels)
            yield images, labels
