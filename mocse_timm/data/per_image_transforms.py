"""Transforms of one PIL image, for what cannot be done a batch at a time.

Each takes an RGB image and returns (3, size, size) uint8. Nothing is normalised: timm's mean, which these
transforms do get, only colours the corners that a rotation leaves empty.
"""

from collections.abc import Callable
from typing import Any

from PIL import Image
from timm.data.random_erasing import RandomErasing
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms

from mocse_timm.checks import BadInput
from mocse_timm.data.augmentation import Augmentation
from mocse_timm.data.policies import Policy, build_policy, repair_posterize

__all__ = ["file_transform", "small_image_transform"]

LARGEST_CROP = 16.0  # as what may stand in a config.json
ImageTransform = Callable[[Image.Image], Tensor]


def _erasing(augmentation: Augmentation) -> list[RandomErasing]:
    # Constant zeros: timm's other mode fills with normal noise, which leaves [0, 1].
    return [RandomErasing(augmentation.reprob, mode="const", device="cpu")] if augmentation.reprob else []


def small_image_transform(size: int, augmentation: Augmentation) -> ImageTransform:
    """Training transform of images that already have the right size: crop, flip, policy, erasing."""
    steps: list = []
    if not augmentation.no_aug:
        if augmentation.padding:
            steps.append(transforms.RandomCrop(size, padding=augmentation.padding))
        if augmentation.hflip:
            steps.append(transforms.RandomHorizontalFlip(augmentation.hflip))
        if augmentation.aa:
            steps.append(build_policy(augmentation.aa, image_size=size))
    steps.append(transforms.PILToTensor())
    if not augmentation.no_aug:
        steps += _erasing(augmentation)
    return transforms.Compose(steps)


def file_transform(
    size: int, augmentation: Augmentation, *, training: bool, crop_pct: float | None = None
) -> ImageTransform:
    """timm's transform of images of any size.

    Training cuts a random part out and resizes it. Validation resizes the shorter side to ``size / crop_pct`` and
    cuts the middle out.

    Args:
        size: side in pixels of the result.
        augmentation: settings; used in training only.
        training: which of the two.
        crop_pct: above 0, at most 1 but for a few models, whose images get a black border; None for 0.875 above 64
            pixels (timm's usual) and for 1 up to 64.

    Raises:
        BadInput: if ``size`` or ``crop_pct`` is out of range.
    """
    if size < 1:
        raise BadInput(f"--img-size is {size} pixels: give a size of at least 1")
    if crop_pct is not None and not (0 < crop_pct <= LARGEST_CROP and size / crop_pct >= 1):
        raise BadInput(
            f"crop_pct is {crop_pct} for images of {size} pixels: give the part of the side that is kept, such as 0.875"
        )
    transform: Any = create_transform(
        size,
        is_training=training,
        no_aug=augmentation.no_aug,
        scale=augmentation.scale,
        hflip=augmentation.hflip,
        color_jitter=augmentation.color_jitter,
        auto_augment=augmentation.aa or None,
        crop_pct=crop_pct or (0.875 if size > 64 else 1.0),
        normalize=False,
    )
    for step in transform.transforms:
        if isinstance(step, Policy):
            repair_posterize(step)
    erases = training and not augmentation.no_aug
    return transforms.Compose([transform, *(_erasing(augmentation) if erases else [])])
