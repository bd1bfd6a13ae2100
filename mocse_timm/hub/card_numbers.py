"""The rule of the cards: no number that neither results.json nor config.json holds.

Numbers are read off the text as a reader would: rounded as it rounds them, in millions, as pixel values such as 8/255.
What is a name is no number: CIFAR-10, PreAct-18, bfloat16, versions, arXiv's. Code is not looked at: its numbers are
flags, and the commands come from the files as they are.
"""

import bisect
import re
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["claims", "numbers_held", "unsupported"]

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
NAMES = re.compile(r"\]\([^)\s]*\)|https?://\S+|<[^<>\n]*>|arXiv[ :]\d+\.\d+|\[0, 1\]")
NUMBER = re.compile(r"(?<![\w.\-/])[-+]?(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(/255)?(?![\w-]|[./]\d)")
SIZE = re.compile(r"(?<!\w)(\d+)x(\d+)(?!\w)")
SCALES = (1, 1e-6)  # as it stands, and in millions
ROUNDED = 100  # a whole number from here on may be a rounded one, such as images a second; a smaller one is a count
BITS = ("correct", "images")  # one bit an image, in base64, and a fingerprint


def _numbers(text: str) -> Iterator[tuple[str, float, float]]:
    """Yield every number as it is written, its absolute value, and what rounding may have moved it by."""
    text = SIZE.sub(r"\1 \2", NAMES.sub("", FENCE.sub("", text)))
    for match in NUMBER.finditer(text):
        whole, fraction, pixels = match.groups()
        value = float(whole.replace(",", "") + (fraction or ""))
        half_unit = 0.5 * 10 ** (1 - len(fraction)) if fraction else 0.5 if value >= ROUNDED else 0.0
        yield match.group(), value / (255 if pixels else 1), half_unit / (255 if pixels else 1)


def claims(text: str) -> set[str]:
    """Return the numbers of ``text`` that look like scores: those with a point or a percent sign."""
    plain = NAMES.sub("", FENCE.sub("", text))
    return {match.group() for match in NUMBER.finditer(plain) if match[2] or plain[match.end() :].lstrip()[:1] == "%"}


def _held(content: Any) -> Iterator[float]:
    if isinstance(content, bool) or content is None:
        return
    if isinstance(content, int | float):
        yield abs(float(content))
    elif isinstance(content, str):
        yield from (value for _, value, _ in _numbers(content))
    else:
        yield float(len(content))
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _held(key)  # of a list, the place: expert 1
            if key not in BITS:
                yield from _held(value)


def numbers_held(*contents: Any) -> list[float]:
    """Return the numbers in what JSON gave, sorted and without sign: values, those inside strings, and lengths."""
    return sorted({scale * value for content in contents for value in _held(content) for scale in SCALES})


def unsupported(text: str, held: list[float], *, among: Iterable[str] | None = None) -> list[str]:
    """Return the numbers of ``text`` that are not, rounded, among those ``held``.

    Args:
        text: Markdown.
        held: see :func:`numbers_held`.
        among: look at these numbers alone, written as they are in the text.
    """
    wanted = None if among is None else set(among)
    missing = []
    for written, value, rounding in _numbers(text):
        slack = rounding * (1 + 1e-6) + 1e-9
        place = bisect.bisect_left(held, value - slack)
        found = place < len(held) and held[place] <= value + slack
        if not found and (wanted is None or written in wanted) and written not in missing:
            missing.append(written)
    return missing
