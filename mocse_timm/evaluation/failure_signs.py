"""The signs by which a mixture of experts that fails can be told, in words.

Source: Kotyan and Vargas 2023, arXiv:2311.10177, on over-specialised experts, on experts that specialise too little,
and on an aggregation that adds nothing.
"""

from dataclasses import dataclass
from typing import Literal

from mocse_timm.evaluation.comparison import Difference

__all__ = ["Verdict", "judge"]

STANDARD_ERRORS = 2  # a difference counts beyond so many: chance alone goes beyond in one comparison of twenty
WORDS = {-1: "worse", 0: "no different", 1: "better"}

Sign = Literal["over-specialised", "too little specialisation", "aggregation adds nothing"]


@dataclass(frozen=True)
class Verdict:
    """Where a model stands against its baseline."""

    clean: str
    """``worse``, ``no different`` or ``better``, on clean images."""
    corrupted: str
    """The same, on corrupted ones."""
    sign: Sign | None
    """The sign of failure that shows, None if none does or the comparison is not of a mixture with a dense network."""
    words: str
    """All of it in a sentence."""


def _direction(difference: Difference) -> int:
    beyond_chance = abs(difference.points) > STANDARD_ERRORS * difference.standard_error
    return 0 if not beyond_chance else 1 if difference.points > 0 else -1


def _sign(clean: int, corrupted: int) -> Sign | None:
    if clean < 0 < corrupted:
        return "over-specialised"
    if corrupted < 0 <= clean:
        return "too little specialisation"
    if clean == corrupted == 0:
        return "aggregation adds nothing"
    return None


def judge(clean: Difference, corrupted: Difference, *, mixture_against_dense: bool) -> Verdict:
    """Say how a model does against a baseline, and which sign of failure shows.

    A difference counts beyond two standard errors. Worse clean and better corrupted: over-specialised. At least as good
    clean and worse corrupted: too little specialisation. No difference in either: the aggregation adds nothing.

    Args:
        clean: difference of the accuracies on clean images.
        corrupted: of the mean accuracies on corrupted ones.
        mixture_against_dense: whether this model has experts and the baseline has none; only then a sign is named.
    """
    directions = _direction(clean), _direction(corrupted)
    on_clean, on_corrupted = (WORDS[direction] for direction in directions)
    if directions[0] == directions[1]:
        words = f"{on_clean} on clean and on corrupted images"
    else:
        words = f"{on_clean} on clean images, {on_corrupted} on corrupted ones"
    sign = _sign(*directions) if mixture_against_dense else None
    if sign is not None:
        words = f"{sign}: {words}"
    elif mixture_against_dense:
        words += "; no sign of failure" if max(directions) > 0 else ""
    words += f" (differences count beyond {STANDARD_ERRORS} standard errors)"
    return Verdict(on_clean, on_corrupted, sign, words)
