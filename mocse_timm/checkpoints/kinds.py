"""What a value in a file may be: kinds that say in words what they want, and tell whether a value is it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unicodedata import category

__all__ = ["FLAG", "NOTHING", "TEXT", "Kind", "group", "many", "number", "text", "whole"]


@dataclass(frozen=True)
class Kind:
    """A set of JSON values.

    Args:
        wanted: the set in words, after "must be".
        fits: whether a value is in it.
    """

    wanted: str
    fits: Callable[[Any], bool]

    def __or__(self, other: "Kind") -> "Kind":
        return Kind(f"{self.wanted} or {other.wanted}", lambda value: self.fits(value) or other.fits(value))


def whole(least: int, most: int) -> Kind:
    """Return the whole numbers from ``least`` to ``most``; true and false are none."""

    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Kind(f"a whole number from {least} to {most}", fits)


def number(least: float, most: float, *, above: bool = False) -> Kind:
    """Return the finite numbers from ``least``, or only those above it, to ``most``."""

    def fits(value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return False
        return (value > least if above else value >= least) and value <= most

    return Kind(f"a number above {least:g}, up to {most:g}" if above else f"a number from {least:g} to {most:g}", fits)


def text(longest: int) -> Kind:
    """Return the texts of at most ``longest`` characters, none of which would move a terminal's cursor."""

    def fits(value: Any) -> bool:
        return isinstance(value, str) and len(value) <= longest and all(category(c) != "Cc" for c in value)

    return Kind(f"a text of at most {longest} characters without control characters", fits)


def many(kind: Kind, least: int, most: int) -> Kind:
    """Return the lists of ``least`` to ``most`` values of one kind."""

    def fits(value: Any) -> bool:
        return isinstance(value, list) and least <= len(value) <= most and all(map(kind.fits, value))

    count = f"{least}" if least == most else f"{least} to {most}"
    return Kind(f"a list of {count} values, each {kind.wanted}", fits)


def group(kind: Kind | None = None) -> Kind:
    """Return the groups of named values, all of one kind if given."""

    def fits(value: Any) -> bool:
        return isinstance(value, dict) and (kind is None or all(map(kind.fits, value.values())))

    return Kind("a group of values" + (f", each {kind.wanted}" if kind else ""), fits)


NOTHING = Kind("null", lambda value: value is None)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = text(500)
