"""Saying which image files cannot be used: how many, the first few by name, and why, in one sentence."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mocse_timm.checks import BadInput

__all__ = ["BrokenImage", "printable", "refuse_broken"]

NAMED = 3  # broken files that the sentence names


class BrokenImage(NamedTuple):
    """A file, and why it cannot be used."""

    path: Path
    reason: str


def printable(path: Path | str) -> str:
    """Return ``path`` as one line of text: quoted, with escapes, if it has line breaks or bytes that are no text."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def refuse_broken(broken: Sequence[BrokenImage], total: int, *, or_else: str = "") -> None:
    """Do nothing if ``broken`` is empty.

    Args:
        broken: what was found among ``total`` files.
        or_else: what helps besides replacing and removing them, such as ``, or pass --img-size N``.

    Raises:
        BadInput: if there are any; the first three are named.
    """
    if not broken:
        return
    first, *others = [f"{printable(path)} ({reason})" for path, reason in broken[:NAMED]]
    then = f", then {' and '.join(others)}" if others else ""
    raise BadInput(
        f"{len(broken)} of {total} image files cannot be used, the first is {first}{then}: "
        f"replace or remove them{or_else}"
    )
