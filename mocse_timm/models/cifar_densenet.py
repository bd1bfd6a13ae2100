"""DenseNet for 32x32 images: four dense blocks of 6, 12, 24 and 16 layers, growth 12.

Paper: `Densely Connected Convolutional Networks` - https://arxiv.org/abs/1608.06993
"""

from collections.abc import Sequence
from typing import Any

from timm.layers import BatchNormAct2d, create_conv2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.densenet import DenseBlock, DenseTransition
from torch import nn

from mocse_timm.models.cifar_net import CifarNet, cifar_cfg, stage_widths, stem_multiplier

__all__ = ["CifarDenseNet"]


class CifarDenseNet(CifarNet):
    """Stem of one 3x3 convolution, dense blocks joined by transitions that halve channels and resolution.

    Args:
        depths: layers in each dense block.
        growth: channels each layer adds at width 1; the stem has twice as many.
        width: multiplier of ``growth``, or one a stage (the stem takes the first); rounded to whole channels.
        stem_width: the stem's own multiplier.
        kwargs: see :class:`CifarNet`.
    """

    channels_stay_apart = False  # layers set their channels beside those of the layers before

    def __init__(
        self,
        depths: Sequence[int] = (6, 12, 24, 16),
        growth: int = 12,
        width: float | Sequence[float] = 1.0,
        stem_width: float | None = None,
        in_chans: int = 3,
        device=None,
        dtype=None,
        **kwargs: Any,
    ):
        placement: dict[str, Any] = {"device": device, "dtype": dtype}
        widths = stage_widths(width, len(depths))
        growths = [max(1, round(growth * w)) for w in widths]
        channels = 2 * max(1, round(growth * stem_multiplier(stem_width, widths)))
        stem = create_conv2d(in_chans, channels, 3, **placement)
        stages, feature_info = [], []
        for index, (depth, stage_growth) in enumerate(zip(depths, growths, strict=True)):
            layers: list[nn.Module] = []
            if index > 0:  # the transition opens the stage, so that a stage's output is its dense block's
                layers.append(DenseTransition(channels, channels // 2, norm_layer=BatchNormAct2d, **placement))
                channels //= 2
            layers.append(
                DenseBlock(depth, channels, bn_size=4, growth_rate=stage_growth, norm_layer=BatchNormAct2d, **placement)
            )
            channels += depth * stage_growth
            stages.append(nn.Sequential(*layers))
            feature_info.append({"num_chs": channels, "reduction": 2**index})
        norm = BatchNormAct2d(channels, **placement)
        super().__init__(stem, stages, norm, feature_info, in_chans=in_chans, **placement, **kwargs)


default_cfgs = generate_default_cfgs({"cifar_densenet.untrained": cifar_cfg("stem")})


def _create_cifar_densenet(variant: str, pretrained: bool, **kwargs: Any) -> CifarDenseNet:
    feature_cfg = {"feature_cls": "getter", "out_indices": (0, 1, 2, 3)}
    return build_model_with_cfg(CifarDenseNet, variant, pretrained, feature_cfg=feature_cfg, **kwargs)


@register_model
def cifar_densenet(pretrained: bool = False, **kwargs: Any) -> CifarDenseNet:
    """DenseNet 6-12-24-16 with growth 12: 1.0 M parameters."""
    return _create_cifar_densenet("cifar_densenet", pretrained, **kwargs)
