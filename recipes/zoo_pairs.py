"""Trainings in pairs whose recipes differ in the network alone, and what they say together: a table of the zoo.

A difference's error over the images tells nothing of another training. That over all pairs does: each is one draw. It
tells nothing of other images, in turn, for all pairs are scored on the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import yaml
from zoo_results import Recipe, as_text, difference, mean_difference, require_recipes

from mocse_timm.hub.card_tables import table

__all__ = ["Pairs", "read_pairs", "render_pairs"]

Pairs = list[tuple[str, str]]
"""Names of recipes, each with its baseline's."""


def read_pairs(plan: Path) -> Pairs:
    """Return the pairs of ``plan``; none if it names none."""
    found = yaml.safe_load(plan.read_text(encoding="utf-8")).get("pairs", [])
    return [(ours, theirs) for ours, theirs in found]


def _mean(differences: Sequence[float | None]) -> str:
    values = [points for points in differences if points is not None]
    error = f" ± {stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    few = f" ({len(values)} of them)" if 0 < len(values) < len(differences) else ""
    return f"{fmean(values):+.2f}{error}{few}" if values else ""


def _one_seed(recipe: Recipe, seed: int) -> Recipe:
    return replace(recipe, trained={seed: recipe.trained[seed]})


def render_pairs(pairs: Pairs, recipes: dict[str, Recipe]) -> str:
    """Return the differences of all pairs and seeds in Markdown, and their mean; empty if no pair is trained.

    "clean" are all images of the validation set, "15" the mean under the benchmark's corruptions, and then follow the
    images of the 15 without corruption. ± is one standard error: over the images in a pair's row, over the pairs in the
    last but one. The last row has the error of the same means over the images, which all pairs share.

    Raises:
        BadInput: if a pair names a recipe that is not in the plan.
    """
    drawn = list[tuple[int, Recipe, Recipe]]()
    for names in pairs:
        require_recipes(names, recipes, "a pair")
        ours, theirs = (recipes[name] for name in names)
        seeds = [seed for seed in ours.trained if seed in theirs.trained]
        drawn += [(seed, _one_seed(ours, seed), _one_seed(theirs, seed)) for seed in seeds]
    if not drawn:
        return ""
    clean = [ours.first.results.scores.top1 - theirs.first.results.scores.top1 for _, ours, theirs in drawn]
    columns = [[difference(ours, theirs, which) for _, ours, theirs in drawn] for which in ("benchmark", "clean")]
    lines = [["pair", "seed", "clean", "15", "clean, images of the 15"]]
    for (seed, ours, theirs), points, *found in zip(drawn, clean, *columns, strict=True):
        lines.append([f"`{ours.name}` less `{theirs.name}`", str(seed), f"{points:+.2f}", *map(as_text, found)])
    means = [_mean([None if found is None else found.points for found in column]) for column in columns]
    lines.append([f"mean of {len(drawn)}, ± over them", "", _mean(clean), *means])
    over_images = [mean_difference([(o, t) for _, o, t in drawn], which) for which in ("benchmark", "clean")]
    if any(over_images):
        lines.append(["the same, ± over the images", "", "", *map(as_text, over_images)])
    return f"**Over all pairs of trainings whose recipes differ in the network alone**\n\n{table(*lines)}"
