"""From a part of a data set to batches: which of the two loaders, and with what."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from mocse_timm.checks import BadInput
from mocse_timm.data.augmentation import Augmentation, build_mixup
from mocse_timm.data.grayscale import pillow_mode
from mocse_timm.data.memory_loader import MemoryLoader
from mocse_timm.data.per_image_loader import PerImageLoader
from mocse_timm.data.per_image_transforms import file_transform, small_image_transform
from mocse_timm.data.resizing import Resizing
from mocse_timm.data.splits import FileImages, MemoryImages

__all__ = ["Loader", "build_loader"]


class Loader(Protocol):
    """What every loader of this room can do. Pixels are float32 in [0, 1]; the model normalises."""

    num_images: int
    """How many images one pass gives in this process; over all validation processes they add up to the set."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the order and the augmentation of the next pass, and the batch it begins with."""
        ...


def build_loader(
    split: MemoryImages | FileImages,
    *,
    training: bool,
    batch_size: int,
    image_size: int,
    in_chans: int = 3,
    augmentation: Augmentation | None = None,
    num_classes: int | None = None,
    seed: int = 0,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
    process_index: int = 0,
    num_processes: int = 1,
    resizing: Resizing | None = None,
) -> Loader:
    """Return batches of ``split``: (B, in_chans, image_size, image_size) float32 in [0, 1] and (B,) int64 labels.

    Images in memory are augmented by the batch on the device, unless ``aa`` or ``reprob`` asks for transforms that
    work on one image at a time; those, and images from files, go through worker processes.

    Args:
        split: one part of a :class:`mocse_timm.data.splits.DataSplits`.
        training: shuffle, augment and drop the last incomplete batch; or keep every image once, in order.
        batch_size: images per batch in this process.
        image_size: side in pixels; images in memory must have it already.
        in_chans: 3 for colour, 1 for gray.
        augmentation: for training; None for the defaults.
        num_classes: needed for mixup and cutmix, whose labels are (B, num_classes) float32.
        seed: of order and augmentation.
        num_workers: processes that decode and transform; not used for images augmented by the batch.
        device: where batches are put.
        process_index: this process's number among ``num_processes``.
        num_processes: how many processes share the set.
        resizing: of images from files; see ``file_transform``.

    Raises:
        BadInput: if images in memory have another size or number of channels, or a setting cannot be met.
    """
    pillow_mode(in_chans)
    augmentation = augmentation or Augmentation()
    mixup = build_mixup(augmentation, num_classes=num_classes) if training else None
    cutout = 0 if augmentation.no_aug else augmentation.cutout
    if isinstance(split, MemoryImages):
        wanted, got = (in_chans, image_size, image_size), tuple(split.images.shape[1:])
        if got != wanted:
            raise BadInput(f"images in memory are {got} but batches of {wanted} were asked for: load them at that size")
        one_by_one = training and not augmentation.no_aug and bool(augmentation.aa or augmentation.reprob)
        if not one_by_one:
            return MemoryLoader(
                split,
                batch_size=batch_size,
                training=training,
                device=device,
                seed=seed,
                padding=0 if augmentation.no_aug else augmentation.padding,
                hflip=0.0 if augmentation.no_aug else augmentation.hflip,
                cutout=cutout,
                mixup=mixup,
                process_index=process_index,
                num_processes=num_processes,
            )
        transform = small_image_transform(image_size, augmentation)
    else:
        transform = file_transform(image_size, augmentation, training=training, resizing=resizing)
    return PerImageLoader(
        split,
        transform,
        batch_size=batch_size,
        training=training,
        in_chans=in_chans,
        device=device,
        seed=seed,
        num_workers=num_workers,
        cutout=cutout,
        mixup=mixup,
        process_index=process_index,
        num_processes=num_processes,
    )
