"""``validate.py``: a model, a data set, a table of scores."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm.data
import torch
import yaml
from accelerate import Accelerator
from torch import nn

from mocse_timm.attacks.budget import Budget
from mocse_timm.checks import BadInput, command
from mocse_timm.data import DataSplits, FileImages, Loader, MemoryImages, build_loader, load_data
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.loading import load_model, run_folder
from mocse_timm.evaluation.metrics import Scores, score
from mocse_timm.evaluation.predictions import Predictions, predict
from mocse_timm.evaluation.report import (
    RunFacts,
    check_results_path,
    render,
    render_robustness,
    result_row,
    robust_row,
    write_results,
)
from mocse_timm.evaluation.robustness import RobustScores, check_attacks, parse_attacks, score_robustness
from mocse_timm.flags import parse_flags
from mocse_timm.models.mocse import MoCSE
from mocse_timm.models.normalized import image_channels, normalized

__all__ = ["main", "validate"]


def _check_numbers(config: ValidateConfig) -> None:
    if config.batch_size < 1:
        raise BadInput(f"--batch-size must be at least 1, got {config.batch_size}")
    if config.workers < 0:
        raise BadInput(f"--workers must be at least 0, got {config.workers}")
    if config.img_size is not None and config.img_size < 1:
        raise BadInput(f"--img-size must be at least 1, got {config.img_size}")
    if config.attack_images < 1:
        raise BadInput(f"--attack-images must be at least 1, got {config.attack_images}")
    Budget(config.epsilon, 1, 0, config.attack_norm)
    if config.results_file is not None:
        check_results_path(config.results_file)


def _choose_device(name: str | None) -> torch.device:
    if name is None:
        return Accelerator().device
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise BadInput(f"--device {name} cannot be used here; try cpu, or leave the flag out") from None
    return device


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


def _complete(config: ValidateConfig) -> ValidateConfig:
    """Fill what was not typed from the run's own flags."""
    settings = _settings_of_run(config.model)
    if config.dataset is None:
        if not settings.get("dataset"):
            raise BadInput(f"--dataset is missing, and {config.model!r} does not say what it was trained on; add it")
        kept = ("dataset", "data_dir", "train_split", "val_split", "img_size")
    else:
        kept = ("img_size",)
    missing = {name: settings.get(name) for name in kept if getattr(config, name) is None}
    return dataclasses.replace(config, **missing)


def _model_size(model: nn.Module) -> int:
    return int(timm.data.resolve_data_config(model=model)["input_size"][-1])


def _check_image_size(config: ValidateConfig, model: nn.Module) -> None:
    fixed = (getattr(model, "pretrained_cfg", None) or {}).get("fixed_input_size", False)
    size, own = config.img_size or _model_size(model), _model_size(model)
    if fixed and size != own and config.model_kwargs.get("img_size") != size:
        raise BadInput(
            f"--img-size {size}, but {config.model!r} takes {own}x{own} images only; leave the flag out, or add "
            f"--model-kwargs img_size={size}"
        )


def _load_data(config: ValidateConfig, model: nn.Module) -> DataSplits:
    assert config.dataset is not None, "_complete fills it"
    return load_data(
        config.dataset,
        data_dir=config.data_dir,
        download=config.dataset_download,
        model_size=_model_size(model),
        image_size=config.img_size,
        in_chans=image_channels(model),
        num_workers=config.workers,
        progress=True,
        train_split=config.train_split or "train",
        val_split=config.val_split or "validation",
    )


def _check_classes(model: nn.Module, data: DataSplits) -> None:
    num_classes = int(getattr(model, "num_classes", 0))
    if data.num_classes != num_classes:
        raise BadInput(
            f"data set {data.name!r} has {data.num_classes} classes, the model {num_classes}; "
            "choose the data set the model was trained on"
        )
    saved = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    names = list(saved.values() if isinstance(saved, dict) else saved or ())
    if sorted(names) == sorted(data.class_names) and names != list(data.class_names):
        raise BadInput(
            f"data set {data.name!r} has the model's classes in another order ({data.class_names[0]!r} first, the "
            f"model has {names[0]!r}); number its classes as in training"
        )


def _compile(model: nn.Module) -> None:
    """Compile in place; for MoCSE each expert by itself, as they run one after the other."""
    for part in model.experts if isinstance(model, MoCSE) else [model]:
        part.compile()


