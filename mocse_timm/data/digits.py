"""Handwritten digits that come with scikit-learn: a data set without a download."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from mocse_timm.data.grayscale import pillow_mode
from mocse_timm.data.splits import DataSplits, MemoryImages

__all__ = ["every_fifth_of_each_class", "load_digits"]


def every_fifth_of_each_class(labels: np.ndarray) -> np.ndarray:
    """Return (N,) bool: True for the 5th, 10th, 15th, ... image of each class, in the order they stand.

    A rule without a draw: no seed and no library version can move an image from one part to the other.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        chosen[np.flatnonzero(labels == label)[4::5]] = True
    return chosen


def load_digits(*, size: int, in_chans: int = 3) -> DataSplits:
    """Return the 1797 digits at ``size`` x ``size``: 1442 to train on and 355 to validate on, ten classes.

    The 8x8 originals with values 0 to 16 are enlarged bilinearly; with 3 channels all three are equal.

    Raises:
        BadInput: if ``in_chans`` is neither 3 nor 1.

    Source:
        Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI, the test part.
    """
    from sklearn.datasets import load_digits as load_originals  # slow to import and needed for this set only

    pillow_mode(in_chans)
    originals: Any = load_originals()
    values = torch.from_numpy(originals["images"]).float()[:, None] * (255 / 16)
    images = functional.resize(values, [size, size], antialias=True).round().to(torch.uint8)
    images = images.expand(-1, in_chans, -1, -1).contiguous()
    labels = torch.from_numpy(originals["target"]).long()
    held_out = torch.from_numpy(every_fifth_of_each_class(originals["target"]))

    def part(chosen: Tensor) -> MemoryImages:
        return MemoryImages(images[chosen], labels[chosen])

    return DataSplits("digits", part(~held_out), part(held_out), tuple("0123456789"))
