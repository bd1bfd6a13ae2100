"""ResNet-18 for 32x32 images: a stem without stride or pooling, timm's basic blocks.

Paper: `Deep Residual Learning for Image Recognition` - https://arxiv.org/abs/1512.03385
"""

from collections.abc import Sequence
from typing import Any

from timm.layers import ConvNormAct
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, downsample_conv
from torch import nn

from mocse_timm.models.cifar_net import CifarNet, cifar_cfg, scale_channels, stage_widths, stem_multiplier

__all__ = ["CifarResNet"]


class CifarResNet(CifarNet):
    """Stem of one 3x3 convolution, stages of basic residual blocks.

    Args:
        depths: blocks in each stage.
        channels: channels of each stage at width 1; the stem has the first stage's.
        width: multiplier of all channels, or one a stage (the stem takes the first).
        stem_width: the stem's own multiplier.
        kwargs: see :class:`CifarNet`.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (64, 128, 256, 512),
        width: float | Sequence[float] = 1.0,
        stem_width: float | None = None,
        in_chans: int = 3,
        device=None,
        dtype=None,
        **kwargs: Any,
    ):
        placement: dict[str, Any] = {"device": device, "dtype": dtype}
        widths = stage_widths(width, len(depths))
        in_chs = scale_channels(channels[0], stem_multiplier(stem_width, widths))
        stem = ConvNormAct(in_chans, in_chs, 3, **placement)
        stages, feature_info = [], []
        for index, (depth, stage_channels, stage_width) in enumerate(zip(depths, channels, widths, strict=True)):
            out_chs = scale_channels(stage_channels, stage_width)
            blocks = []
            for block in range(depth):
                stride = 2 if index > 0 and block == 0 else 1
                shortcut = None
                if stride != 1 or in_chs != out_chs:
                    shortcut = downsample_conv(in_chs, out_chs, 1, stride=stride, **placement)
                blocks.append(BasicBlock(in_chs, out_chs, stride=stride, downsample=shortcut, **placement))
                in_chs = out_chs
            stages.append(nn.Sequential(*blocks))
            feature_info.append({"num_chs": out_chs, "reduction": 2**index})
        super().__init__(stem, stages, nn.Identity(), feature_info, in_chans=in_chans, **placement, **kwargs)


default_cfgs = generate_default_cfgs({"cifar_resnet18.untrained": cifar_cfg("stem.conv")})


def _create_cifar_resnet(variant: str, pretrained: bool, **kwargs: Any) -> CifarResNet:
    feature_cfg = {"feature_cls": "getter", "out_indices": (0, 1, 2, 3)}
    return build_model_with_cfg(CifarResNet, variant, pretrained, feature_cfg=feature_cfg, **kwargs)


@register_model
def cifar_resnet18(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-18 with a 3x3 stem of stride 1: 11.2 M parameters."""
    return _create_cifar_resnet("cifar_resnet18", pretrained, **kwargs)