def _chosen_split(config: ValidateConfig, data: DataSplits) -> MemoryImages | FileImages:
    return data.train if config.split == "train" else data.validation


def _loader(config: ValidateConfig, model: nn.Module, data: DataSplits, device: torch.device) -> Loader:
    return build_loader(
        _chosen_split(config, data),
        training=False,
        batch_size=config.batch_size,
        image_size=config.img_size or _model_size(model),
        in_chans=image_channels(model),
        seed=config.seed,
        num_workers=config.workers,
        device=device,
        crop_pct=timm.data.resolve_data_config(model=model)["crop_pct"],
    )


def _predict(config: ValidateConfig, model: nn.Module, data: DataSplits, device: torch.device) -> Predictions:
    loader = _loader(config, model, data, device)
    model.to(device)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's overloads)
    if config.torchcompile:
        _compile(model)
    try:
        return predict(
            normalized(model),
            loader,
            device=device,
            amp_dtype=getattr(torch, config.amp_dtype) if config.amp else None,
            channels_last=config.channels_last,
            progress=True,
        )
    except torch.OutOfMemoryError:
        raise BadInput(f"{config.batch_size} images a step do not fit on {device}; lower --batch-size") from None


def _score_robustness(
    config: ValidateConfig, model: nn.Module, data: DataSplits, device: torch.device, attacks: Sequence[str]
) -> RobustScores:
    """Attack a subset that depends on nothing but its size and the set's, in full precision."""
    loader = _loader(config, model, data, device)
    chosen = torch.randperm(loader.num_images, generator=torch.Generator().manual_seed(0))[: config.attack_images]
    wanted = torch.zeros(loader.num_images, dtype=torch.bool)
    wanted[chosen] = True
    images, labels, start = [], [], 0
    for batch, batch_labels in loader:
        keep = wanted[start : start + len(batch)].to(batch.device)
        images.append(batch[keep])
        labels.append(batch_labels[keep])
        start += len(batch)
    return score_robustness(
        normalized(model),
        torch.cat(images).to(device),
        torch.cat(labels).to(device),
        attacks,
        epsilon=config.epsilon,
        norm=config.attack_norm,
        class_names=data.class_names,
        batch_size=config.batch_size,
        seed=config.seed,
    )


def _facts(config: ValidateConfig, model: nn.Module, data: DataSplits, images_per_second: float) -> RunFacts:
    cropped = isinstance(_chosen_split(config, data), FileImages)  # images in memory are used whole
    return RunFacts(
        model=config.model,
        dataset=data.public_name,
        split=config.split,
        param_count=round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2),
        img_size=config.img_size or _model_size(model),
        crop_pct=timm.data.resolve_data_config(model=model)["crop_pct"] if cropped else 1.0,
        interpolation="bilinear",  # that of every loader of ours
        images_per_second=images_per_second,
    )


def validate(config: ValidateConfig) -> Scores:
    """Score one model as ``config`` says: print the table, write the results file if asked, return the scores.

    Raises:
        BadInput: for anything wrong with the flags, the model, its weights or the data.
    """
    _check_numbers(config)
    attacks = parse_attacks(config.attack)
    device = _choose_device(config.device)
    torch.manual_seed(config.seed)
    model = load_model(
        config.model,
        checkpoint=config.checkpoint,
        pretrained=config.pretrained,
        model_kwargs=config.model_kwargs,
        num_classes=config.num_classes,
    )
    check_attacks(attacks, model)
    config = _complete(config)
    _check_image_size(config, model)
    data = _load_data(config, model)
    _check_classes(model, data)
    start = time.perf_counter()
    predictions = _predict(config, model, data, device)
    seconds = time.perf_counter() - start
    scores = score(predictions, data.class_names)
    facts = _facts(config, model, data, scores.num_images / seconds)
    print(render(facts, scores))
    row, robust = result_row(facts, scores), None
    if attacks:
        robust = _score_robustness(config, model, data, device, attacks)
        row |= robust_row(robust)
        print(f"\n{render_robustness(robust)}")
    if config.results_file is not None:
        write_results(config.results_file, row, scores, robust)
        print(f"\nwritten to {Path(config.results_file)}")
    return scores


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the flags and validate."""
    validate(parse_flags(ValidateConfig, arguments, description="Score a trained model on a data set."))
