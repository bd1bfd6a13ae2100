"""The report of another model, read and checked before a model is compared with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mocse_timm.checkpoints.strict_json import parse_json
from mocse_timm.checks import BadInput
from mocse_timm.evaluation.corruption_json import from_json
from mocse_timm.evaluation.corruption_scores import CorruptionScores

__all__ = ["Baseline", "check_comparable", "read_baseline"]


@dataclass(frozen=True)
class Baseline:
    """What another run of validate.py found."""

    file: Path
    model: str
    scores: CorruptionScores


def read_baseline(path: str | Path) -> Baseline:
    """Return the scores of a ``--results-file`` ending in .json.

    Raises:
        BadInput: if it cannot be read, or has no scores under corruption.
    """
    path = Path(path)
    make = "make one with validate.py --corruptions all --results-file FILE.json"
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"--baseline {path}: cannot read it ({error}); {make}") from None
    except ValueError as error:
        raise BadInput(f"--baseline {path} cannot be used ({error}); {make}") from None
    if not isinstance(content, dict) or "corruptions" not in content:
        raise BadInput(f"--baseline {path} has no scores under corruption; {make}")
    try:
        return Baseline(path, str(content["row"]["model"]), from_json(content["corruptions"]))
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BadInput(f"--baseline {path} is damaged ({type(error).__name__}: {error}); {make}") from None


def check_comparable(
    baseline: Baseline,
    *,
    dataset: str,
    split: str,
    corruptions: Sequence[str],
    severities: Sequence[int],
    side: int | None = None,
) -> None:
    """Raise BadInput if scores of these corruptions of this data set cannot be compared with ``baseline``.

    Images of another ``side``, in pixels, are corrupted by other strengths; older baselines do not say theirs.
    """
    theirs = baseline.scores
    if (theirs.dataset, theirs.split) != (dataset, split):
        raise BadInput(
            f"--baseline {baseline.file} is of {theirs.dataset} ({theirs.split}), this run of {dataset} ({split}); "
            "score both models on the same data"
        )
    if side is not None and theirs.side is not None and side != theirs.side:
        raise BadInput(
            f"--baseline {baseline.file} is of {theirs.side}x{theirs.side} pixels, this run of {side}x{side}, "
            "which are corrupted by other strengths; score both models with the same --img-size"
        )
    if not set(corruptions) & set(theirs.corruptions):
        raise BadInput(
            f"--baseline {baseline.file} has none of these corruptions, only {', '.join(theirs.corruptions)}; "
            "score it on the same ones"
        )
    lacking = [severity for severity in severities if severity not in theirs.severities]
    if lacking:
        raise BadInput(
            f"--baseline {baseline.file} lacks severity {lacking[0]}; give it the same --severities, or this run fewer"
        )
