"""Transforms of one PIL image, for what cannot be done a batch at a time.

Each takes an RGB image and returns (3, size, size) uint8, or with ``aug_splits`` that many versions of it, (S, 3, size,
size), of which the first goes without the policy. Nothing is normalised: timm's mean, which these
transforms do get, only colours the corners that a rotation leaves empty.
"""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms

from mocse_timm.checks import BadInput
from mocse_timm.data.augmentation import Augmentation
from mocse_timm.data.policies import Policy, build_policy, repair_posterize
from mocse_timm.data.resizing import Resizing

__all__ = ["file_transform", "small_image_transform"]

ImageTransform = Callable[[Image.Image], Tensor]


def _erasing(augmentation: Augmentation) -> list[RandomErasing]:
    # Constant zeros: timm's other mode fills with normal noise, which leaves [0, 1].
    return [RandomErasing(augmentation.reprob, mode="const", device="cpu")] if augmentation.reprob else []


class _Versions:
    """Several versions of an image: all cut and mirrored alike, all but the first then changed by the policy.

    Source:
        Hendrycks et al. 2020, arXiv:1912.02781, section 3.
    """

    def __init__(self, first: ImageTransform, policy: ImageTransform, last: ImageTransform, count: int) -> None:
        self.first, self.policy, self.last, self.count = first, policy, last, count

    def __call__(self, image: Image.Image) -> Tensor:
        cut: Any = self.first(image)
        policy: Callable[[Any], Any] = self.policy  # gives pictures, where the type of all transforms says tensors
        return torch.stack([self.last(cut), *(self.last(policy(cut)) for _ in range(self.count - 1))])


def _compose(first: list, policy: list, last: list, augmentation: Augmentation) -> ImageTransform:
    if not augmentation.aug_splits:
        return transforms.Compose([*first, *policy, *last])
    return _Versions(*map(transforms.Compose, (first, policy, last)), count=augmentation.aug_splits)


def small_image_transform(size: int, augmentation: Augmentation) -> ImageTransform:
    """Training transform of images that already have the right size: crop, flip, policy, erasing."""
    if augmentation.no_aug:
        return transforms.PILToTensor()
    first: list = []
    if augmentation.padding:
        first.append(transforms.RandomCrop(size, padding=augmentation.padding))
    if augmentation.hflip:
        first.append(transforms.RandomHorizontalFlip(augmentation.hflip))
    policy = [build_policy(augmentation.aa, image_size=size)] if augmentation.aa else []
    return _compose(first, policy, [transforms.PILToTensor(), *_erasing(augmentation)], augmentation)


def file_transform(
    size: int,
    augmentation: Augmentation,
    *,
    training: bool,
    resizing: Resizing | None = None,
) -> ImageTransform:
    """timm's transform of images of any size.

    Training cuts a random part out and resizes it. Validation shows the whole image, or its middle, as ``resizing``
    says.

    Args:
        size: side in pixels of the result.
        augmentation: settings; used in training only.
        training: which of the two; of ``resizing`` it uses the interpolation alone.
        resizing: how an image becomes a square; None for the shorter side to ``size``, bilinearly, and the middle.

    Raises:
        BadInput: if ``size`` is out of range, or ``resizing`` leaves less than a pixel of it.
    """
    resizing = resizing or Resizing()
    if size < 1:
        raise BadInput(f"--img-size is {size} pixels: give a size of at least 1")
    parts: Any = create_transform(
        size,
        is_training=training,
        no_aug=augmentation.no_aug,
        scale=augmentation.scale,
        hflip=augmentation.hflip,
        color_jitter=augmentation.color_jitter,
        auto_augment=augmentation.aa or None,
        crop_pct=resizing.kept(size),
        crop_mode=resizing.crop_mode,
        interpolation=resizing.interpolation,
        normalize=False,
        separate=training and not augmentation.no_aug,
    )
    if not training or augmentation.no_aug:
        return parts
    first, policy, last = (part.transforms for part in parts)
    for step in policy:
        if isinstance(step, Policy):
            repair_posterize(step)
    return _compose(first, policy, [*last, *_erasing(augmentation)], augmentation)
