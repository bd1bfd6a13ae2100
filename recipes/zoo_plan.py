"""The plan of the zoo, recipes/zoo.yaml: what is trained, in which order, and what is compared with what."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mocse_timm.checks import BadInput
from mocse_timm.hub.typed_json import from_json

__all__ = ["RESULTS", "Plan", "Run", "Table", "planned", "read_plan"]

RESULTS = ("results.json", "config.json", "summary.csv")  # the first is copied last: where it is, all are


@dataclass(frozen=True)
class Run:
    """One training of one recipe."""

    name: str
    seed: int
    first: bool
    """Whether its seed is the recipe's first, whose model gets the card."""
    score: str
    """The flags to score it with: a file in recipes/score."""

    @property
    def folder(self) -> str:
        """Its folder among the trainings."""
        return f"{self.name}-seed{self.seed}"

    def card(self, cards: Path) -> Path:
        """Return where its results are kept."""
        return cards / self.name if self.first else cards / self.name / f"seed{self.seed}"


@dataclass(frozen=True)
class Table:
    """What is compared with what: names of recipes."""

    title: str
    baseline: str
    rows: list[str]


@dataclass(frozen=True)
class _Trainings:
    """Of one recipe."""

    seeds: list[int]
    score: str
    later: int = 0


@dataclass(frozen=True)
class Plan:
    """All of zoo.yaml."""

    recipes: dict[str, _Trainings]
    pairs: list[list[str]] = field(default_factory=list)
    again: list[list[str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def read_plan(file: Path) -> Plan:
    """Return the plan in ``file``.

    Raises:
        BadInput: if it cannot be read, or is no plan.
    """
    try:
        plan = from_json(Plan, yaml.safe_load(file.read_text(encoding="utf-8")), "the plan")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadInput(f"{file} cannot be used ({' '.join(str(error).split())}); see recipes/zoo.yaml") from None
    if not plan.recipes:
        raise BadInput(f"{file} names no recipes; see recipes/zoo.yaml")
    for name, trainings in plan.recipes.items():
        if not trainings.seeds or len(set(trainings.seeds)) < len(trainings.seeds) or trainings.later < 0:
            raise BadInput(f"{file} gives {name!r} no seeds, one twice or a negative 'later'; see recipes/zoo.yaml")
    for pair in (*plan.pairs, *plan.again):
        if len(pair) != 2:
            raise BadInput(f"{file} has the pair {pair}; give two names")
    return plan


def planned(file: Path, names: Sequence[str] = ()) -> list[Run]:
    """Return the trainings of a plan in order: first all recipes with their first seed, then with their second.

    A recipe that is ``later`` by so many rounds has its first seed beside the others' second.

    Args:
        file: with the plan.
        names: only these recipes; by default all.

    Raises:
        BadInput: if the plan cannot be used, or one of ``names`` is not in it.
    """
    recipes = read_plan(file).recipes
    for name in names:
        if name not in recipes:
            raise BadInput(f"there is no recipe {name!r} in {file}; choose among {', '.join(recipes)}")
    chosen = {name: recipe for name, recipe in recipes.items() if not names or name in names}
    rounds = max(len(recipe.seeds) + recipe.later for recipe in chosen.values())
    return [
        Run(name, recipe.seeds[place], place == 0, recipe.score)
        for number in range(rounds)
        for name, recipe in chosen.items()
        if 0 <= (place := number - recipe.later) < len(recipe.seeds)
    ]
