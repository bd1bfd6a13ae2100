"""What both mixtures ask of any timm backbone: whether it exists, its feature maps, its pooling, its layers' names."""

import re
from typing import Any

import timm
from timm.models import is_model
from torch import nn

from mocse_timm.checks import nearest

__all__ = ["BACKBONE_FACTS", "count_taps", "parts_as_groups", "pooling_name", "prefix_groups", "require_backbone"]

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
    if not is_model(backbone):
        raise ValueError(
            f"backbone must be the name of a timm model, got {backbone!r}{nearest(backbone, timm.list_models())}"
        )


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


def prefix_groups(groups: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a backbone's ``group_matcher`` patterns as they match inside the parts that ``where`` describes."""
    prefixed: dict[str, Any] = {}
    for name, patterns in groups.items():
        if isinstance(patterns, str):
            prefixed[name] = _prefix(patterns, where)
        else:
            prefixed[name] = [
                _prefix(p, where) if isinstance(p, str) else (_prefix(p[0], where), *p[1:]) for p in patterns
            ]
    return prefixed
