"""The results of the zoo's trainings, read from the folder of cards, and differences between two recipes.

Letters: S seeds, N images, K x V cells of corruptions and severities.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from zoo_plan import RESULTS, Run, planned

from mocse_timm.checks import BadInput
from mocse_timm.evaluation.comparison import Difference, same_images
from mocse_timm.evaluation.corruption_scores import MEANS, standard_error
from mocse_timm.evaluation.image_answers import unpack
from mocse_timm.hub.facts import Facts, read_facts
from mocse_timm.hub.results import Results, read_results

__all__ = [
    "Recipe",
    "Trained",
    "as_text",
    "difference",
    "mean_difference",
    "read_recipes",
    "require_recipes",
    "shared_seeds",
    "training_minutes",
]


@dataclass(frozen=True)
class Trained:
    """One training of a recipe, as its files tell."""

    run: Run
    facts: Facts
    results: Results
    minutes: float
    """That training took, validation and saving left out."""


@dataclass(frozen=True)
class Recipe:
    """A recipe and those of its trainings that are done, by seed."""

    name: str
    file: Path
    trained: dict[int, Trained]

    @property
    def first(self) -> Trained:
        """The training whose model has the card."""
        return next(iter(self.trained.values()))


def require_recipes(names: Iterable[str], recipes: dict[str, Recipe], where: str) -> None:
    """Refuse names that are not in ``recipes``, used ``where`` says.

    Raises:
        BadInput: that names the first of them.
    """
    for name in names:
        if name not in recipes:
            raise BadInput(f"{where} names {name!r}, which is no recipe of the plan")


def as_text(found: Difference | None) -> str:
    """Return points and standard error; nothing of None."""
    return "" if found is None else f"{found.points:+.2f} ± {found.standard_error:.2f}"


def training_minutes(summary: Path, images: int) -> float:
    """Return the minutes that training on ``images`` an epoch takes, all epochs as fast as the fastest in summary.csv.

    The slower ones shared the machine with other work, or were halted.

    Raises:
        BadInput: if the file is missing, or has no such speeds.
    """
    try:
        with summary.open(newline="") as file:
            speeds = [float(row["train_images_per_second"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{summary} does not tell how fast a training was ({error!r}): copy that of the run") from None
    if not speeds or max(speeds) <= 0:
        raise BadInput(f"{summary} does not tell how fast a training was: copy that of the run")
    return len(speeds) * images / max(speeds) / 60


def _read(run: Run, cards: Path) -> Trained | None:
    folder = run.card(cards)
    if not (folder / RESULTS[0]).is_file():
        return None
    facts = read_facts(folder)
    minutes = training_minutes(folder / "summary.csv", int(facts.content["mocse_timm"]["train_images"]))
    return Trained(run, facts, read_results(folder), minutes)


def read_recipes(plan: Path, cards: Path) -> dict[str, Recipe]:
    """Return every recipe of ``plan`` by name, with the trainings that have results in ``cards``.

    Raises:
        BadInput: if a file of results is there and cannot be used.
    """
    recipes: dict[str, Recipe] = {}
    for run in planned(plan):
        file = plan.parent / "zoo" / f"{run.name}.yaml"
        recipe = recipes.setdefault(run.name, Recipe(run.name, file, {}))
        trained = _read(run, cards)
        if trained is not None:
            recipe.trained[run.seed] = trained
    return recipes


def _same_images(ours: Results, theirs: Results, which: str) -> bool:
    """Return whether both models saw the same pixels; what an older report does not say is taken to be equal."""
    rows = [(results.row.dataset, results.row.split, results.row.img_size) for results in (ours, theirs)]
    if rows[0] != rows[1]:
        return False
    attacked = [results.robustness for results in (ours, theirs)]
    if any(robust is not None and which in robust.correct for robust in attacked):
        facts = [(r.images, r.norm, r.epsilon, r.options.get(which)) for r in attacked if r is not None]
        digests = {robust.clean_sha256 for robust in attacked if robust is not None} - {None}
        return len(facts) == 2 and facts[0] == facts[1] and len(digests) < 2
    a, b = ours.corruptions, theirs.corruptions
    if a is None or b is None or (a.corruptions, a.severities) != (b.corruptions, b.severities):
        return False
    return same_images(a, b)


def _answers(results: Results, which: str) -> NDArray[np.float64] | None:
    """Return (N,) how often each image was named right; None if that was not kept.

    Nor is there a mean over a part of its corruptions or severities: it would pass for the whole.
    """
    robust, scores = results.robustness, results.corruptions
    if robust is not None and robust.images and which in robust.correct:
        return unpack(robust.correct[which], robust.num_images).astype(float)
    if scores is None or (which != "clean" and which not in MEANS):
        return None
    if which == "clean":
        return None if scores.clean_correct is None else scores.clean_correct.astype(float)
    mean = scores.mean(which)
    if mean is None or not mean.complete:
        return None
    found = scores.only(MEANS[which]).per_image()
    return found


def shared_seeds(ours: Recipe, theirs: Recipe) -> list[tuple[Trained, Trained]]:
    """Return the trainings of the seeds that both recipes have, side by side."""
    return [(trained, theirs.trained[seed]) for seed, trained in ours.trained.items() if seed in theirs.trained]


def difference(ours: Recipe, theirs: Recipe, which: str) -> Difference | None:
    """Return by how many points ``ours`` is better than its baseline: :func:`mean_difference` over the shared seeds."""
    return mean_difference([shared_seeds(ours, theirs)], which)


def mean_difference(groups: Iterable[Sequence[tuple[Trained, Trained]]], which: str) -> Difference | None:
    """Return by how many points trainings are better than their baselines, with its standard error over the images.

    Each is compared with its baseline image by image. The (S, N) differences of a group are averaged over its S pairs,
    those of all groups over the groups, and the error is that of the mean of the N numbers left. It says nothing of
    other trainings.

    Args:
        groups: trainings, each with its baseline; those of one group count together as much as those of another.
        which: a set of :data:`MEANS`, or ``clean``: the same images uncorrupted; or an attack, or ``none``: the same
            images before it.

    Returns:
        None if there are none, or not all were scored on the same images, under all of the set's corruptions at all
        severities.
    """
    rows, scored = list[NDArray[np.float64]](), list[Results]()
    for group in filter(None, groups):
        results = [trained.results for pair in group for trained in pair]
        found = [_answers(each, which) for each in results]
        right = [each for each in found if each is not None]
        if len(right) < len(found):
            return None
        scored += results
        rows.append(np.mean(right[::2], axis=0) - np.mean(right[1::2], axis=0))
    if not rows or not all(_same_images(*pair, which) for pair in combinations(scored, 2)):
        return None
    values = np.mean(rows, axis=0)
    error = standard_error(values)
    return None if error is None else Difference(100 * float(values.mean()), error)
