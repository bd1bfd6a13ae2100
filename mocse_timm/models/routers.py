"""The network that chooses each image's path: a residual network of 16, 32 and 64 channels."""

from typing import Any

import torch.nn.functional as F
from timm.layers import create_conv2d
from torch import Tensor, fx, nn

__all__ = ["Router"]

CHANNELS = (16, 32, 64)
BLOCKS = 3  # in each stage
LARGEST_SIDE = 64  # pixels; a path is chosen on what can be seen at this size


@fx.wrap  # a tracer knows no sizes, so it keeps the call
def pool_large_images(x: Tensor) -> Tensor:
    """Pool images (B, channels, H, W) so that no side is above 64 pixels."""
    height, width = x.shape[-2:]
    if height <= LARGEST_SIDE and width <= LARGEST_SIDE:
        return x
    return F.adaptive_avg_pool2d(x, (min(height, LARGEST_SIDE), min(width, LARGEST_SIDE)))


class _Block(nn.Module):
    """Two 3x3 convolutions; the shortcut has no parameters: it drops pixels and pads channels with zeros."""

    def __init__(self, in_channels: int, channels: int, stride: int, device=None, dtype=None):
        super().__init__()
        placement: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stride = stride
        self.missing = channels - in_channels
        self.conv1 = create_conv2d(in_channels, channels, 3, stride=stride, **placement)
        self.bn1 = nn.BatchNorm2d(channels, **placement)
        self.conv2 = create_conv2d(channels, channels, 3, **placement)
        self.bn2 = nn.BatchNorm2d(channels, **placement)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.missing:
            before = self.missing // 2
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.missing - before))
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class Router(nn.Module):
    """A ResNet-20 for 32x32 images (He et al. 2015, section 4.2) with one output an expert: 0.27 M parameters.

    Args:
        num_experts: E, at least 1.
        in_chans: image channels.

    Source:
        Zhang et al. 2023, arXiv:2308.10110, section 4; the shortcuts are He et al.'s option A, arXiv:1512.03385.
    """

    def __init__(self, num_experts: int, in_chans: int = 3, device=None, dtype=None):
        super().__init__()
        placement: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv1 = create_conv2d(in_chans, CHANNELS[0], 3, **placement)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0], **placement)
        stages, before = [], CHANNELS[0]
        for index, channels in enumerate(CHANNELS):
            blocks = []
            for block in range(BLOCKS):
                blocks.append(_Block(before, channels, 2 if index and not block else 1, **placement))
                before = channels
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.fc = nn.Linear(before, num_experts, **placement)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.normal_(self.fc.weight, std=0.01)  # near zero, where the router is sure of nothing yet
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (B, in_chans, H, W) to scores (B, E). Sides above 64 pixels are pooled to 64."""
        x = F.relu(self.bn1(self.conv1(pool_large_images(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean(dim=(2, 3)))
