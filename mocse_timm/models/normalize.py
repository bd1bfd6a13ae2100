"""Normalisation inside the model, so that every caller works on images in [0, 1]."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

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
        ValueError: if a standard deviation is not above 0, or there are not as many as means.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], in_chans: int = 3, device=None, dtype=None):
        super().__init__()
        if min(std) <= 0:
            raise ValueError(f"std must be above 0, got {tuple(std)}")
        if len(mean) != len(std):
            raise ValueError(f"mean and std must have as many numbers, got {tuple(mean)} and {tuple(std)}")
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
        """Map images (B, C, H, W) in [0, 1] to values of about zero mean and unit variance.

        Raises:
            ValueError: if they have another number of channels, or of dimensions: broadcasting would hide it.
        """
        if not torch.jit.is_scripting():
            self._check(images)
        return (images - self.mean) / self.std

    def _check(self, images: Any) -> None:
        if isinstance(images, fx.Proxy) or torch.jit.is_tracing():
            return
        channels = self.mean.shape[1]
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(
                f"images must be (B, {channels}, H, W), got {tuple(images.shape)}: for other channels build the model "
                "with in_chans, and give a single image a batch dimension"
            )
