"""The scores that a card's metadata hold: one entry of the model-index for each data set, corruption and attack.

The Hub merges entries of one task, data set type, configuration and split, and keeps the arguments of the first alone.
So every corruption and attack has a configuration of its own.
"""

from collections.abc import Sequence
from typing import Any

from huggingface_hub import EvalResult

from mocse_timm.corruptions.names import SEVERITIES
from mocse_timm.evaluation.corruption_scores import CorruptionScores, Mean
from mocse_timm.evaluation.robustness import RobustScores
from mocse_timm.hub.data_names import DataName, corrupted_name, data_name
from mocse_timm.hub.results import Results

__all__ = ["ATTACKS", "DIGITS", "attack_title", "budget", "eval_results", "pixels"]

DIGITS = 2  # behind the point: one image of 10,000
ATTACKS = {"autoattack": "AutoAttack", "router": "attack on the router alone"}


def attack_title(name: str) -> str:
    """Return the name of an attack for people: ``PGD, 50 steps``, ``AutoAttack``."""
    return ATTACKS.get(name) or f"PGD, {name.removeprefix('pgd')} steps"


def pixels(length: float, norm: str) -> str:
    """Return a length in images of [0, 1] as it is written: ``8/255`` in Linf, ``0.5`` in L2."""
    return f"{round(length * 255, 4):g}/255" if norm == "linf" else f"{length:g}"


def budget(robust: RobustScores) -> str:
    """Return norm and epsilon: ``Linf 8/255``, ``L2 0.5``."""
    return f"{robust.norm.capitalize()} {pixels(robust.epsilon, robust.norm)}"


def _entry(
    data: DataName, split: str, title: str, value: float, arguments: dict[str, Any], *, config: str | None = None
) -> EvalResult:
    return EvalResult(
        task_type="image-classification",
        task_name="Image classification",
        dataset_type=data.slug,
        dataset_name=data.title,
        dataset_config=config,
        dataset_split=split,
        dataset_args=arguments,
        metric_type="accuracy",
        metric_name=title,
        metric_value=round(value, DIGITS),
    )


def _mean_config(mean: Mean, severities: Sequence[int]) -> str:
    """Return the configuration of a mean: a part of the corruptions or severities is never called as the whole is."""
    if mean.complete:
        return f"mean of {mean.corruptions.split()[-1]} corruptions"
    only = "" if set(severities) == set(SEVERITIES) else f", severities {' '.join(map(str, severities))}"
    return f"mean of {mean.corruptions} corruptions{only}"


def _corrupted(scores: CorruptionScores) -> list[EvalResult]:
    data = corrupted_name(data_name(scores.dataset), scores.source)
    common = {"severities": " ".join(map(str, scores.severities)), "num_images": scores.num_images}
    entries = []
    for which in ("benchmark", "all"):
        mean = scores.mean(which)
        if mean is not None:
            title, config = f"mean accuracy, {mean.corruptions} corruptions, %", _mean_config(mean, scores.severities)
            arguments = {"corruptions": mean.corruptions} | common
            entries.append(_entry(data, scores.split, title, mean.top1, arguments, config=config))
    for name, line in zip(scores.corruptions, scores.top1, strict=True):
        title = f"accuracy, {name.replace('_', ' ')}, %"
        arguments = {"corruption": name} | common
        entries.append(_entry(data, scores.split, title, float(line.mean()), arguments, config=name))
    return entries


def _attacked(robust: RobustScores, data: DataName, split: str) -> list[EvalResult]:
    entries = []
    for name, top1 in robust.robust_top1.items():
        arguments = {"attack": name, "norm": robust.norm, "epsilon": robust.epsilon, "num_images": robust.num_images}
        title = f"{'accuracy' if name == 'router' else 'robust accuracy'}, {attack_title(name)}, {budget(robust)}, %"
        config = f"{name}, {budget(robust)}"
        options = robust.options.get(name) or {}
        entries.append(_entry(data, split, title, top1, arguments | options, config=config))
    return entries


def eval_results(results: Results) -> list[EvalResult]:
    """Return every score of a card's model-index: clean, corrupted, attacked; percent."""
    data, split = data_name(results.row.dataset), results.row.split
    scores = results.scores
    entries = [_entry(data, split, "top-1 accuracy, %", scores.top1, {"num_images": scores.num_images})]
    if results.corruptions is not None:
        entries += _corrupted(results.corruptions)
    if results.robustness is not None:
        entries += _attacked(results.robustness, data, split)
    return entries
