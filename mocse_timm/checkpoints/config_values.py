"""What the values in a config.json may be, and which of them would lead away from the folder.

The limits keep numbers that no model has from being tried: a million classes or an image of a gigapixel cost memory
before a single weight is compared.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from timm.models import PretrainedCfg

from mocse_timm.checkpoints.kinds import FLAG, NOTHING, TEXT, Kind, group, many, number, text, whole
from mocse_timm.checks import nearest

__all__ = ["ARGUMENTS", "FACTS", "FETCHING", "LARGEST_SIDE", "check_arguments", "check_facts"]

CHANNELS = whole(1, 65_536)
LARGEST_SIDE = 2048  # pixels
SIDE = whole(1, LARGEST_SIDE)
WINDOW = whole(0, 64)  # pixels; some attention layers go through all pairs of a window's pixels one by one
CLASSES = whole(0, 100_000)
WIDTH = number(0, 64, above=True)
IMAGE = Kind(
    "three whole numbers: channels, and a height and width up to 2048",
    lambda value: many(CHANNELS, 3, 3).fits(value) and all(map(SIDE.fits, value[1:])),
)
LAYERS = TEXT | many(TEXT, 0, 100_000)
MEAN = many(number(-1e6, 1e6), 1, 65_536)
STD = many(number(0, 1e6, above=True), 1, 65_536)

ARGUMENTS: dict[str, Kind] = {  # of this package's models
    "aggregation": TEXT,
    "backbone": TEXT,
    "backbone_args": group(),
    "channels": many(CHANNELS, 1, 16),
    "depths": many(whole(1, 1024), 1, 16),
    "drop_rate": number(0, 1),
    "expert_width": WIDTH,
    "global_pool": TEXT,
    "growth": CHANNELS,
    "img_size": SIDE | many(SIDE, 2, 2),
    "in_chans": CHANNELS,
    "input_mean": MEAN,
    "input_std": STD,
    "normalize": FLAG,
    "num_classes": CLASSES,
    "num_experts": whole(1, 65_536),
    "ratio": number(0, 1, above=True),
    "scale_stem": FLAG,
    "shared_stages": whole(0, 16),
    "stem_channels": CHANNELS,
    "stem_width": WIDTH,
    "width": WIDTH | many(WIDTH, 1, 16),
}
FACTS: dict[str, Kind] = {  # of timm's pretrained_cfg
    "architecture": TEXT,
    "tag": TEXT,
    "input_size": IMAGE,
    "test_input_size": IMAGE,
    "min_input_size": IMAGE,
    "fixed_input_size": FLAG,
    "interpolation": TEXT,
    "crop_pct": number(0, 16, above=True),
    "test_crop_pct": number(0, 16, above=True),
    "crop_mode": TEXT,
    "mean": MEAN,
    "std": STD,
    "num_classes": CLASSES,
    "label_offset": whole(0, 1),
    "label_names": many(text(10_000), 0, 100_000) | group(text(10_000)),
    "label_descriptions": group(text(10_000)),
    "pool_size": many(SIDE, 2, 2),
    "test_pool_size": many(SIDE, 2, 2),
    "first_conv": LAYERS,
    "classifier": LAYERS,
}
FETCHING = {  # facts of timm's, and arguments of timm.create_model and of ours, that read weights from somewhere
    "backbone_pretrained",
    "cache_dir",
    "checkpoint_path",
    "custom_load",
    "file",
    "hf_hub_filename",
    "hf_hub_id",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_filter_fn",
    "pretrained_model_args",
    "pretrained_strict",
    "source",
    "state_dict",
    "url",
}


def _check(where: str, value: Any, kind: Kind) -> None:
    if not kind.fits(value):
        raise ValueError(f"{where} must be {kind.wanted}, got {value!r:.60}")


def _check_source(where: str, name: str, value: Any) -> None:
    if name in FETCHING and value:
        raise ValueError(f"{where}{name} is {value!r:.60}, but weights come from the folder and nowhere else")


def _check_options(where: str, value: Any) -> None:
    """Check arguments of some model of timm, of which is known no more than that they come from JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check(f"a name in {where}", name, text(60))
            inside = f"{where}.{name}"
            _check_source(f"{where}.", name, inner)
            if name in ("img_size", "in_chans", "num_classes", "num_experts"):
                _check(inside, inner, ARGUMENTS[name] | NOTHING)
            if "window" in name or "grid" in name:
                _check(inside, inner, WINDOW | many(WINDOW, 0, 64) | FLAG | NOTHING)
            _check_options(inside, inner)
    elif isinstance(value, list):
        _check(f"the length of {where}", len(value), whole(0, 256))
        for inner in value:
            _check_options(where, inner)
    elif isinstance(value, str):
        if len(value) > 200 or any(mark in value for mark in "/\\:"):
            raise ValueError(f"{where} must be a short text that is no path or address, got {value!r:.60}")
    else:
        _check(where, value, number(-100_000, 100_000) | FLAG | NOTHING)


def check_arguments(arguments: Mapping[str, Any], *, ours: bool) -> None:
    """Check ``model_args``: name by name for a model of this package, else as far as can be without knowing the names.

    Raises:
        ValueError: in a clause that names the argument.
    """
    if not ours:
        return _check_options("model_args", dict(arguments))
    for name, value in arguments.items():
        _check_source("model_args.", name, value)
        if name in ARGUMENTS:
            _check(f"model_args.{name}", value, ARGUMENTS[name] | NOTHING)
        elif name not in FETCHING:
            raise ValueError(f"model_args has an unknown {name!r:.60}{nearest(name[:60], ARGUMENTS)}")
    _check_options("model_args.backbone_args", arguments.get("backbone_args"))


def check_facts(facts: Mapping[str, Any], where: str = "pretrained_cfg.") -> None:
    """Check timm's facts on a checkpoint; those that came into timm after this was written pass if timm knows them.

    Raises:
        ValueError: in a clause that names the fact, with ``where`` before it.
    """
    known = {field.name for field in fields(PretrainedCfg)}
    for name, value in facts.items():
        _check_source(where, name, value)
        if name not in known:
            raise ValueError(f"{where.rstrip('.') or 'it'} has an unknown {name!r:.60}{nearest(name[:60], known)}")
        if name in FACTS:
            _check(f"{where}{name}", value, FACTS[name] | NOTHING)
