"""Pre-activation residual networks for 32x32 images.

Paper: `Identity Mappings in Deep Residual Networks` - https://arxiv.org/abs/1603.05027
"""

from collections.abc import Sequence
from typing import Any

from timm.layers import BatchNormAct2d, create_conv2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnetv2 import DownsampleConv, PreActBasic
from torch import nn

from mocse_timm.models.cifar_net import CifarNet, cifar_cfg, scale_channels, stage_widths, stem_multiplier

__all__ = ["CifarPreAct"]


class CifarPreAct(CifarNet):
    """Stem of one 3x3 convolution, stages of pre-activation blocks, closing batch norm and ReLU.

    Args:
        depths: blocks in each stage.
        channels: channels of each stage at width 1.
        stem_channels: channels of the stem at width 1.
        width: multiplier of all channels, or one a stage (the stem takes the first).
        stem_width: the stem's own multiplier; passed over where ``scale_stem`` is False.
        scale_stem: whether ``width`` applies to the stem. Wide ResNets keep theirs at 16.
        kwargs: see :class:`CifarNet`.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (64, 128, 256, 512),
        stem_channels: int = 64,
        width: float | Sequence[float] = 1.0,
        stem_width: float | None = None,
        scale_stem: bool = True,
        in_chans: int = 3,
        device=None,
        dtype=None,
        **kwargs: Any,
    ):
        placement: dict[str, Any] = {"device": device, "dtype": dtype}
        widths = stage_widths(width, len(depths))
        in_chs = scale_channels(stem_channels, stem_multiplier(stem_width, widths)) if scale_stem else stem_channels
        stem = create_conv2d(in_chans, in_chs, 3, **placement)
        stages, feature_info = [], []
        for index, (depth, stage_channels, stage_width) in enumerate(zip(depths, channels, widths, strict=True)):
            out_chs = scale_channels(stage_channels, stage_width)
            blocks = []
            for block in range(depth):
                blocks.append(
                    PreActBasic(
                        in_chs,
                        out_chs,
                        stride=2 if index > 0 and block == 0 else 1,
                        conv_layer=create_conv2d,
                        norm_layer=BatchNormAct2d,
                        proj_layer=DownsampleConv,
                        **placement,
                    )
                )
                in_chs = out_chs
            stages.append(nn.Sequential(*blocks))
            feature_info.append({"num_chs": out_chs, "reduction": 2**index})
        norm = BatchNormAct2d(in_chs, **placement)
        super().__init__(stem, stages, norm, feature_info, in_chans=in_chans, **placement, **kwargs)


default_cfgs = generate_default_cfgs(
    {
        "cifar_preact18.untrained": cifar_cfg("stem"),
        "cifar_wrn28_10.untrained": cifar_cfg("stem", pool_size=(8, 8)),
    }
)


def _create_cifar_preact(variant: str, pretrained: bool, **kwargs: Any) -> CifarPreAct:
    stages = len(kwargs["depths"])
    feature_cfg = {"feature_cls": "getter", "out_indices": tuple(range(stages))}
    return build_model_with_cfg(CifarPreAct, variant, pretrained, feature_cfg=feature_cfg, **kwargs)


@register_model
def cifar_preact18(pretrained: bool = False, **kwargs: Any) -> CifarPreAct:
    """Pre-activation ResNet-18: 11.2 M parameters."""
    arguments = {"depths": (2, 2, 2, 2), "channels": (64, 128, 256, 512), "stem_channels": 64}
    return _create_cifar_preact("cifar_preact18", pretrained, **(arguments | kwargs))


@register_model
def cifar_wrn28_10(pretrained: bool = False, **kwargs: Any) -> CifarPreAct:
    """Wide ResNet 28-10 (https://arxiv.org/abs/1605.07146): 36.5 M parameters; ``width`` 0.1 is WRN-28-1."""
    arguments = {"depths": (4, 4, 4), "channels": (160, 320, 640), "stem_channels": 16, "scale_stem": False}
    return _create_cifar_preact("cifar_wrn28_10", pretrained, **(arguments | kwargs))
