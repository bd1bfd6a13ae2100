"""JSON that a stranger may have written: refused where it is ambiguous, bottomless or no JSON at all."""

import json
import math
from typing import Any

__all__ = ["LARGEST", "parse_json"]

LARGEST = 8 * 2**20  # bytes of a file beside the weights; names and descriptions of ImageNet's 21,841 classes take 2 MB
DEEPEST = 32  # groups inside each other; ours have 4
LONGEST_WHOLE = 20  # digits, those of 2^64


def _group(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    group = dict(pairs)
    if len(group) < len(pairs):  # readers differ in which one they take
        names: set[str] = set()
        twice = next(name for name, _ in pairs if name in names or names.add(name))
        raise ValueError(f"it names {twice!r:.60} twice")
    return group


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"it holds the number {digits:.60}")
    return number


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_WHOLE:
        raise ValueError(f"it holds the number {digits:.60}")
    return int(digits)


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [outer for outer in level if isinstance(outer, dict | list)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]


def parse_json(text: bytes) -> Any:
    """Return what ``text`` says, with finite numbers, unique names and at most 32 levels.

    Raises:
        ValueError: in a clause about "it", the text.
    """
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not JSON: it is not UTF-8 text") from None
    try:
        value = json.loads(
            decoded, object_pairs_hook=_group, parse_int=_whole, parse_float=_finite, parse_constant=_finite
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from None
    _check_depth(value)
    if "\\u" in decoded:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("it holds half a character, which cannot be written again") from None
    return value
