"""How the zoo's models were trained, as their files tell: a table of all trainings, and what each recipe gives."""

from collections.abc import Callable, Iterable, Mapping

from zoo_results import Recipe, Trained

from mocse_timm.checks import BadInput
from mocse_timm.hub.card_tables import table
from mocse_timm.hub.results import Results

__all__ = ["as_minutes", "expected", "render_trainings", "with_expected"]

EXPECTED = ("clean", "15", "19", "PGD, 50 steps", "AutoAttack")
Scores = Mapping[str, Callable[[Results], float | None]]
"""How each score of a model is read, by its title."""


def as_minutes(minutes: float) -> str:
    """Return whole minutes, of a few with one decimal."""
    return f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}"


def _after(command: str, flag: str) -> str | None:
    words = command.split()
    return words[words.index(flag) + 1] if flag in words else None


def _processes(command: str) -> int:
    return int(_after(command, "--num_processes") or 1)


def _has_amp(command: str) -> bool:
    return "--amp" in command.split()


def _precision(command: str) -> str:
    return (_after(command, "--amp-dtype") or "bfloat16") if _has_amp(command) else "float32"


def _cells(recipe: Recipe, trained: Trained) -> list[str]:
    training = trained.facts.training
    torch = (training.versions or {}).get("torch", "").partition("+")[0]
    how = [_precision(training.command), str(_processes(training.command)), torch, as_minutes(trained.minutes)]
    return [f"`{recipe.name}`", str(trained.run.seed), training.hardware or "", str(training.epochs), *how]


def render_trainings(recipes: Iterable[Recipe]) -> str:
    """Return in Markdown on what and how every training was run; empty if there is none.

    "minutes" are those of training alone, every epoch as fast as the fastest.
    """
    lines = [_cells(recipe, trained) for recipe in recipes for trained in recipe.trained.values()]
    if not lines:
        return ""
    header = ["recipe", "seed", "trained on", "epochs", "precision", "processes", "torch", "minutes"]
    return f"**How each was trained: {len(lines)} trainings**\n\n{table(header, *lines)}"


def expected(recipe: Recipe, scores: Scores) -> str:
    """Return the line of a recipe's file that says what it is known to give."""
    if not recipe.trained:
        return "# Expected: not measured yet."
    first = recipe.first
    numbers = {title: scores[title](first.results) for title in EXPECTED}
    shown = ", ".join(f"{title} {number:.2f} %" for title, number in numbers.items() if number is not None)
    training = first.facts.training
    processes = _processes(training.command)
    way = f"{'--amp' if _has_amp(training.command) else '--no-amp'}{f' by {processes} processes' * (processes > 1)}"
    where = training.hardware or "an unknown machine"
    return f"# Expected: {shown}; {as_minutes(first.minutes)} minutes of training with {way} on {where}."


def with_expected(recipe: Recipe, text: str, scores: Scores) -> str:
    """Return ``text``, that of a recipe's file, with :func:`expected` as its third line, in the place of what it was.

    Raises:
        BadInput: if it does not begin with two lines of comment.
    """
    lines = text.splitlines()
    if len(lines) < 2 or not all(line.startswith("# ") for line in lines[:2]):
        raise BadInput(f"{recipe.file} must begin with two lines of comment, its command and what it is")
    old = len(lines) > 2 and lines[2].startswith("# Expected:")
    return "\n".join([*lines[:2], expected(recipe, scores), *lines[3 if old else 2 :]]) + "\n"
