"""Scores under corruption for people: a table on the screen, a Markdown table, columns of a results table."""

from typing import Any

from mocse_timm.corruptions.names import BENCHMARK, CORRUPTIONS, GROUPS, SEVERITIES
from mocse_timm.evaluation.comparison import Comparison, Difference
from mocse_timm.evaluation.corruption_scores import CorruptionScores, Mean
from mocse_timm.evaluation.failure_signs import Verdict
from mocse_timm.evaluation.report import align

__all__ = ["corruption_row", "markdown_corruptions", "mean_label", "render_corruptions", "shown_means"]

NAMES = {"benchmark": "of RobustBench's 15", "all": "of all 19"}


def _signed(difference: Difference | None) -> str:
    return "-" if difference is None else f"{difference.points:+.2f} ± {difference.standard_error:.2f}"


def mean_label(which: str, mean: Mean) -> str:
    """Name a mean so that an incomplete one cannot pass for a complete one."""
    scored, wanted = mean.corruptions.split(" of ")
    if which in GROUPS:
        return which if scored == wanted else f"{which} ({mean.corruptions})"
    return f"mean of {'the ' + wanted if scored == wanted else mean.corruptions}"


def shown_means(scores: CorruptionScores) -> list[str]:
    """Return the means worth showing: not that of all 19 where it would repeat that of the 15."""
    extra = set(scores.corruptions) - set(BENCHMARK)
    shown = [which for which in ("benchmark", "all") if scores.mean(which) is not None]
    return shown if extra or "benchmark" not in shown else ["benchmark"]


def _table(scores: CorruptionScores, comparison: Comparison | None) -> tuple[list[list[str]], set[int]]:
    """Return the lines of the table, the header first, and which of them are means."""
    lines = [["accuracy %", *map(str, scores.severities), "mean", "ECE %"]]
    if comparison is not None:
        lines[0].append("difference")
    means: set[int] = set()

    def add_mean(which: str) -> None:
        mean = scores.mean(which)
        if mean is None:
            return
        values = [*mean.by_severity.values(), mean.top1, mean.ece]
        means.add(len(lines))
        lines.append([mean_label(which, mean), *(f"{value:.2f}" for value in values)])
        if comparison is not None:
            lines[-1].append(_signed(comparison.means.get(which)))

    for group, names in GROUPS.items():
        for name in names:
            if name not in scores.corruptions:
                continue
            row = scores.corruptions.index(name)
            values = [*scores.top1[row], scores.top1[row].mean(), scores.ece[row].mean()]
            lines.append([name, *(f"{value:.2f}" for value in values)])
            if comparison is not None:
                lines[-1].append(_signed(comparison.by_corruption.get(name)))
        add_mean(group)
    for which in shown_means(scores):
        add_mean(which)
    return lines, means


def _about(scores: CorruptionScores) -> list[str]:
    """Return sentences on what was scored."""
    lines = [
        f"Corruptions: {scores.source}; {len(scores.corruptions)} of {len(CORRUPTIONS)}, "
        f"{scores.num_images} images of {scores.dataset} ({scores.split}) in each cell."
    ]
    if "frost" in scores.missing and set(BENCHMARK) - {"frost"} <= set(scores.corruptions):
        lines.append("Frost is left out: means are over the others.")
    if set(scores.severities) != set(SEVERITIES):
        lines.append(f"Severities {', '.join(map(str, scores.severities))} alone: means are over these.")
    same = "the same images" if scores.clean_correct is not None else f"all {scores.clean_images} images"
    lines.append(f"Clean, on {same}: {scores.clean_top1:.2f} %, ECE {scores.clean_ece:.2f} %.")
    for which in shown_means(scores):
        mean = scores.mean(which)
        if mean is not None and mean.standard_error is not None:
            lines.append(
                f"Corrupted, {mean_label(which, mean)}: {mean.top1:.2f} ± {mean.standard_error:.2f} %, "
                f"ECE {mean.ece:.2f} %."
            )
    return lines


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f} %"


