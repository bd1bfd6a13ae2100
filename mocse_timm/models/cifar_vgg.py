"""VGG-16 with batch norm for 32x32 images: five stages, each closed by max pooling, and one linear layer.

Paper: `Very Deep Convolutional Networks for Large-Scale Image Recognition` - https://arxiv.org/abs/1409.1556
"""

from collections.abc import Sequence
from typing import Any

from timm.layers import ConvNormAct
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from mocse_timm.models.cifar_net import CifarNet, cifar_cfg, scale_channels, stage_widths, stem_multiplier

__all__ = ["CifarVGG"]


class CifarVGG(CifarNet):
    """Stages of plain 3x3 convolutions; the first convolution is the stem.

    Args:
        depths: convolutions in each stage, the stem counted in the first.
        channels: channels of each stage at width 1.
        width: multiplier of all channels, or one a stage (the stem takes the first).
        stem_width: the stem's own multiplier.
        kwargs: see :class:`CifarNet`.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 3, 3, 3),
        channels: Sequence[int] = (64, 128, 256, 512, 512),
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
        # the published network keeps the convolutions' biases beside batch norm
        stem = ConvNormAct(in_chans, in_chs, 3, bias=True, **placement)
        stages, feature_info = [], []
        for index, (depth, stage_channels, stage_width) in enumerate(zip(depths, channels, widths, strict=True)):
            out_chs = scale_channels(stage_channels, stage_width)
            layers: list[nn.Module] = []
            for _ in range(depth - 1 if index == 0 else depth):
                layers.append(ConvNormAct(in_chs, out_chs, 3, bias=True, **placement))
                in_chs = out_chs
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True)))
            feature_info.append({"num_chs": out_chs, "reduction": 2 ** (index + 1)})
        super().__init__(stem, stages, nn.Identity(), feature_info, in_chans=in_chans, **placement, **kwargs)


default_cfgs = generate_default_cfgs({"cifar_vgg16_bn.untrained": cifar_cfg("stem.conv", pool_size=(1, 1))})


def _create_cifar_vgg(variant: str, pretrained: bool, **kwargs: Any) -> CifarVGG:
    feature_cfg = {"feature_cls": "getter", "out_indices": (0, 1, 2, 3, 4)}
    return build_model_with_cfg(CifarVGG, variant, pretrained, feature_cfg=feature_cfg, **kwargs)


@register_model
def cifar_vgg16_bn(pretrained: bool = False, **kwargs: Any) -> CifarVGG:
    """VGG-16 with batch norm and one linear layer: 14.7 M parameters."""
    return _create_cifar_vgg("cifar_vgg16_bn", pretrained, **kwargs)
