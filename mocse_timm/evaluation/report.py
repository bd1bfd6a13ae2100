"""Scores for people (a text table) and for programs (JSON or timm's CSV)."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from mocse_timm.data import Resizing
from mocse_timm.evaluation.metrics import ExpertScores, Scores
from mocse_timm.evaluation.output_files import check_output, write_whole
from mocse_timm.evaluation.robustness import RobustScores

__all__ = [
    "RunFacts",
    "align",
    "check_results_path",
    "render",
    "render_robustness",
    "result_row",
    "robust_row",
    "write_results",
]


@dataclass(frozen=True)
class RunFacts:
    """What was scored, on what, and how fast."""

    model: str
    dataset: str
    split: str
    param_count: float
    """Millions of parameters."""
    gmacs: float
    """Billions of multiply-accumulates for one image."""
    img_size: int
    """Pixels a side."""
    resizing: Resizing
    images_per_second: float
    """Loading included."""


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def result_row(facts: RunFacts, scores: Scores) -> dict[str, Any]:
    """Return one row of a results table: timm's columns in timm's order, then ours."""
    experts = scores.experts or []
    row = {
        "model": facts.model,
        "top1": scores.top1,
        "top1_err": 100 - scores.top1,
        "top5": scores.top5,
        "top5_err": 100 - scores.top5,
        "param_count": facts.param_count,
        "img_size": facts.img_size,
        "crop_pct": facts.resizing.crop_pct,
        "interpolation": facts.resizing.interpolation,
        "gmacs": facts.gmacs,
        "loss": scores.loss,
        "ece": scores.ece,
        "dataset": facts.dataset,
        "split": facts.split,
        "num_images": scores.num_images,
        "images_per_second": facts.images_per_second,
        "expert_precision": _mean([expert.precision for expert in experts]),
        "expert_recall": _mean([expert.recall for expert in experts]),
        "expert_auroc": _mean([expert.auroc for expert in experts]),
    }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _class_line(name: str, accuracy: float | None, expert: ExpertScores | None) -> list[str]:
    line = [name, _number(accuracy, 2)]
    if expert is not None:
        line += [_number(expert.precision, 3), _number(expert.recall, 3), _number(expert.auroc, 4)]
    return line


def align(lines: list[list[str]]) -> list[str]:
    """Return the lines of a table: its first column to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]


def render(facts: RunFacts, scores: Scores) -> str:
    """Return the scores as plain text; ``-`` stands for what the set cannot tell."""
    head = [
        ["model", facts.model],
        ["data set", f"{facts.dataset} ({facts.split})"],
        ["images", str(scores.num_images)],
        ["top-1", f"{scores.top1:.2f} %"],
        ["top-5", f"{scores.top5:.2f} %"],
        ["loss", f"{scores.loss:.4f}"],
        ["ECE", f"{scores.ece:.2f} %"],
        ["parameters", f"{facts.param_count:.2f} M"],
        ["MACs", f"{1000 * facts.gmacs:.1f} M an image"],
        ["image size", str(facts.img_size)],
        ["images/s", f"{facts.images_per_second:.0f}"],
    ]
    table = [["class", "accuracy %"] + (["precision", "recall", "AUROC"] if scores.experts else [])]
    experts = scores.experts or [None] * len(scores.per_class_accuracy)
    for (name, accuracy), expert in zip(scores.per_class_accuracy.items(), experts, strict=True):
        table.append(_class_line(name, accuracy, expert))
    width = max(len(label) for label, _ in head)
    lines = [*(f"{label.ljust(width)}  {value}" for label, value in head), "", *align(table)]
    if scores.experts:
        lines += ["", f"precision and recall of each class's own expert, at confidence {scores.experts[0].threshold}"]
    return "\n".join(lines)


def render_robustness(robust: RobustScores) -> str:
    """Return accuracies under attack, the checks that they stand on, and the router's table, as plain text."""
    pixels = f"{robust.epsilon:.4g}" + (f" ({robust.epsilon * 255:g}/255)" if robust.norm == "linf" else "")
    head = [f"under attack: {robust.num_images} images, {robust.norm}, epsilon {pixels}", ""]
    table = [["attack", "accuracy %"] + (["routes changed %"] if robust.routing else [])]
    table.append(["none", f"{robust.clean_top1:.2f}"] + (["-"] if robust.routing else []))
    for name, top1 in robust.robust_top1.items():
        table.append([name, f"{top1:.2f}"] + ([f"{robust.routing.flipped[name]:.2f}"] if robust.routing else []))
    checks = [f"{'passed' if c.passed else 'FAILED'}: {c.name} ({c.found})" for c in robust.checks]
    lines = [*head, *align(table), "", *checks]
    if robust.routing is not None:
        routing = robust.routing
        experts = [f"expert {expert} %" for expert in range(len(routing.use))]
        uses = [["class", *experts]]
        for name, use in routing.use_by_class.items():
            uses.append([name, *(_number(value, 1) for value in use or [None] * len(experts))])
        uses.append(["all", *(f"{value:.1f}" for value in routing.use)])
        lines += ["", *align(uses), "", f"router entropy  {routing.entropy:.3f} nats"]
    return "\n".join(lines)


def check_results_path(path: str | Path) -> Path:
    """Return the path of a results file that can be written.

    Raises:
        BadInput: if it ends in neither .json nor .csv, or see :func:`mocse_timm.evaluation.output_files.check_output`.
    """
    return check_output(path, (".json", ".csv"), "results file")


def _as_csv(row: dict[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    return text.getvalue()


def robust_row(robust: RobustScores) -> dict[str, Any]:
    """Return the columns that attacks add to a row of a results table."""
    row = {"attack_images": robust.num_images, "epsilon": robust.epsilon, "attack_norm": robust.norm}
    row |= {f"robust_{name}": round(top1, 4) for name, top1 in robust.robust_top1.items()}
    return row | {"checks_failed": "; ".join(check.name for check in robust.checks if not check.passed)}


def write_results(path: str | Path, row: dict[str, Any], scores: Scores, **more: Any) -> None:
    """Write a .csv with the one ``row``, or a .json with it and all scores; no half file is ever seen.

    Args:
        path: of the file.
        row: see :func:`result_row`.
        scores: on clean images.
        more: further parts of the .json by name, dataclasses or what JSON can hold; None is left out.

    Raises:
        BadInput: if the path cannot be used (see :func:`check_results_path`) or the disk refuses it.
    """
    path = check_results_path(path)
    if path.suffix == ".csv":
        text = _as_csv(row)
    else:
        parts = {"scores": scores} | {name: part for name, part in more.items() if part is not None}
        content = {
            name: asdict(part) if is_dataclass(part) and not isinstance(part, type) else part
            for name, part in parts.items()
        }
        text = json.dumps({"row": row} | content, indent=2, allow_nan=False) + "\n"
    write_whole(path, text, "results file")
