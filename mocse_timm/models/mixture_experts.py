"""Building the experts of a mixture, and the names and shapes that follow from having several of them."""

import copy
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import FeatureInfo, is_model_in_modules
from torch import nn

from mocse_timm.models.backbone_weights import load_body_into_experts
from mocse_timm.models.backbones import count_taps, require_backbone
from mocse_timm.models.cifar_net import CifarNet, Trunk
from mocse_timm.models.counts import check_count
from mocse_timm.models.normalize import Normalize

__all__ = [
    "build_experts",
    "expert_layer_names",
    "mixed_feature_info",
]

CIFAR_MODULES = ["cifar_preact", "cifar_resnet", "cifar_vgg", "cifar_densenet"]


def _width_arguments(
    backbone: str, backbone_args: dict[str, Any], expert_width: float | None, width: float | None, shared_stages: int
) -> dict[str, Any]:
    """Return the backbone's ``width``: one number, or one a stage where the first stages are shared."""
    if expert_width is None and width is None and shared_stages == 0:
        return {}
    if not is_model_in_modules(backbone, CIFAR_MODULES):
        raise ValueError(
            f"expert_width, width and shared_stages need one of this package's backbones (cifar_*), "
            f"got backbone {backbone!r}: leave them out, or set the backbone's own options by backbone_args"
        )
    if shared_stages == 0:
        if width is not None:
            raise ValueError(f"width={width} sets the shared stages, but shared_stages is 0: use expert_width")
        return {"width": expert_width}
    stages = count_taps(backbone, backbone_args)
    if not 0 < shared_stages < stages:
        raise ValueError(f"shared_stages must be between 0 and {stages - 1} for {backbone}, got {shared_stages}")
    shared, own = 1.0 if width is None else width, 1.0 if expert_width is None else expert_width
    return {"width": [shared] * shared_stages + [own] * (stages - shared_stages)}


def _merge(arguments: dict[str, Any], backbone_args: dict[str, Any], widths: dict[str, Any]) -> dict[str, Any]:
    """Return all of the backbone's arguments.

    Raises:
        ValueError: if ``backbone_args`` says again what the mixture's own arguments say.
    """
    for name in backbone_args:
        if name in arguments or name in widths or name in ("num_classes", "pretrained"):
            raise ValueError(f"backbone_args may not hold {name!r}: it follows from the model's own arguments")
    return {key: value for key, value in arguments.items() if value is not None} | backbone_args | widths


def build_experts(
    backbone: str,
    backbone_args: dict[str, Any],
    outputs: list[int],
    *,
    expert_width: float | None,
    width: float | None,
    shared_stages: int,
    pretrained: bool | str,
    arguments: dict[str, Any],
) -> tuple[Trunk, nn.ModuleList]:
    """Return the trunk and one network for each entry of ``outputs``, its number of logits.

    ``arguments`` whose value is None are left to the backbone. The trunk normalises as the backbone's weights
    want it: by the backbone's own module for this package's networks, else by timm's cfg.

    Raises:
        ValueError: if the backbone is unknown or cannot take the arguments, widths, stages or weights asked for.
    """
    require_backbone(backbone)
    check_count("shared_stages", shared_stages, at_least=None)  # the least is told with the most
    check_count("in_chans", arguments["in_chans"], at_least=1)
    widths = _width_arguments(backbone, backbone_args, expert_width, width, shared_stages)
    given = _merge(arguments, backbone_args, widths)
    experts = nn.ModuleList(timm.create_model(backbone, num_classes=count, **given) for count in outputs)
    if pretrained is True:
        load_body_into_experts(experts, backbone, outputs[0], given)
    elif pretrained:  # a saved network brings its own arguments; only what the mixture says of images is kept
        images = {name: arguments[name] for name in ("in_chans", "img_size", "global_pool")}
        load_body_into_experts(experts, pretrained, outputs[0], images)
    own = [expert for expert in experts if isinstance(expert, CifarNet)]
    if own:  # all of one kind; the trunks of the others go unused
        return [expert.detach_trunk(shared_stages) for expert in own][0], experts
    cfg = timm.get_pretrained_cfg(backbone)
    mean, std = (cfg.mean, cfg.std) if cfg else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    placement = {"device": arguments["device"], "dtype": arguments["dtype"]}
    return Trunk(Normalize(mean, std, arguments["in_chans"], **placement), nn.Identity(), []), experts


def expert_layer_names(names: str | list[str] | tuple[str, ...] | None, num_experts: int) -> tuple[str, ...]:
    """Return the layer ``names`` of one backbone as they stand in every expert."""
    if not names:
        return ()
    names = (names,) if isinstance(names, str) else tuple(names)
    return tuple(f"experts.{expert}.{name}" for expert in range(num_experts) for name in names)


def mixed_feature_info(info: Any, shared_stages: int, num_experts: int) -> list[dict[str, Any]]:
    """Return timm's feature facts for the mixture: E times the channels, except where a stage is shared."""
    taps = info.info if isinstance(info, FeatureInfo) else info
    mixed = []
    for index, tap in enumerate(copy.deepcopy(list(taps))):
        if index < shared_stages:
            tap["module"] = f"trunk.{tap['module']}"
        else:
            tap["num_chs"] *= num_experts
            tap["module"] = f"experts.0.{tap['module']}"
        mixed.append(tap)
    return mixed
