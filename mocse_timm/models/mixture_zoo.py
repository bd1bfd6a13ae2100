"""The registered mixtures of whole networks: MoCSE around named backbones, and the ensemble it is compared with."""

from typing import Any

import timm
from timm.models import (
    PretrainedCfg,
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    resolve_pretrained_cfg,
)
from torch import Tensor

from mocse_timm.models.backbone_weights import fit_image_size
from mocse_timm.models.backbones import default_taps, facts_to_take, require_backbone
from mocse_timm.models.cifar_net import cifar_cfg
from mocse_timm.models.counts import check_count
from mocse_timm.models.ensemble import Ensemble
from mocse_timm.models.mixture import Mixture
from mocse_timm.models.mixture_experts import expert_layer_names
from mocse_timm.models.mocse import MoCSE

__all__ = []

default_cfgs = generate_default_cfgs(
    {
        "ensemble.untrained": cifar_cfg("stem"),
        "mocse.untrained": cifar_cfg("stem"),
        "mocse_preact18.untrained": cifar_cfg("stem"),
        "mocse_preact18_shared.untrained": cifar_cfg("stem"),
        "mocse_resnet18.untrained": cifar_cfg("stem.conv"),
        "mocse_wrn28_10.untrained": cifar_cfg("stem", pool_size=(8, 8)),
    }
)


def _fit_image_size(state_dict: dict[str, Tensor], model: Mixture) -> dict[str, Tensor]:
    for index in range(len(model.experts)):
        state_dict = fit_image_size(state_dict, model, f"experts.{index}")
    return state_dict


def _fit_checkpoint(state_dict: dict[str, Tensor], model: Mixture) -> dict[str, Tensor]:
    """Fit saved weights to a model with another number of experts: drop experts, or repeat them in turn."""
    return _fit_image_size(_fit_number(state_dict, model), model)


def _fit_number(state_dict: dict[str, Tensor], model: Mixture) -> dict[str, Tensor]:
    saved = 1 + max((int(key.split(".")[1]) for key in state_dict if key.startswith("experts.")), default=-1)
    if saved == 0 or saved == len(model.experts):
        return state_dict
    fitted = {key: value for key, value in state_dict.items() if not key.startswith("experts.")}
    for index in range(len(model.experts)):
        prefix = f"experts.{index % saved}."
        for key, value in state_dict.items():
            if key.startswith(prefix):
                fitted[f"experts.{index}.{key.removeprefix(prefix)}"] = value
    return fitted


def _count_experts(kwargs: dict[str, Any], cfg: PretrainedCfg) -> int:
    """Return the number of experts asked for; a model without classes has as many as its cfg, or its source, has."""
    if kwargs.get("num_experts") is not None:
        check_count("num_experts", kwargs["num_experts"], at_least=None)  # the least depends on the model
        return kwargs["num_experts"]
    return kwargs.get("num_classes") or cfg.num_classes


def _create(model_cls: type, variant: str, pretrained: bool, experts: int, *, backbone: str, **kwargs: Any) -> Any:
    """Let timm build a mixture of so many ``experts``; what its cfg says of the backbone's layers holds for each."""
    backbone_cfg = timm.get_pretrained_cfg(backbone) or PretrainedCfg()
    saved_cfg = kwargs.pop("pretrained_cfg", None)
    overlay = facts_to_take(variant, saved_cfg, backbone)
    first_conv = expert_layer_names(backbone_cfg.first_conv, experts)
    if kwargs.get("shared_stages"):
        first_conv = f"trunk.{backbone_cfg.first_conv}"
    overlay |= {"first_conv": first_conv, "classifier": expert_layer_names(backbone_cfg.classifier, experts)}
    if kwargs.get("feature_cls", "getter") != "getter":
        raise ValueError(f"feature_cls={kwargs['feature_cls']!r} would see one expert's features: leave it out")
    feature_cfg: dict[str, Any] = {"feature_cls": "getter"}
    if kwargs.get("features_only"):
        feature_cfg["out_indices"] = default_taps(backbone, kwargs.get("backbone_args"))
    model = build_model_with_cfg(
        model_cls,
        variant,
        pretrained,
        pretrained_cfg=saved_cfg,
        pretrained_cfg_overlay=overlay | (kwargs.pop("pretrained_cfg_overlay", None) or {}),
        feature_cfg=feature_cfg,
        backbone=backbone,
        **kwargs,
    )
    if kwargs.get("backbone_pretrained") and not kwargs.get("features_only"):
        model.pretrained_cfg["license"] = model.experts[0].pretrained_cfg.get("license")
    return model


