"""What both mixtures ask of any timm backbone: whether it exists, its feature maps, its pooling, its layers' names."""

import re
from typing import Any

import timm
from timm.models import PretrainedCfg, is_model
from torch import nn

from mocse_timm.checks import nearest

__all__ = [
    "BACKBONE_FACTS",
    "count_taps",
    "default_taps",
    "facts_to_take",
    "parts_as_groups",
    "pooling_name",
    "prefix_groups",
    "require_backbone",
    "with_changes",
]

# what a mixture takes over from its backbone's cfg; mean and std stay 0 and 1, for the model normalises
BACKBONE_FACTS = (
    "input_size",
    "pool_size",
    "min_input_size",
    "fixed_input_size",
    "crop_pct",
    "crop_mode",
    "interpolation",
)


def require_backbone(backbone: str) -> None:
    """Raise ValueError, with the nearest name, unless timm knows a model called ``backbone``."""
    if not isinstance(backbone, str) or not is_model(backbone):
        raise ValueError(
            f"backbone must be the name of a timm model, got {backbone!r}{nearest(str(backbone), timm.list_models())}"
        )


def facts_to_take(variant: str, given: PretrainedCfg | dict[str, Any] | str | None, backbone: str) -> dict[str, Any]:
    """Return what the cfg of mixture ``variant`` takes over from its backbone's, where it was given one of its own.

    The cfg of a model that was built names layers inside its experts, and says all of its images itself. One that names
    layers as the registry does comes from there, whole or with some facts replaced: those stay, the others give way.
    """
    cfg, ours = timm.get_pretrained_cfg(backbone) or PretrainedCfg(), timm.get_pretrained_cfg(variant)
    if given is None or isinstance(given, str) or ours is None:
        return {key: getattr(cfg, key) for key in BACKBONE_FACTS}
    stated = given if isinstance(given, dict) else given.to_dict()
    if stated.get("classifier") != ours.classifier or stated.get("first_conv") != ours.first_conv:
        return {}
    same = [key for key in BACKBONE_FACTS if stated.get(key, getattr(ours, key)) == getattr(ours, key)]
    return {key: getattr(cfg, key) for key in same}


def default_taps(backbone: str, backbone_args: dict[str, Any] | None = None) -> tuple[int, ...]:
    """Return which feature maps ``features_only=True`` gives of ``backbone`` by default; all where timm cannot say."""
    arguments = (backbone_args or {}) | {"device": "meta", "pretrained": False}
    try:
        network: Any = timm.create_model(backbone, features_only=True, **arguments)
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return tuple(range(count_taps(backbone, backbone_args)))
    return tuple(network.feature_info.out_indices)


def with_changes(arguments: dict[str, Any], network: nn.Module, before: dict[str, Any]) -> dict[str, Any]:
    """Return a mixture's ``arguments`` with what timm has changed in its ``network``'s since they were ``before``.

    Another pooling changes some, for instance where a ViT has its last norm.
    """
    now: dict[str, Any] = getattr(network, "_model_args", {})
    changed = {key: value for key, value in now.items() if key not in before or before[key] != value}
    return arguments | {"backbone_args": (arguments.get("backbone_args") or {}) | changed} if changed else arguments


def count_taps(backbone: str, backbone_args: dict[str, Any] | None = None) -> int:
    """Return how many feature maps timm's interface takes from ``backbone``; for this package's, its stages."""
    network: Any = timm.create_model(backbone, **((backbone_args or {}) | {"device": "meta", "pretrained": False}))
    return len(network.feature_info)


def pooling_name(expert: nn.Module) -> str | None:
    """Return the expert's pooling as timm names it, or None where it has no such option."""
    head = getattr(expert, "head", None)
    for owner, attribute in ((head, "global_pool"), (head, "pool_type"), (expert, "global_pool")):
        pool = getattr(owner, attribute, None)
        pool = getattr(pool, "pool_type", pool)
        if isinstance(pool, str):
            return pool
    return None


def parts_as_groups(network: nn.Module) -> dict[str, Any]:
    """Return a ``group_matcher`` for a network that has none: each of its top-level parts is one layer, in order."""
    parts = dict.fromkeys(name.split(".")[0] for name, _ in network.named_parameters())
    return {part: rf"^{re.escape(part)}(?:\.|$)" for part in parts}


def _prefix(pattern: str, where: str) -> str:
    return rf"^{where}\.(?:{pattern.replace('[^', chr(0)).replace('^', '').replace(chr(0), '[^')})"


def prefix_groups(groups: Any, where: str) -> Any:
    """Return a backbone's ``group_matcher``, patterns or a function, for names inside the parts ``where`` describes."""
    if callable(groups):
        inside = re.compile(rf"^{where}\.")
        return lambda name: groups(inside.sub("", name))
    prefixed: dict[str, Any] = {}
    for name, patterns in groups.items():
        if isinstance(patterns, str):
            prefixed[name] = _prefix(patterns, where)
        else:
            prefixed[name] = [
                _prefix(p, where) if isinstance(p, str) else (_prefix(p[0], where), *p[1:]) for p in patterns
            ]
    return prefixed
