"""Trainings in pairs, and what they say together: two tables of the zoo.

A difference's error over the images tells nothing of another training. That over pairs of recipes which differ in the
network alone does: each is one draw. It tells nothing of other images, in turn, for all are scored on the same. How far
two trainings of one recipe lie apart is what chance alone does to one training's score.
"""

from collections.abc import Sequence
from statistics import fmean, stdev

from zoo_results import Recipe, Trained, as_text, mean_difference, require_recipes, shared_seeds

from mocse_timm.evaluation.comparison import Difference
from mocse_timm.hub.card_tables import table

__all__ = ["Pairs", "render_pairs", "render_repeats"]

Pairs = Sequence[Sequence[str]]
"""Names of recipes in twos, each with its baseline's."""


def _clean(ours: Trained, theirs: Trained) -> float:
    return ours.results.scores.top1 - theirs.results.scores.top1


def _named(pairs: Pairs, recipes: dict[str, Recipe], where: str) -> list[tuple[Recipe, Recipe]]:
    for names in pairs:
        require_recipes(names, recipes, where)
    return [(recipes[ours], recipes[theirs]) for ours, theirs in pairs]


def _mean(values: Sequence[float], of: int) -> str:
    """Return the mean and its standard error over the values, and how many they are, if not all."""
    error = f" ± {stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    few = f" ({len(values)} of them)" if len(values) < of else ""
    return f"{fmean(values):+.2f}{error}{few}" if values else ""


def _means(found: Sequence[Sequence[Difference | None]]) -> str:
    """Return the mean over pairs of recipes of each one's mean over its seeds."""
    known = [[seed.points for seed in seeds if seed is not None] for seeds in found]
    return _mean([fmean(points) for points in known if points], len(found))


def render_pairs(pairs: Pairs, recipes: dict[str, Recipe]) -> str:
    """Return the differences of all pairs and seeds in Markdown, and their mean; empty if no pair is trained.

    "clean" are all images of the validation set, "15" the mean under the benchmark's corruptions, and then follow the
    images of the 15 without corruption. ± is one standard error: over the images in the row of a pair and seed, over
    the pairs in the last but one, where a pair with two seeds counts once. The last row has the error of the same means
    over the images, which all pairs share.

    Raises:
        BadInput: if a pair names a recipe that is not in the plan.
    """
    trained = [pair for pair in _named(pairs, recipes, "a pair") if shared_seeds(*pair)]
    if not trained:
        return ""
    groups = [shared_seeds(*pair) for pair in trained]
    sets = ("benchmark", "clean")
    found = {which: [[mean_difference([[seed]], which) for seed in group] for group in groups] for which in sets}
    lines = [["pair", "seed", "clean", "15", "clean, images of the 15"]]
    for row, (ours, theirs) in enumerate(trained):
        for place, seed in enumerate(groups[row]):
            scores = [as_text(found[which][row][place]) for which in sets]
            cells = [str(seed[0].run.seed), f"{_clean(*seed):+.2f}", *scores]
            lines.append([f"`{ours.name}` less `{theirs.name}`", *cells])
    clean = [fmean(_clean(*seed) for seed in group) for group in groups]
    how_many = f"{len(groups)} pair{'s' * (len(groups) > 1)}"
    lines.append(
        [f"mean of {how_many}, ± over them", "", _mean(clean, len(clean)), *(_means(found[which]) for which in sets)]
    )
    over_images = [mean_difference(groups, which) for which in sets]
    if any(over_images):
        lines.append(["the same, ± over the images", "", "", *map(as_text, over_images)])
    return f"**Over all pairs of recipes that differ in the network alone**\n\n{table(*lines)}"


def render_repeats(again: Pairs, recipes: dict[str, Recipe]) -> str:
    """Return in Markdown how far trainings of one recipe lie apart; empty if none was trained twice.

    A recipe's further seeds less its first, and then recipes trained ``again``, with the same seed on another machine.
    The last row has the root mean square of each column: what a difference between two single trainings has to exceed.

    Raises:
        BadInput: if ``again`` names a recipe that is not in the plan.
    """
    lines = [["trainings of one recipe", "clean", "15", "PGD, 50 steps"]]
    seen = list[list[float | None]]()

    def add(title: str, ours: Trained, theirs: Trained) -> None:
        found = [mean_difference([[(ours, theirs)]], which) for which in ("benchmark", "pgd50")]
        lines.append([title, f"{_clean(ours, theirs):+.2f}", *map(as_text, found)])
        seen.append([_clean(ours, theirs), *(None if each is None else each.points for each in found)])

    for recipe in recipes.values():
        for seed, trained in list(recipe.trained.items())[1:]:
            add(f"`{recipe.name}`, seed {seed} less {recipe.first.run.seed}", trained, recipe.first)
    for ours, theirs in _named(again, recipes, "a pair of repeated trainings"):
        for mine, other in shared_seeds(ours, theirs):
            add(f"`{ours.name}` less `{theirs.name}`, seed {mine.run.seed}", mine, other)
    if not seen:
        return ""
    squares = [[points**2 for points in column if points is not None] for column in zip(*seen, strict=True)]
    roots = [f"{fmean(column) ** 0.5:.2f}" if column else "" for column in squares]
    lines.append(["root mean square", *roots])
    return f"**How much of a difference is chance? Two trainings of one recipe**\n\n{table(*lines)}"
