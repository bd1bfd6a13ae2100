"""A router for tests that spreads images over the experts, as an untrained one does not."""

from typing import Any

import torch
from torch import Tensor, nn


class Spread(nn.Module):
    """Scores by the brightness of one channel, an expert a third (say) of its range."""

    def __init__(self, num_experts: int):
        super().__init__()
        centers = torch.linspace(-2, 2, num_experts)
        self.slope = nn.Parameter(2 * centers)
        self.offset = nn.Parameter(-(centers**2))

    def forward(self, images: Tensor) -> Tensor:
        """Score normalised images (B, channels, H, W)."""
        brightness = images[:, 0].mean(dim=(1, 2)) * 2.5
        return brightness[:, None] * self.slope + self.offset  # the nearest center wins


def spread(model: Any) -> Any:
    """Give ``model`` such a router and return it."""
    model.router = Spread(model.num_experts).train(model.training)
    return model


def bright_and_dark(count: int, size: int = 32) -> Tensor:
    """Images that :class:`Spread` sends to all experts."""
    generator = torch.Generator().manual_seed(0)
    brightness = torch.linspace(0.2, 0.8, count)[torch.randperm(count, generator=generator)]
    return (torch.rand(count, 3, size, size, generator=generator) * 0.3 - 0.15 + brightness[:, None, None, None]).clamp(
        0, 1
    )
