"""``validate.py``: a model, a data set, a table of scores."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from mocse_timm.checkpoints.by_name import load_model, run_folder
from mocse_timm.checkpoints.tensors import WEIGHTS
from mocse_timm.checks import BadInput, command
from mocse_timm.data import DataSplits, FileImages, MemoryImages, load_data
from mocse_timm.data.images_digest import images_digest
from mocse_timm.evaluation.autoattack_run import state_file
from mocse_timm.evaluation.classes import check_classes
from mocse_timm.evaluation.computation import Computation, count_macs, describe_computation
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.corruption_run import (
    CorruptionResults,
    check_corruption_flags,
    check_source,
    corruption_results,
    short_name,
    write_corruption_files,
)
from mocse_timm.evaluation.corruption_setup import choose_source
from mocse_timm.evaluation.corruption_source import Share, choose_images
from mocse_timm.evaluation.device import usable_device
from mocse_timm.evaluation.image_answers import fingerprint
from mocse_timm.evaluation.metrics import Scores, score
from mocse_timm.evaluation.report import RunFacts, render, render_robustness, result_row, robust_row, write_results
from mocse_timm.evaluation.robustness import RobustScores, check_attacks, parse_attacks, score_robustness
from mocse_timm.evaluation.scorer import Scorer, model_size, resizing_of
from mocse_timm.evaluation.settings import check_flags, complete, without_attacks
from mocse_timm.flags import parse_flags
from mocse_timm.models.normalized import image_channels, normalized

__all__ = ["main", "prepare", "validate"]


def _choose_device(name: str | None, accelerator: Accelerator) -> torch.device:
    if name is None:
        return accelerator.device
    if accelerator.num_processes > 1:
        raise BadInput(f"--device {name}, but Accelerate gives each process its own; leave the flag out")
    return usable_device(name)


def _check_image_size(config: ValidateConfig, model: nn.Module) -> None:
    fixed = (getattr(model, "pretrained_cfg", None) or {}).get("fixed_input_size", False)
    size, own = config.img_size or model_size(model), model_size(model)
    if fixed and size != own and config.model_kwargs.get("img_size") != size:
        raise BadInput(
            f"--img-size {size}, but {config.model!r} takes {own}x{own} images only; leave the flag out, or add "
            f"--model-kwargs img_size={size}"
        )


def _load_data(config: ValidateConfig, model: nn.Module, progress: bool) -> DataSplits:
    assert config.dataset is not None, "complete() fills it"
    of_archives = config.corruptions and config.dataset.startswith("folder:")  # where these are, as the set says itself
    return load_data(
        config.dataset,
        data_dir=None if of_archives else config.data_dir,
        download=config.dataset_download,
        model_size=model_size(model),
        image_size=config.img_size,
        in_chans=image_channels(model),
        num_workers=config.workers,
        progress=progress,
        train_split=config.train_split or "train",
        val_split=config.val_split or "validation",
    )


def _chosen_split(config: ValidateConfig, data: DataSplits) -> MemoryImages | FileImages:
    return data.train if config.split == "train" else data.validation


def _score_robustness(scorer: Scorer, data: DataSplits, attacks: Sequence[str]) -> RobustScores:
    """Attack a subset that depends on nothing but its size and the set's, in full precision and in this process."""
    config = scorer.config
    loader = scorer.loader(_chosen_split(config, data), Share())
    chosen = choose_images(loader.num_images, config.attack_images)
    wanted = torch.zeros(loader.num_images, dtype=torch.bool)
    wanted[chosen] = True
    images, labels, start = [], [], 0
    for batch, batch_labels in loader:
        keep = wanted[start : start + len(batch)].to(batch.device)
        images.append(batch[keep])
        labels.append(batch_labels[keep])
        start += len(batch)
    with scorer.saying_what_does_not_fit():
        scores = score_robustness(
            normalized(scorer.model),
            torch.cat(images).to(scorer.device),
            torch.cat(labels).to(scorer.device),
            attacks,
            epsilon=config.epsilon,
            norm=config.attack_norm,
            class_names=data.class_names,
            batch_size=config.batch_size,
            seed=config.seed,
            autoattack_file=None if config.results_file is None else state_file(config.results_file),
        )
    digest = images_digest(_chosen_split(config, data))
    return replace(scores, images=fingerprint(chosen, torch.cat(labels)), clean_sha256=digest)


def _facts(config: ValidateConfig, model: nn.Module, data: DataSplits, computation: Computation) -> RunFacts:
    return RunFacts(
        model=short_name(config.model),
        dataset=data.public_name,
        split=config.split,
        param_count=round(computation.parameters / 1e6, 2),
        gmacs=computation.macs / 1e9,
        img_size=config.img_size or model_size(model),
        resizing=resizing_of(model, _chosen_split(config, data)),
        images_per_second=computation.images_per_second,
    )


