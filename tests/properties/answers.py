"""What every public function owes to whatever it is given: an answer, or one clear sentence.

MOCSE_TIMM_FAULT_CASES=1000 draws a thousand inputs for each property, new ones every time; without it the same few.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["CASES", "answer_or_sentence", "check_sentence", "drawn", "odd_numbers", "one_odd", "some"]

Answer = TypeVar("Answer")

CASES = int(os.environ.get("MOCSE_TIMM_FAULT_CASES", "25"))
LONGEST = 1500  # characters of a sentence, most of them a path or the list of what there is
# words of errors that torch, numpy and Python raise deep inside
FOREIGN = (
    "Expected all tensors",
    "size mismatch",
    "must match the size",
    "not implemented for",
    "index out of range",
    "arg is an empty",
    "height and width must",
    "cannot convert",
    "could not broadcast",
)


def some(share: float = 1.0) -> Callable[[Any], Any]:
    """Decorate a hypothesis test of CASES inputs, or of a share of them where each is slow."""
    few = "MOCSE_TIMM_FAULT_CASES" not in os.environ
    options = settings(
        max_examples=max(1, round(CASES * share)) if few else CASES,
        deadline=None,
        database=None,
        derandomize=few,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    timeout = pytest.mark.timeout(300 if few else 7200)
    return lambda test: timeout(options(test))


def drawn(*values: Any) -> st.SearchStrategy[Any]:
    """One of ``values``."""
    return st.sampled_from(values)


def one_odd(*choices: Sequence[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """One of each of ``choices``: the first, which is good, of all but one, or anything of all."""

    def chosen(odd: int) -> st.SearchStrategy[tuple[Any, ...]]:
        everything = odd == len(choices)
        return st.tuples(
            *(drawn(*c) if everything or place == odd else st.just(c[0]) for place, c in enumerate(choices))
        )

    return st.integers(0, len(choices)).flatmap(chosen)


odd_numbers = st.one_of(
    st.sampled_from([0.0, -0.0, -1.0, 1.0, float("nan"), float("inf"), float("-inf"), 1e-30, 1e30, 2.0, 255.0]),
    st.floats(-2, 2),
)


def check_sentence(error: BaseException) -> None:
    """One line of our own words, not a library's cry."""
    text = str(error)
    assert text and "\n" not in text and len(text) < LONGEST, repr(text)
    assert not any(words in text for words in FOREIGN), text


def answer_or_sentence(call: Callable[[], Answer]) -> Answer | None:
    """Return what ``call`` does, or None if it refuses with one sentence; anything else it raises fails the test."""
    try:
        return call()
    except ValueError as error:
        check_sentence(error)
        return None
