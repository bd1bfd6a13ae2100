"""The flags of validate.py, checked, and completed from those of the run whose model is scored."""

import dataclasses
from typing import Any

import yaml

from mocse_timm.attacks.budget import Budget
from mocse_timm.checkpoints.by_name import run_folder
from mocse_timm.checks import BadInput
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.report import check_results_path

__all__ = ["check_flags", "complete"]


def check_flags(config: ValidateConfig) -> None:
    """Raise BadInput for a number out of range or a results file that cannot be written."""
    for name, least in (
        ("batch_size", 1),
        ("workers", 0),
        ("img_size", 1),
        ("attack_images", 1),
        ("corruption_images", 1),
        ("corruption_workers", 0),
    ):
        value = getattr(config, name)
        if value is not None and value < least:
            raise BadInput(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    Budget(config.epsilon, 1, 0, config.attack_norm)
    if config.results_file is not None:
        check_results_path(config.results_file)


def _settings_of_run(model: str) -> dict[str, Any]:
    """Return the training flags kept in the run's config.yaml; empty for models that are not a run's folder."""
    folder = run_folder(model)
    file = None if folder is None else folder / "config.yaml"
    if file is None or not file.is_file():
        return {}
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{file} cannot be read ({' '.join(str(error).split())}); restore it or remove it") from None
    if not isinstance(settings, dict):
        raise BadInput(f"{file} must hold 'flag: value' lines, got a {type(settings).__name__}; restore or remove it")
    return settings


def complete(config: ValidateConfig) -> ValidateConfig:
    """Fill what was not typed from the run's own flags.

    Raises:
        BadInput: if no data set was typed and the run names none, or its flags cannot be read.
    """
    settings = _settings_of_run(config.model)
    if config.dataset is None:
        if not settings.get("dataset"):
            raise BadInput(f"--dataset is missing, and {config.model!r} does not say what it was trained on; add it")
        kept = ("dataset", "data_dir", "train_split", "val_split", "img_size")
    else:
        kept = ("img_size",)
    missing = {name: settings.get(name) for name in kept if getattr(config, name) is None}
    return dataclasses.replace(config, **missing)
