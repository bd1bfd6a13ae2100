"""Asking the Hub again when it is busy or the connection broke, a few times and not for long.

huggingface_hub tries uploads again by itself, and newer versions downloads too; what it leaves, in one version or
another, are questions to the API, commits, and downloads that fail before or after the file.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from mocse_timm.checkpoints.hub_failures import FAILURES, asked_wait, underlying, will_pass

__all__ = ["ATTEMPTS", "patiently"]

ATTEMPTS = 3
FIRST_PAUSE = 1.0  # seconds; doubled for every further attempt
LONGEST_PAUSE = 60.0  # if the Hub asks for more, the person decides

Result = TypeVar("Result")


def patiently(request: Callable[[], Result], *, attempts: int = ATTEMPTS) -> Result:
    """Return what ``request`` returns, at the first of ``attempts`` at which it does not fail.

    Waits as long as the Hub asks for, up to a minute.

    Raises:
        Exception: one of :data:`mocse_timm.checkpoints.hub_failures.FAILURES`, the last one; at once if it will not
            pass or the Hub asks for a longer wait.
    """
    for attempt in range(attempts):
        try:
            return request()
        except (*FAILURES, RuntimeError) as error:
            failure = underlying(error)
            wait = asked_wait(failure)
            pause = FIRST_PAUSE * 2**attempt if wait is None else wait
            if attempt == attempts - 1 or not will_pass(failure) or pause > LONGEST_PAUSE:
                raise failure from None
        time.sleep(pause)
    raise ValueError(f"attempts must be at least 1, got {attempts}")
