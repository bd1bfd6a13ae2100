"""Packages of the optional dependencies ``[corruptions]``, imported where they are used."""

from importlib import import_module
from typing import Any

from mocse_timm.checks import BadInput

__all__ = ["import_cv2", "import_extra"]


def import_extra(module: str) -> Any:
    """Return a module of OpenCV or SciPy, or raise BadInput with the command that installs both."""
    try:
        return import_module(module)
    except ImportError as error:
        raise BadInput(
            f'corrupting images needs {module} ({error}); install it with: pip install "mocse_timm[corruptions]"'
        ) from error


def import_cv2() -> Any:
    """Return OpenCV."""
    return import_extra("cv2")