def _create_mocse(variant: str, pretrained: bool, *, backbone: str, **kwargs: Any) -> MoCSE:
    require_backbone(backbone)
    saved, classes = kwargs.get("pretrained_model_args") or {}, kwargs.get("num_classes")
    if classes and saved.get("num_experts") and kwargs.get("num_experts") == saved["num_experts"]:
        kwargs["num_experts"] = min(saved["num_experts"], classes)  # as reset_classifier leaves of the saved model's
    stated = {name: kwargs.get(name) for name in ("pretrained_cfg", "pretrained_cfg_overlay")}
    experts = _count_experts(kwargs, resolve_pretrained_cfg(variant, **stated))
    if kwargs.get("num_classes") == 0:
        kwargs["num_experts"] = experts
    given = kwargs | {"backbone": backbone, "pretrained_filter_fn": _fit_checkpoint}
    return _create(MoCSE, variant, pretrained, experts, **given)


@register_model
def ensemble(
    pretrained: bool = False, *, backbone: str = "cifar_preact18", num_experts: int = 10, **kwargs: Any
) -> Ensemble:
    """Networks that each tell all classes, around any timm model, named by ``backbone``; the control to MoCSE."""
    require_backbone(backbone)
    given = kwargs | {"backbone": backbone, "num_experts": num_experts, "pretrained_filter_fn": _fit_image_size}
    return _create(Ensemble, "ensemble", pretrained, num_experts, **given)


@register_model
def mocse(pretrained: bool = False, *, backbone: str = "cifar_preact18", **kwargs: Any) -> MoCSE:
    """MoCSE around any timm model, named by ``backbone``; its own options go into ``backbone_args``."""
    return _create_mocse("mocse", pretrained, backbone=backbone, **kwargs)


@register_model
def mocse_preact18(pretrained: bool = False, **kwargs: Any) -> MoCSE:
    """Ten PreAct ResNet-18 of 16 channels: 0.63 of the MACs of one with 64."""
    arguments = {"backbone": "cifar_preact18", "expert_width": 0.25}
    return _create_mocse("mocse_preact18", pretrained, **(arguments | kwargs))


@register_model
def mocse_preact18_shared(pretrained: bool = False, **kwargs: Any) -> MoCSE:
    """PreAct ResNet-18 whose first three stages are shared; ten last stages of 128 channels."""
    arguments = {"backbone": "cifar_preact18", "expert_width": 0.25, "shared_stages": 3}
    return _create_mocse("mocse_preact18_shared", pretrained, **(arguments | kwargs))


@register_model
def mocse_resnet18(pretrained: bool = False, **kwargs: Any) -> MoCSE:
    """Ten ResNet-18 of 16 channels."""
    arguments = {"backbone": "cifar_resnet18", "expert_width": 0.25}
    return _create_mocse("mocse_resnet18", pretrained, **(arguments | kwargs))


@register_model
def mocse_wrn28_10(pretrained: bool = False, **kwargs: Any) -> MoCSE:
    """Ten Wide ResNets 28 with a quarter of the channels of 28-10."""
    arguments = {"backbone": "cifar_wrn28_10", "expert_width": 0.25}
    return _create_mocse("mocse_wrn28_10", pretrained, **(arguments | kwargs))
