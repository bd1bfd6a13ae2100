"""Trainings in pairs whose recipes differ in the network alone, and what they say together: a table of the zoo.

A difference's error over the images tells nothing of another training. That over all pairs does: each is one draw.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import yaml
from zoo_results import Recipe, as_text, difference, require_recipes

from mocse_timm.hub.card_tables import table

__all__ = ["Pairs", "read_pairs", "render_pairs"]

Pairs = list[tuple[str, str]]
"""Names of recipes, each with its baseline's."""


def read_pairs(plan: Path) -> Pairs:
    """Return the pairs of ``plan``; none if it names none."""
    found = yaml.safe_load(plan.read_text(encoding="utf-8")).get("pairs", [])
    return [(ours, theirs) for ours, theirs in found]


def _mean(values: Sequence[float]) -> str:
    error = f" ± {stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    return f"{fmean(values):+.2f}{error}" if values else ""


def render_pairs(pairs: Pairs, recipes: dict[str, Recipe]) -> str:
    """Return the differences of all pairs and seeds in Markdown, and their mean; empty if no pair is trained.

    ± is one standard error, over the images in a pair's row, over the pairs in the last. "clean" are all images of the
    validation set, "15" the mean under the benchmark's corruptions.

    Raises:
        BadInput: if a pair names a recipe that is not in the plan.
    """
    lines, clean, corrupted = [["pair", "seed", "clean", "15"]], list[float](), list[float]()
    for names in pairs:
        require_recipes(names, recipes, "a pair")
        ours, theirs = (recipes[name] for name in names)
        for seed in (seed for seed in ours.trained if seed in theirs.trained):
            one, other = (replace(recipe, trained={seed: recipe.trained[seed]}) for recipe in (ours, theirs))
            clean.append(one.first.results.scores.top1 - other.first.results.scores.top1)
            found = difference(one, other, "benchmark")
            corrupted += [] if found is None else [found.points]
            lines.append([f"`{ours.name}` less `{theirs.name}`", str(seed), f"{clean[-1]:+.2f}", as_text(found)])
    if not clean:
        return ""
    lines.append([f"mean of {len(clean)}, ± over them", "", _mean(clean), _mean(corrupted)])
    return f"**Over all pairs of trainings whose recipes differ in the network alone**\n\n{table(*lines)}"
