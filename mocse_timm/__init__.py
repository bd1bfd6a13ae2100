"""Robust mixture-of-experts vision models for timm. Importing the package registers its models.

``mocse_timm.from_hub("user/name")`` opens a published one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mocse_timm import models as models

if TYPE_CHECKING:
    from mocse_timm.checkpoints.from_hub import from_hub as from_hub

__version__ = "0.1.0"

PARTS = ("attacks", "corruptions", "losses")  # packages for users, imported when first named


def __getattr__(name: str) -> Any:
    if name == "from_hub":  # what it needs would double the time of the import
        from mocse_timm.checkpoints.from_hub import from_hub

        return from_hub
    if name in PARTS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), "from_hub", *PARTS]
