"""Normalisation inside the model, so that every caller works on images in [0, 1]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Normalize"]


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    With pixels left in [0, 1] outside, an attack's epsilon means pixels everywhere, and no data pipeline has
    to know the model's statistics. The two buffers are not saved: they follow from the constructor's arguments.

    Args:
        mean: one number a channel in [0, 1]. With another number of channels than ``in_chans``
            (grayscale images, say) all channels get the average.
        std: one number a channel, above 0.
        in_chans: number of image channels.

    Raises:
        ValueError: if a standard deviation is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], in_chans: int = 3, device=None, dtype=None):
        super().__init__()
        if min(std) <= 0:
            raise ValueError(f"std must be above 0, got {tuple(std)}")
        self._mean, self._std = self._fit(mean, in_chans), self._fit(std, in_chans)
        shape = (1, in_chans, 1, 1)
        self.register_buffer("mean", torch.empty(shape, device=device, dtype=dtype), persistent=False)
        self.register_buffer("std", torch.empty(shape, device=device, dtype=dtype), persistent=False)
        self.init_non_persistent_buffers()

    @staticmethod
    def _fit(values: Sequence[float], in_chans: int) -> list[float]:
        return list(values) if len(values) == in_chans else [sum(values) / len(values)] * in_chans

    def init_non_persistent_buffers(self) -> None:
        """Fill the buffers; timm calls this after a model built on the meta device got real memory."""
        if self.mean.device.type != "meta":
            self.mean.copy_(torch.tensor(self._mean).view(1, -1, 1, 1))
            self.std.copy_(torch.tensor(self._std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) in [0, 1] to values of about zero mean and unit variance."""
        return (images - self.mean) / self.std
