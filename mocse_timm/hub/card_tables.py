"""The tables of a card, in Markdown; each is empty where its scores were not measured."""

import re
from collections.abc import Sequence
from typing import Any

from mocse_timm.corruptions.names import GROUPS
from mocse_timm.evaluation.comparison import Comparison, Difference
from mocse_timm.evaluation.corruption_report import mean_label, shown_means
from mocse_timm.evaluation.corruption_scores import CorruptionScores
from mocse_timm.evaluation.robustness import RobustScores
from mocse_timm.hub.card_scores import attack_title, budget
from mocse_timm.hub.results import Results

__all__ = [
    "against_baseline",
    "at_a_glance",
    "by_class",
    "by_corruption",
    "by_group",
    "millions",
    "router_by_class",
    "speed",
    "table",
    "under_attack",
]

MARKS = re.compile(r"[\\`*_\[\]<>&~]")  # what Markdown reads inside a cell; the bar between cells is :func:`table`'s
MEANS = {"benchmark": 15, "all": 19}


def table(header: Sequence[str], *lines: Sequence[str]) -> str:
    """Return a Markdown table: its first column to the left, numbers to the right."""

    def line(cells: Sequence[str]) -> str:
        plain = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(plain)} |"

    return "\n".join([line(header), line(["---", *["---:"] * (len(header) - 1)]), *map(line, lines)])


def speed(per_second: float) -> str:
    """Return images a second as a card says them: whole from 100 on, below with a decimal, for 84 would be a count."""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.1f}"


def millions(count: int) -> str:
    """Return ``count`` in millions, three digits of it."""
    value = count / 1e6
    return f"{value:.2f} M" if value < 10 else f"{value:.1f} M" if value < 100 else f"{value:,.0f} M"


def _plus_minus(value: float, error: float | None) -> str:
    return f"{value:.2f}" if error is None else f"{value:.2f} ± {error:.2f}"


def at_a_glance(results: Results) -> str:
    """Return the main scores and costs in one line."""
    cost = results.computation
    cells = {"clean": f"{results.scores.top1:.2f} %"}
    if results.corruptions is not None:
        for which in shown_means(results.corruptions):
            mean = results.corruptions.mean(which)
            assert mean is not None, "only means that were scored are shown"
            title = f"{mean_label(which, mean)} corruptions"
            cells[title] = f"{_plus_minus(mean.top1, mean.standard_error)} %"
    if results.robustness is not None:
        robust = results.robustness
        for name, top1 in robust.robust_top1.items():
            if name != "router":
                cells[f"{attack_title(name)}, {budget(robust)}"] = f"{top1:.2f} %"
    cells["parameters"], cells["MACs"] = millions(cost.parameters), millions(cost.macs)
    return table(list(cells), list(cells.values()))


def by_group(scores: CorruptionScores | None) -> str:
    """Return the accuracy at every severity, for the groups of corruptions and all together."""
    if scores is None:
        return ""
    lines = []
    for which in (*GROUPS, *shown_means(scores)):
        mean = scores.mean(which)
        if mean is not None:
            values = [*(f"{value:.2f}" for value in mean.by_severity.values()), f"{mean.top1:.2f}"]
            bold = "**" if which in MEANS else ""
            lines.append([f"{bold}{cell}{bold}" for cell in (mean_label(which, mean), *values)])
    return table(["accuracy % at severity", *map(str, scores.severities), "all"], *lines)


def by_corruption(scores: CorruptionScores | None) -> str:
    """Return the accuracy of every corruption at every severity."""
    if scores is None:
        return ""
    lines = [
        [name.replace("_", " "), *(f"{value:.2f}" for value in line), f"{line.mean():.2f}"]
        for name, line in zip(scores.corruptions, scores.top1, strict=True)
    ]
    return table(["accuracy % at severity", *map(str, scores.severities), "all"], *lines)


def _difference(difference: Difference | None) -> tuple[str, str]:
    return ("", "") if difference is None else (f"{difference.points:+.2f}", f"{difference.standard_error:.2f}")


def against_baseline(comparison: Comparison | None) -> str:
    """Return the differences from the baseline, in points, with their standard errors."""
    if comparison is None:
        return ""
    columns: dict[str, Difference] = {"clean": comparison.clean}
    for which, number in MEANS.items():
        if which in comparison.means:
            columns[str(number)] = comparison.means[which]
    columns |= {group: comparison.means[group] for group in GROUPS if group in comparison.means}
    points, errors = zip(*map(_difference, columns.values()), strict=True)
    return table(["points", *columns], ["difference", *points], ["its standard error", *errors])


def under_attack(robust: RobustScores | None) -> str:
    """Return the accuracy under every attack, and what each did to the routes."""
    if robust is None:
        return ""
    routing = robust.routing
    lines = [["none", f"{robust.clean_top1:.2f}"] + ([""] if routing else [])]
    for name, top1 in robust.robust_top1.items():
        flipped = routing.flipped.get(name) if routing else None
        lines.append([attack_title(name), f"{top1:.2f}"] + ([_number(flipped, 2)] if routing else []))
    return table(["attack", "accuracy %"] + (["routes changed %"] if routing else []), *lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _plain(name: str) -> str:
    """Return a class's name so that Markdown shows its characters: none makes words bold, a link or a tag."""
    return MARKS.sub(r"\\\g<0>", name)


def by_class(results: Results) -> str:
    """Return the accuracy of every class, and where each has an expert, how well that tells it from the rest."""
    experts: list[Any] = list(results.scores.experts or [])
    classes = results.scores.per_class_accuracy
    header = ["class", "accuracy %"] + (["precision", "recall", "AUROC"] if experts else [])
    lines = []
    for place, (name, accuracy) in enumerate(classes.items()):
        line = [_plain(name), _number(accuracy, 2)]
        if experts:
            expert = experts[place] if place < len(experts) else None
            values = (expert.precision, expert.recall, expert.auroc) if expert else (None, None, None)
            line += [_number(value, 3) for value in values]
        lines.append(line)
    return table(header, *lines)


def router_by_class(robust: RobustScores | None) -> str:
    """Return the share of each class's images that the router sends to each expert; empty for one without images."""
    if robust is None or robust.routing is None:
        return ""
    routing = robust.routing
    unknown = [None] * len(routing.use)
    uses = routing.use_by_class.items()
    lines = [[_plain(name), *(_number(value, 1) for value in use or unknown)] for name, use in uses]
    lines.append(["**all**", *(f"**{value:.1f}**" for value in routing.use)])
    return table(["class", *(f"expert {place} %" for place in range(len(routing.use)))], *lines)
