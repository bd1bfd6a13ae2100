"""The config.json beside a model's weights: read, and believed in nothing that was not checked."""

from pathlib import Path
from typing import Any

import timm

import mocse_timm.models  # noqa: F401 (registers our models with timm)
from mocse_timm.checkpoints.config_values import check_arguments, check_facts
from mocse_timm.checkpoints.strict_json import LARGEST, parse_json
from mocse_timm.checks import BadInput, nearest

__all__ = ["is_ours", "read_config", "saved_classes"]


def is_ours(architecture: str) -> bool:
    """Return whether ``architecture`` is a registered model of this package."""
    return timm.is_model(architecture) and timm.model_entrypoint(architecture).__module__.startswith("mocse_timm.")


def saved_classes(config: dict[str, Any]) -> int | None:
    """Return how many classes the saved model has, as timm reads it off ``config``."""
    return config.get("num_classes", config.get("pretrained_cfg", {}).get("num_classes"))


def _read(file: Path) -> Any:
    try:
        size = file.stat().st_size
        if size > LARGEST:
            raise ValueError(f"it has {size} bytes, {LARGEST} are the most")
        return parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be used: {error}; save the model again") from None


def _group(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a group of values, got {value!r:.60}")
    return value


def _check_values(config: dict[str, Any], *, ours: bool) -> None:
    if "pretrained_cfg" not in config:  # timm's first format: its facts stand at the top, and nothing else may
        facts = {name: value for name, value in config.items() if name not in ("architecture", "num_features")}
        facts |= {"label_names": facts.pop("labels")} if "labels" in facts else {}
        return check_facts(facts, "")
    check_facts(
        {name: config[name] for name in ("num_classes", "label_names", "label_descriptions") if name in config}, ""
    )
    check_facts(_group(config, "pretrained_cfg"))
    arguments = _group(config, "model_args")
    check_arguments(arguments, ours=ours)
    _group(config, "mocse_timm")
    classes, built = saved_classes(config), arguments.get("num_classes")
    if None not in (classes, built) and classes != built:
        raise ValueError(f"num_classes is {classes}, but {built} in model_args")


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json of ``folder``: an architecture timm knows, with values a model can have. Nothing is built.

    What stands under ``mocse_timm`` is a group of values; nothing in it is checked.

    Raises:
        BadInput: if there is none, or it is no JSON, ambiguous, describes no model, or names weights elsewhere.
    """
    if not folder.is_dir():
        raise BadInput(
            f"model folder {str(folder)!r} does not exist; give a run's folder, or hf-hub:USER/NAME for the Hub"
        )
    file = folder / "config.json"
    if not file.is_file():
        raise BadInput(f"folder {folder} has no config.json; give the folder of a finished training run")
    config = _read(file)
    architecture = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(architecture, str):
        raise BadInput(f"{file} names no architecture; save the model again with timm.models.save_for_hf")
    if not timm.is_model(architecture):
        raise BadInput(
            f"{file} names the architecture {architecture!r:.60}, which is not registered"
            f"{nearest(architecture[:60], timm.list_models())}; import the package that defines it"
        )
    try:
        _check_values(config, ours=is_ours(architecture))
    except ValueError as error:
        raise BadInput(f"{file} describes no model that can be opened: {error}; save the model again") from None
    return config
