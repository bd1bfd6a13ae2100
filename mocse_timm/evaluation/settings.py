"""The flags of validate.py, checked, and completed from those of the run whose model is scored."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from mocse_timm.attacks.budget import Budget
from mocse_timm.checkpoints.by_name import run_folder
from mocse_timm.checkpoints.config_json import read_config
from mocse_timm.checks import BadInput
from mocse_timm.evaluation.autoattack_run import state_file
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.output_files import check_output
from mocse_timm.evaluation.report import check_results_path

__all__ = ["check_flags", "complete", "flags_file", "refuse_idle", "without_attacks"]

LARGEST_SEED = 2**32 - 1
PLAIN_SETS = ("digits", "cifar10", "cifar100")  # names that need nothing else and fetch nothing
FILES = ("results_file", "corruption_table", "heatmap", "robustbench_json", "baseline", "checkpoint")

OF_A_RUN = ("config.json", "summary.csv")  # files in its folder that end as results may


def without_attacks(results_file: str) -> Path:
    """Return the file beside ``results_file`` that keeps all other scores while attacks run."""
    path = Path(results_file)
    return path.with_stem(f"{path.stem}-without-attacks")


def _check_files_differ(config: ValidateConfig) -> None:
    """Raise BadInput if what is written to one file would replace another output or what the model is made of."""
    files = {f"--{name.replace('_', '-')}": getattr(config, name) for name in FILES}
    if config.attack and config.results_file is not None:
        files["what is kept of --results-file during the attacks"] = without_attacks(config.results_file)
        files["what is kept of AutoAttack"] = state_file(config.results_file)
    folder = run_folder(config.model)
    if folder is not None:
        files |= {f"the model's {name}": folder / name for name in OF_A_RUN}
    seen: dict[str, str] = {}
    for what, file in files.items():
        if file is not None and (other := seen.setdefault(os.path.realpath(file), what)) != what:
            raise BadInput(f"{other} and {what} are the same file, {file}; give each its own")


def refuse_idle(config: ValidateConfig, names: Iterable[str], *, about: str, needed: str) -> None:
    """Raise BadInput if a field of ``names`` is not at its default, as nothing will look at it.

    Args:
        config: the flags.
        names: of fields.
        about: what they are about.
        needed: the flag that is missing.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in names:
        if getattr(config, name) != defaults[name]:
            raise BadInput(f"--{name.replace('_', '-')} is about {about}; add {needed}")


def check_flags(config: ValidateConfig) -> None:
    """Raise BadInput for a number out of range, a flag without its attack, or a file that cannot be used."""
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
    if not 0 <= config.seed <= LARGEST_SEED:
        raise BadInput(f"--seed must be from 0 to {LARGEST_SEED}, got {config.seed}")
    Budget(config.epsilon, 1, 0, config.attack_norm)
    if not config.attack:
        refuse_idle(config, ("attack_images", "epsilon", "attack_norm"), about="attacks", needed="--attack pgd50")
    if not config.amp:
        refuse_idle(config, ("amp_dtype",), about="16 bits", needed="--amp")
    _check_files_differ(config)
    if config.results_file is not None:
        check_results_path(config.results_file)
        if config.attack:
            check_output(without_attacks(config.results_file), (".json", ".csv"), "file that keeps the other scores")
            check_output(state_file(config.results_file), (".safetensors",), "file that keeps what AutoAttack found")


def flags_file(model: str) -> Path | None:
    """Return the config.yaml of the run whose folder, or ``best`` in it, is ``model``; None if there is none."""
    folder = run_folder(model)
    if folder is None:
        return None
    around = folder.resolve().parent
    of_a_run = folder.resolve().name == "best" and (around / "summary.csv").is_file()
    places = (folder, around) if of_a_run else (folder,)
    return next((file for place in places if (file := place / "config.yaml").is_file()), None)


def _settings_of_run(model: str) -> dict[str, Any]:
    """Return the training flags kept in the run's config.yaml; empty for models that are not a run's folder."""
    file = flags_file(model)
    if file is None:
        return {}
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{file} cannot be read ({' '.join(str(error).split())}); restore it or remove it") from None
    if not isinstance(settings, dict):
        raise BadInput(f"{file} must hold 'flag: value' lines, got a {type(settings).__name__}; restore or remove it")
    return settings


def _named_in_config_json(model: str) -> str:
    """Return the data set that config.json names, for folders of weights alone."""
    folder = run_folder(model)
    name = None if folder is None else read_config(folder).get("mocse_timm", {}).get("dataset")
    if not isinstance(name, str) or not name:
        raise BadInput(f"--dataset is missing, and {model!r} does not say what it was trained on; add it")
    if name not in PLAIN_SETS:  # of a folder only its last part is kept, and others fetch what they are told
        raise BadInput(f"--dataset is missing, and {model!r} says only that it was trained on {name!r:.60}; add it")
    return name


def complete(config: ValidateConfig) -> ValidateConfig:
    """Fill what was not typed from the run's own flags, or where these are missing, from config.json.

    Raises:
        BadInput: if no data set was typed and the run names none, or its flags cannot be read.
    """
    settings = _settings_of_run(config.model)
    if config.dataset is None and not settings.get("dataset"):
        settings["dataset"] = _named_in_config_json(config.model)
    kept = ("img_size",)
    if config.dataset in (None, settings.get("dataset")):  # the run knows neither place nor parts of another
        kept += ("dataset", "data_dir", "train_split", "val_split")
    missing = {name: settings.get(name) for name in kept if getattr(config, name) is None}
    return dataclasses.replace(config, **missing)
