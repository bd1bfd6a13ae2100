"""Zooming into the centre by linear interpolation, and the blur of doing so with several factors at once."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mocse_timm.corruptions.extra import import_extra
from mocse_timm.corruptions.pixels import Bytes, Draws, to_bytes
from mocse_timm.corruptions.severities import strength

__all__ = ["zoom_blur", "zoom_matrix"]


@lru_cache(maxsize=256)
def zoom_matrix(side: int, factor: float) -> NDArray[np.float64]:
    """Return A (side, side): the centre of an image X, enlarged by ``factor`` >= 1 to the same side, is A X A^T."""
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    larger = import_extra("scipy.ndimage").zoom(np.eye(side)[top : top + kept], (factor, 1), order=1)
    trim = (len(larger) - side) // 2
    return larger[trim : trim + side]


@lru_cache(maxsize=8)
def _blur_matrix(side: int, severity: int) -> Any:
    """Return the sparse matrix (side**2, side**2) of zoom blur, with rows that sum to 1."""
    sparse = import_extra("scipy.sparse")
    factors = strength("zoom_blur", side, severity)
    total = sparse.eye_array(side * side, format="csr")
    for factor in factors:
        along = sparse.csr_array(zoom_matrix(side, float(factor)))
        total = total + sparse.kron(along, along, format="csr")
    return total / (len(factors) + 1)


@lru_cache(maxsize=32)
def _even(count: int) -> Bytes:
    """Return what the generator makes of each byte (256,) in an even area, where all ``count`` enlargements equal it.

    Not always the byte itself: it sums in float32, one enlargement after the other, and truncation shows the last bit.
    """
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    total = np.zeros_like(values)
    for _ in range(count):
        total += values
    return to_bytes((values + total) / np.float32(count + 1))


def zoom_blur(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Average the image and its enlargements, all at once: they are linear in the pixels."""
    n, side = images.shape[:2]
    pixels = images.reshape(n, side * side, 3).transpose(1, 0, 2).reshape(side * side, n * 3)
    blurred = _blur_matrix(side, severity) @ pixels.astype(np.float64)
    whole = np.rint(blurred)
    from_even = _even(len(strength("zoom_blur", side, severity))).take(whole.astype(np.uint8))
    blurred = np.where(np.abs(blurred - whole) < 1e-9, from_even, blurred.astype(np.uint8))
    return np.ascontiguousarray(blurred.reshape(side * side, n, 3).transpose(1, 0, 2)).reshape(images.shape)
