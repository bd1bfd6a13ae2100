"""results.json: what ``validate.py --results-file`` found of a model, read with doubt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mocse_timm.checkpoints.strict_json import parse_json
from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import CORRUPTIONS, SEVERITIES
from mocse_timm.evaluation import corruption_json
from mocse_timm.evaluation.comparison import Comparison
from mocse_timm.evaluation.computation import Computation
from mocse_timm.evaluation.corruption_scores import CorruptionScores
from mocse_timm.evaluation.failure_signs import Verdict
from mocse_timm.evaluation.image_answers import check_answers, check_percentage, unpack
from mocse_timm.evaluation.metrics import Scores
from mocse_timm.evaluation.robustness import RobustScores
from mocse_timm.hub.typed_json import from_json

__all__ = [
    "RESULTS",
    "Results",
    "Row",
    "main_scores",
    "read_results",
    "refuse_other_build",
    "refuse_other_weights",
]

RESULTS = "results.json"
AGAIN = f"make it with validate.py RUN --results-file RUN/{RESULTS}"


@dataclass(frozen=True)
class Row:
    """What was scored: the columns of ``row`` that nothing else repeats."""

    dataset: str
    split: str
    img_size: int
    expert_precision: float | None = None
    expert_recall: float | None = None
    expert_auroc: float | None = None


@dataclass(frozen=True, eq=False)
class Results:
    """One results.json."""

    content: dict[str, Any]
    """All of it, as JSON."""
    row: Row
    scores: Scores
    """On clean images."""
    computation: Computation
    corruptions: CorruptionScores | None
    comparison: Comparison | None
    """With a baseline, of scores under corruption."""
    verdict: Verdict | None
    robustness: RobustScores | None


def _percents(results: Results) -> Iterator[float | None]:
    scores, robust, corrupted = results.scores, results.robustness, results.corruptions
    yield from (scores.top1, scores.top5, scores.ece, *scores.per_class_accuracy.values())
    if robust is not None:
        yield from (robust.clean_top1, *robust.robust_top1.values())
        if robust.routing is not None:
            yield from (*robust.routing.use, *robust.routing.flipped.values())
    if corrupted is not None:
        yield from (corrupted.clean_top1, corrupted.clean_ece, *corrupted.top1.flat, *corrupted.ece.flat)


def _corruptions(content: Mapping[str, Any]) -> CorruptionScores:
    scores = corruption_json.from_json(content)
    known = [name for name in CORRUPTIONS if name in scores.corruptions]
    ours = list(scores.corruptions) == known and set(scores.severities) <= set(SEVERITIES)
    if not (ours and known and scores.severities):
        raise ValueError("corruptions.cells has names, severities or an order that are not ours")
    return scores


def _read(content: Any) -> Results:
    if not isinstance(content, dict) or not {"row", "scores"} <= content.keys():
        raise ValueError("it has no clean scores")
    if "computation" not in content:
        raise ValueError("it does not say how the scores were made")
    corrupted, robust = content.get("corruptions"), content.get("robustness")
    compared = None if corrupted is None else corrupted.get("comparison")
    results = Results(
        content=content,
        row=from_json(Row, content["row"], "row"),
        scores=from_json(Scores, content["scores"], "scores"),
        computation=from_json(Computation, content["computation"], "computation"),
        corruptions=None if corrupted is None else _corruptions(corrupted),
        comparison=None if compared is None else from_json(Comparison, compared, "corruptions.comparison"),
        verdict=None if compared is None else from_json(Verdict, compared["verdict"], "corruptions.comparison.verdict"),
        robustness=None if robust is None else from_json(RobustScores, robust, "robustness"),
    )
    if results.robustness is not None:
        _check_attacked(results.robustness)
    for value in _percents(results):
        if value is not None:
            check_percentage(value)
    return results


def _check_attacked(robust: RobustScores) -> None:
    accuracies = {"none": robust.clean_top1} | robust.robust_top1
    for name, answers in robust.correct.items():
        check_answers(accuracies[name], unpack(answers, robust.num_images))


def read_results(folder: Path) -> Results:
    """Return the results.json of ``folder``.

    Raises:
        BadInput: if it is not there, cannot be read, or is not what validate.py of this version writes.
    """
    file = folder / RESULTS
    if not file.is_file():
        raise BadInput(f"{folder} has no {RESULTS}, and every score of a card comes from it; {AGAIN}")
    try:
        return _read(parse_json(file.read_bytes()))
    except OSError as error:
        raise BadInput(f"cannot read {file} ({error.strerror})") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) if isinstance(error, ValueError) else repr(error)
        raise BadInput(f"{file} cannot be used ({reason}); {AGAIN}") from None


def refuse_other_weights(results: Results, sha256: str, folder: Path) -> None:
    """Raise BadInput unless the scores are of the weights whose checksum is ``sha256``."""
    scored = results.computation.weights_sha256
    if scored is None:
        raise BadInput(f"{folder / RESULTS} does not say which weights it scored; {AGAIN}")
    if scored != sha256:
        raise BadInput(
            f"{folder / RESULTS} scored other weights (sha256 {scored[:12]}...) than those beside it "
            f"({sha256[:12]}...); {AGAIN}"
        )


def refuse_other_build(results: Results, config: Mapping[str, Any], folder: Path) -> None:
    """Raise BadInput if the scores are of a model or an image size other than config.json says.

    Args:
        results: what is in the results.json of ``folder``.
        config: what is in its config.json.
        folder: for the message.
    """
    if "--model-kwargs" in results.computation.command.split():
        raise BadInput(f"{folder / RESULTS} scored a model changed by --model-kwargs; {AGAIN}, without that flag")
    size = (config.get("pretrained_cfg") or {}).get("input_size")
    if size and results.row.img_size != size[-1]:
        raise BadInput(
            f"{folder / RESULTS} scored images of {results.row.img_size} pixels a side, config.json says {size[-1]}; "
            f"{AGAIN}, without --img-size"
        )


def main_scores(results: Results) -> dict[str, float]:
    """Return the scores that are quoted, by their column in a results table; percent."""
    found = {"top1": results.scores.top1}
    for which, number in (("benchmark", 15), ("all", 19)):
        mean = results.corruptions.mean(which) if results.corruptions else None
        if mean is not None and mean.complete:
            found[f"corrupted_{number}_top1"] = mean.top1
    if results.robustness is not None:
        found |= {f"robust_{name}": top1 for name, top1 in results.robustness.robust_top1.items()}
    return {name: round(value, 4) for name, value in found.items()}
