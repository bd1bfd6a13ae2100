"""``validate.py --corruptions``: what was asked for, checked before the scoring, and what comes out of it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mocse_timm.checkpoints.by_name import run_folder
from mocse_timm.checks import BadInput
from mocse_timm.evaluation.baseline import Baseline, check_comparable, read_baseline
from mocse_timm.evaluation.comparison import Comparison, compare
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.corruption_json import to_json
from mocse_timm.evaluation.corruption_report import corruption_row, markdown_corruptions, render_corruptions
from mocse_timm.evaluation.corruption_scores import CorruptionScores
from mocse_timm.evaluation.corruption_setup import parse_corruptions, parse_severities
from mocse_timm.evaluation.corruption_source import Source
from mocse_timm.evaluation.failure_signs import Verdict, judge
from mocse_timm.evaluation.heatmap import as_png, draw_heatmap, require_matplotlib
from mocse_timm.evaluation.output_files import check_output, write_whole
from mocse_timm.evaluation.robustbench import check_complete, robustbench_info
from mocse_timm.evaluation.settings import refuse_idle

__all__ = [
    "CorruptionResults",
    "check_corruption_flags",
    "check_source",
    "corruption_results",
    "short_name",
    "write_corruption_files",
]

OUTPUTS = {"corruption_table": ".md", "heatmap": ".png", "robustbench_json": ".json"}
# Flags that mean nothing without --corruptions. Left out are those that say where and how: a plan of several scorings
# may give all of them the folder of frost's pictures.
IDLE = (
    "baseline",
    *OUTPUTS,
    "severities",
    "corruption_images",
    "corruption_source",
    "corruptions_dir",
    "corruption_seed",
)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def check_corruption_flags(config: ValidateConfig) -> Baseline | None:
    """Return the baseline, if one is named, after a look at every flag about corruptions.

    Raises:
        BadInput: if one cannot be used, or a file cannot be written.
    """
    if not config.corruptions:
        refuse_idle(config, IDLE, about="corruptions", needed="--corruptions all")
        return None
    if config.corruption_source == "generated" and config.corruptions_dir is not None:
        raise BadInput(
            f"--corruptions-dir {config.corruptions_dir} is of an archive, --corruption-source generated uses none; "
            "leave one out"
        )
    names, severities = parse_corruptions(config.corruptions), parse_severities(config.severities)
    for name, ending in OUTPUTS.items():
        if getattr(config, name) is not None:
            check_output(getattr(config, name), (ending,), f"file of {_flag(name)}")
    if config.heatmap is not None:
        require_matplotlib()
    if config.robustbench_json is not None:
        check_complete(names, severities)
    return None if config.baseline is None else read_baseline(config.baseline)


def check_source(config: ValidateConfig, source: Source, baseline: Baseline | None, dataset: str) -> None:
    """Raise BadInput if what ``source`` can give is not enough for the files or the comparison asked for."""
    if config.robustbench_json is not None:
        check_complete(source.corruptions, source.severities)
    if baseline is not None:
        check_comparable(
            baseline,
            dataset=dataset,
            split=config.split,
            corruptions=source.corruptions,
            severities=source.severities,
            side=source.side,
        )


@dataclass(frozen=True)
class CorruptionResults:
    """Scores under corruption, and how they stand against a baseline, if there is one."""

    scores: CorruptionScores
    comparison: Comparison | None = None
    verdict: Verdict | None = None

    def text(self) -> str:
        """Return the table for the screen."""
        return render_corruptions(self.scores, self.comparison, self.verdict)

    def row(self) -> dict[str, Any]:
        """Return the columns for a results table."""
        return corruption_row(self.scores, self.comparison, self.verdict)

    def json(self) -> dict[str, Any]:
        """Return everything, as JSON can hold it."""
        content = to_json(self.scores)
        if self.comparison is not None and self.verdict is not None:
            content["comparison"] = asdict(self.comparison) | {"verdict": asdict(self.verdict)}
        return content


def short_name(model: str) -> str:
    """Return the name for tables and pictures: of a folder only its last part, never where it lies on this machine."""
    folder = run_folder(model)
    return model if folder is None else folder.resolve().name


def corruption_results(scores: CorruptionScores, baseline: Baseline | None) -> CorruptionResults:
    """Compare ``scores`` with ``baseline``, if there is one."""
    if baseline is None:
        return CorruptionResults(scores)
    comparison = compare(scores, baseline.scores, short_name(baseline.model))
    corrupted = comparison.means.get("benchmark", comparison.means["all"])
    against_dense = scores.mixture and not baseline.scores.mixture
    verdict = judge(comparison.clean, corrupted, mixture_against_dense=against_dense)
    return CorruptionResults(scores, comparison, verdict)


def write_corruption_files(
    config: ValidateConfig, results: CorruptionResults, *, architecture: str, clean_top1: float
) -> list[Path]:
    """Write the table, the picture and RobustBench's file, those that were asked for; return where they are."""
    name, made = short_name(config.model), {}
    if config.corruption_table is not None:
        table = markdown_corruptions(name, results.scores, results.comparison, results.verdict)
        made[Path(config.corruption_table)] = table
    if config.heatmap is not None:
        made[Path(config.heatmap)] = as_png(draw_heatmap(name, results.scores, results.comparison))
    if config.robustbench_json is not None:
        info = robustbench_info(results.scores, architecture=architecture, clean_top1=clean_top1)
        made[Path(config.robustbench_json)] = info
    for path, content in made.items():
        write_whole(path, content, "file")
    return list(made)