def _weights(config: ValidateConfig) -> Path | None:
    """Return the file whose weights are scored, where the flags tell."""
    if config.checkpoint is not None:
        return Path(config.checkpoint)
    folder = run_folder(config.model)
    return None if folder is None else folder / WEIGHTS


def prepare(config: ValidateConfig, accelerator: Accelerator, attacks: Sequence[str]) -> tuple[Scorer, DataSplits]:
    """Return model and data, checked to fit each other; the model is still on the CPU.

    Raises:
        BadInput: for anything wrong with the flags, the model, its weights or the data.
    """
    device = _choose_device(config.device, accelerator)
    torch.manual_seed(config.seed)
    model = load_model(
        config.model,
        checkpoint=config.checkpoint,
        pretrained=config.pretrained,
        model_kwargs=config.model_kwargs,
        num_classes=config.num_classes,
    )
    check_attacks(attacks, model)
    config = complete(config)
    _check_image_size(config, model)
    with accelerator.main_process_first():  # one downloads, the others find
        data = _load_data(config, model, accelerator.is_main_process)
    check_classes(model, data)
    return Scorer(config, model, device, accelerator), data


def _report(
    scorer: Scorer,
    data: DataSplits,
    facts: RunFacts,
    computation: Computation,
    scores: Scores,
    corrupted: CorruptionResults | None,
    attacks: Sequence[str],
) -> None:
    """Print what corruptions did, attack, and write the files: the scores before tables and pictures of them.

    While attacks run, for they may fail after hours or be stopped, all other scores lie in a file of another name,
    since what finds a results file may take it for whole; and what AutoAttack has found in one more.
    """
    config, model = scorer.config, scorer.model
    architecture = str((getattr(model, "pretrained_cfg", None) or {}).get("architecture", config.model))
    row, written, meanwhile = result_row(facts, scores), [], []
    parts: dict[str, Any] = {"corruptions": corrupted and corrupted.json(), "computation": computation}
    if corrupted is not None:
        row |= corrupted.row()
        print(f"\n{corrupted.text()}", flush=True)
    if config.results_file is not None and attacks:
        meanwhile = [without_attacks(config.results_file)]
        meanwhile += [state_file(config.results_file)] if "autoattack" in attacks else []
        write_results(meanwhile[0], row, scores, **parts)
        print(f"\nuntil the attacks are done, all other scores are in {meanwhile[0]}", flush=True)
    elif config.results_file is not None:
        write_results(config.results_file, row, scores, **parts)
        written = [Path(config.results_file)]
    if corrupted is not None:
        written += write_corruption_files(config, corrupted, architecture=architecture, clean_top1=scores.top1)
    if attacks:
        robust = _score_robustness(scorer, data, attacks)
        row |= robust_row(robust)
        print(f"\n{render_robustness(robust)}")
        if config.results_file is not None:
            write_results(config.results_file, row, scores, robustness=robust, **parts)
            written.append(Path(config.results_file))
    for path in meanwhile:
        path.unlink(missing_ok=True)
    if written:
        print("\n" + "\n".join(f"written to {path}" for path in written))


def validate(config: ValidateConfig) -> Scores:
    """Score one model as ``config`` says: print the table, write the files asked for, return the clean scores.

    With several processes each does its share and all return the same scores; the first alone prints, writes and
    attacks.

    Raises:
        BadInput: for anything wrong with the flags, the model, its weights or the data.
    """
    check_flags(config)
    baseline = check_corruption_flags(config)
    attacks = parse_attacks(config.attack)
    accelerator = Accelerator()
    scorer, data = prepare(config, accelerator, attacks)
    typed, config, source = config, scorer.config, None
    if config.corruptions:
        source = choose_source(scorer, data)
        check_source(config, source, baseline, data.public_name)
    macs = count_macs(scorer.model, scorer.image_size)
    scorer.place()
    start = time.perf_counter()
    predictions = scorer.predict(_chosen_split(config, data))
    seconds = time.perf_counter() - start
    scores = score(predictions, data.class_names)
    speed = scores.num_images / seconds
    computation = describe_computation(
        scorer, typed, dataset=data.public_name, macs=macs, images_per_second=speed, weights=_weights(config)
    )
    facts = _facts(config, scorer.model, data, computation)
    if accelerator.is_main_process:
        print(render(facts, scores), flush=True)
        for note in source.notes if source else ():
            print(f"\n{note}", flush=True)
    corrupted = None
    if source is not None:
        corrupted = corruption_results(scorer.score_corruptions(source, predictions, data), baseline)
    if accelerator.is_main_process:
        _report(scorer, data, facts, computation, scores, corrupted, attacks)
    return scores


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the flags and validate."""
    validate(parse_flags(ValidateConfig, arguments, description="Score a trained model on a data set."))
