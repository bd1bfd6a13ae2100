"""Refusing bad input: one sentence for the person, exit code 2 for the shell."""

import difflib
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

__all__ = ["BadInput", "command", "nearest"]


class BadInput(ValueError):
    """Something the user gave cannot be used: the message says what, its value, and what to do."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the option spelled most like ``name``, or an empty string."""
    match = difflib.get_close_matches(name, list(options), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def command(main: Callable[..., Any]) -> Callable[..., int]:
    """Turn ``main`` into a command: its exit code is 0, 2 after :class:`BadInput`, or 130 after Ctrl-C.

    Only bad input is caught. A fault of our own keeps its traceback.
    """

    @wraps(main)
    def run(*args: Any, **kwargs: Any) -> int:
        try:
            main(*args, **kwargs)
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("stopped by the keyboard", file=sys.stderr)
            return 130
        return 0

    return run
