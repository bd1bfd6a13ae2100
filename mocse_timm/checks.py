"""Refusing bad input: one sentence for the person, exit code 2 for the shell."""

import difflib
import errno
import signal
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

__all__ = ["BadInput", "Stopped", "command", "nearest", "one_line"]


class BadInput(ValueError):
    """Something the user gave cannot be used: the message says what, its value, and what to do."""


class Stopped(BaseException):  # as KeyboardInterrupt: not for those who catch every Exception
    """A signal ended the work in good order: the message says where things stand; it may be empty."""

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message)
        self.number = number


def nearest(name: str, options: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the option spelled most like ``name``, or an empty string."""
    match = difflib.get_close_matches(name, list(options), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def one_line(text: str) -> str:
    """Return ``text`` with line breaks, and bytes of file names that are no text, written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def command(main: Callable[..., Any]) -> Callable[..., int]:
    """Turn ``main`` into a command: its exit code is 0, 2 after :class:`BadInput`, 130 after Ctrl-C, 143 after SIGTERM.

    Only these are caught. A fault of our own keeps its traceback.
    """

    @wraps(main)
    def run(*args: Any, **kwargs: Any) -> int:
        try:
            main(*args, **kwargs)
        except BadInput as error:
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            return 2
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # looking for it is all that was done
                raise
            print(f"error: {one_line(str(error.filename)):.60}... is too long for a file's name", file=sys.stderr)
            return 2
        except Stopped as stop:
            if str(stop):
                print(stop, file=sys.stderr)
            return 128 + stop.number
        except KeyboardInterrupt:
            print("stopped by the keyboard", file=sys.stderr)
            return 128 + signal.SIGINT
        return 0

    return run
