"""Refusing numbers of classes, experts, stages or channels that are none."""

from numbers import Integral
from typing import Any

__all__ = ["check_count"]


def check_count(name: str, value: Any, *, at_least: int | None = 0) -> None:
    """Raise ValueError unless ``value``, the argument ``name``, is a whole number and not below ``at_least``."""
    if not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if at_least is not None and value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
