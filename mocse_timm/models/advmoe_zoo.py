"""The registered AdvMoE models: :class:`mocse_timm.models.advmoe.AdvMoE` around named backbones."""

from typing import Any

import timm
from timm.models import PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model

from mocse_timm.models.advmoe import AdvMoE
from mocse_timm.models.advmoe_checkpoint import checkpoint_filter_fn
from mocse_timm.models.backbones import default_taps, facts_to_take, require_backbone
from mocse_timm.models.cifar_net import cifar_cfg

__all__ = []

default_cfgs = generate_default_cfgs(
    {
        "advmoe.untrained": cifar_cfg("body.stem.conv"),
        "advmoe_resnet18.untrained": cifar_cfg("body.stem.conv"),
        "advmoe_wrn28_10.untrained": cifar_cfg("body.stem", pool_size=(8, 8)),
        "advmoe_vgg16_bn.untrained": cifar_cfg("body.stem.conv", pool_size=(1, 1)),
        "advmoe_densenet.untrained": cifar_cfg("body.stem"),
    }
)


def _in_body(names: Any) -> Any:
    if not names:
        return names
    return f"body.{names}" if isinstance(names, str) else tuple(f"body.{name}" for name in names)


def _create_advmoe(variant: str, pretrained: bool, *, backbone: str, **kwargs: Any) -> AdvMoE:
    require_backbone(backbone)
    cfg = timm.get_pretrained_cfg(backbone) or PretrainedCfg()
    saved_cfg = kwargs.pop("pretrained_cfg", None)
    overlay = facts_to_take(variant, saved_cfg, backbone)
    first_conv = _in_body(cfg.first_conv)
    first_convs = (first_conv,) if isinstance(first_conv, str) else first_conv or ()
    overlay |= {"first_conv": (*first_convs, "router.conv1"), "classifier": _in_body(cfg.classifier)}
    feature_cfg: dict[str, Any] = {"feature_cls": "getter"}
    if kwargs.get("features_only"):
        feature_cfg["out_indices"] = default_taps(backbone, kwargs.get("backbone_args"))
    model: Any = build_model_with_cfg(
        AdvMoE,
        variant,
        pretrained,
        pretrained_cfg=saved_cfg,
        pretrained_cfg_overlay=overlay | (kwargs.pop("pretrained_cfg_overlay", None) or {}),
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg=feature_cfg,
        backbone=backbone,
        **kwargs,
    )
    if kwargs.get("backbone_pretrained") and not kwargs.get("features_only"):
        model.pretrained_cfg["license"] = model.body.pretrained_cfg.get("license")
    return model


@register_model
def advmoe(pretrained: bool = False, *, backbone: str = "cifar_resnet18", **kwargs: Any) -> AdvMoE:
    """AdvMoE around any timm model, named by ``backbone``; its own options go into ``backbone_args``."""
    return _create_advmoe("advmoe", pretrained, backbone=backbone, **kwargs)


@register_model
def advmoe_resnet18(pretrained: bool = False, **kwargs: Any) -> AdvMoE:
    """ResNet-18 with two experts of half the width in every convolution of its blocks."""
    arguments = {"backbone": "cifar_resnet18", "ratio": 0.5}
    return _create_advmoe("advmoe_resnet18", pretrained, **(arguments | kwargs))


@register_model
def advmoe_wrn28_10(pretrained: bool = False, **kwargs: Any) -> AdvMoE:
    """Wide ResNet 28-10 with two experts of half the width in every convolution of its blocks."""
    arguments = {"backbone": "cifar_wrn28_10", "ratio": 0.5}
    return _create_advmoe("advmoe_wrn28_10", pretrained, **(arguments | kwargs))


@register_model
def advmoe_vgg16_bn(pretrained: bool = False, **kwargs: Any) -> AdvMoE:
    """VGG-16 with two experts of half the width in every convolution but the first."""
    arguments = {"backbone": "cifar_vgg16_bn", "ratio": 0.5}
    return _create_advmoe("advmoe_vgg16_bn", pretrained, **(arguments | kwargs))


@register_model
def advmoe_densenet(pretrained: bool = False, **kwargs: Any) -> AdvMoE:
    """DenseNet 6-12-24-16 with two experts of half the growth in every convolution of its blocks."""
    arguments = {"backbone": "cifar_densenet", "ratio": 0.5}
    return _create_advmoe("advmoe_densenet", pretrained, **(arguments | kwargs))
