"""Timing several functions against each other."""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from mocse_timm.checks import BadInput
from mocse_timm.evaluation.device import usable_device

__all__ = ["alternate", "at_least_one", "device"]


def at_least_one(word: str) -> int:
    """Read a flag that counts something; for ``type`` of argparse."""
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number from 1 on")
    return int(word)


def device(word: str) -> str:
    """Read a flag that names a device; for ``type`` of argparse."""
    try:
        return str(usable_device(word))
    except BadInput as refusal:
        raise argparse.ArgumentTypeError(str(refusal)) from None


def alternate(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each function, called in turn ``repeats`` times after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat > 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