def _against(comparison: Comparison, verdict: Verdict) -> list[str]:
    """Return sentences on how the model stands against the baseline."""
    how = "binomial, for the two models did not see the same images"
    if comparison.paired:
        how = f"paired over the {comparison.num_images} images that both saw"
        if not comparison.clean_paired:
            how += " corrupted, binomial on clean images, for which of those they are is not known"
    lines = [
        f"Against {comparison.baseline} (corruptions: {comparison.source}): clean {_signed(comparison.clean)} points; "
        f"standard errors are {how}, and tell nothing of other training seeds."
    ]
    for which in ("benchmark", "all"):
        if which not in comparison.means or (which == "all" and "benchmark" in comparison.means and _same(comparison)):
            continue
        lines.append(
            f"Corrupted, {NAMES[which]} ({comparison.coverage[which]} are in both): {_signed(comparison.means[which])} "
            f"points, mCE {_percent(comparison.mce[which])}, relative mCE {_percent(comparison.relative_mce[which])}."
        )
    lines.append(
        f"Effective robustness (points gained corrupted minus points gained clean): "
        f"{_signed(comparison.effective_robustness)}."
    )
    lines.append(f"Verdict: {verdict.words}.")
    return lines


def _same(comparison: Comparison) -> bool:
    return set(comparison.by_corruption) <= set(BENCHMARK)


def render_corruptions(
    scores: CorruptionScores, comparison: Comparison | None = None, verdict: Verdict | None = None
) -> str:
    """Return the table and what it says as plain text."""
    lines, _ = _table(scores, comparison)
    text = ["under corruption", "", *align(lines), "", *_about(scores)]
    if comparison is not None and verdict is not None:
        text += ["", *_against(comparison, verdict)]
    return "\n".join(text)


def markdown_corruptions(
    model: str, scores: CorruptionScores, comparison: Comparison | None = None, verdict: Verdict | None = None
) -> str:
    """Return the same in Markdown, means in bold."""
    lines, means = _table(scores, comparison)
    rows = [[f"**{cell}**" for cell in line] if number in means else line for number, line in enumerate(lines)]
    rows.insert(1, ["---", *["---:"] * (len(lines[0]) - 1)])
    text = [f"### {model} under common corruptions", ""]
    text += ["| " + " | ".join(row) + " |" for row in rows]
    text += ["", *(f"- {sentence}" for sentence in _about(scores))]
    if comparison is not None and verdict is not None:
        text += [f"- {sentence}" for sentence in _against(comparison, verdict)]
    return "\n".join(text) + "\n"


def corruption_row(
    scores: CorruptionScores, comparison: Comparison | None = None, verdict: Verdict | None = None
) -> dict[str, Any]:
    """Return the columns that corruptions add to a row of a results table.

    Beside every mean over the 15 or the 19 stands how many of them it is over; it is empty where none was scored.
    """
    row: dict[str, Any] = {
        "corruption_source": scores.source,
        "corruption_images": scores.num_images,
        "corruption_severities": " ".join(map(str, scores.severities)),
        "corruption_clean_top1": scores.clean_top1,
    }
    for which, number in (("benchmark", 15), ("all", 19)):
        mean = scores.mean(which)
        row |= {
            f"corruptions_{number}": mean and mean.corruptions,
            f"corrupted_{number}_top1": mean and mean.top1,
            f"corrupted_{number}_se": mean and mean.standard_error,
            f"corrupted_{number}_ece": mean and mean.ece,
        }
    for severity in SEVERITIES:
        column = scores.severities.index(severity) if severity in scores.severities else None
        row[f"severity_{severity}_top1"] = None if column is None else float(scores.top1[:, column].mean())
    for group in GROUPS:
        mean = scores.mean(group)
        row[f"{group}_top1"] = mean and mean.top1
    for name in CORRUPTIONS:
        place = scores.corruptions.index(name) if name in scores.corruptions else None
        row[f"{name}_top1"] = None if place is None else float(scores.top1[place].mean())
    if comparison is not None and verdict is not None:
        which = "benchmark" if "benchmark" in comparison.means else "all"
        row |= {
            "baseline": comparison.baseline,
            "clean_difference": comparison.clean.points,
            "clean_difference_se": comparison.clean.standard_error,
            "corrupted_difference": comparison.means[which].points,
            "corrupted_difference_se": comparison.means[which].standard_error,
            "mce": comparison.mce[which],
            "relative_mce": comparison.relative_mce[which],
            "effective_robustness": comparison.effective_robustness.points,
            "effective_robustness_se": comparison.effective_robustness.standard_error,
            "verdict": verdict.words,
        }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
