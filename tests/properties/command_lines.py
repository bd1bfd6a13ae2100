"""Running a command in this process on whatever was typed, and what it owes: exit code 0, or 2 with one sentence."""

import contextlib
import dataclasses
import io
import os
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from accelerate.state import AcceleratorState
from answers import check_sentence, drawn
from hypothesis import strategies as st

__all__ = ["WORDS", "Outcome", "flags_of", "run", "tree"]

# No line breaks: nobody types them, and a message that repeats them would be of several lines.
LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
WORDS = [
    *("0", "-1", "1", "2", "3", "0.5", "-0.5", "nan", "inf", "-inf", "1e30", "1e-30", "1_0", "8/255", "1/0", "(1,)"),
    *("", " ", "None", "True", "abc", "{}", "[1]", "x=1", "=", "--", "-x", "a/b", "é 图像 🦓", "pgd2", "router"),
    *("~nobody/x", "/dev/null", "/proc/none", "a" * 300),
]
words = st.one_of(drawn(*WORDS), st.text(LETTERS, max_size=8))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    errors: list[str]
    """Lines of the error output that begin with ``error:``."""


def run(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> Outcome:
    """Run ``main`` without a network; a traceback comes through as the exception it is."""
    AcceleratorState._reset_state(reset_partial_state=True)  # it would keep the first case's precision
    output, errors = io.StringIO(), io.StringIO()
    ours = True
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}),
    ):
        try:
            code = main(list(arguments))
        except SystemExit as stop:  # tyro's and argparse's, for flags that cannot be read
            code, ours = int(stop.code or 0), False
    assert code in (0, 2), (code, errors.getvalue())
    assert "Traceback" not in errors.getvalue() + output.getvalue()
    found = [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]
    assert len(found) == (1 if ours and code == 2 else 0), errors.getvalue()
    for line in found:
        check_sentence(ValueError(line))
    return Outcome(code, found)


def tree(folder: Path) -> set[Path]:
    """Everything in and below ``folder``."""
    return set(folder.rglob("*"))


def _values(kind: Any, more: Sequence[str]) -> st.SearchStrategy[list[str]]:
    text = words if not more else st.one_of(drawn(*more), drawn(*more), words)
    if kind is bool:
        return st.just([])
    if typing.get_origin(kind) is tuple:
        return st.lists(text, max_size=3)
    return text.map(lambda word: [word])


def flags_of(
    config_class: type, *, leave_out: Sequence[str] = (), better: dict[str, Sequence[str]] | None = None
) -> st.SearchStrategy[list[str]]:
    """A few flags of ``config_class`` with values that may or may not be meant, and now and then one that is none.

    Args:
        config_class: the command's dataclass.
        leave_out: fields that are not drawn.
        better: values that make sense, or nearly, by field.
    """
    one: list[st.SearchStrategy[list[str]]] = []
    kinds = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        if field.name in leave_out:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        values = _values(kinds[field.name], (better or {}).get(field.name, ()))
        one.append(values.map(lambda values, flag=flag: [flag, *values]))
    strange = st.one_of(words.map(lambda word: [word]), words.map(lambda word: [f"--{word}"]))
    several = st.lists(st.one_of(*one, *one, strange), min_size=1, max_size=4)
    return several.map(lambda flags: [word for flag in flags for word in flag])
