"""Between bytes and the numbers in [0, 1] that corruptions are computed in."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bytes", "Draws", "Floats", "to_bytes"]

Bytes = NDArray[np.uint8]
"""Images (B, H, W, 3), or single channels (B, H, W), of whole numbers in 0..255."""

Floats = NDArray[np.floating]

Draws = tuple[np.ndarray, ...]
"""What chance decides about B images: arrays whose first axis is the image."""


def to_bytes(values: Floats) -> Bytes:
    """Return ``values``, nominally in [0, 1], clipped, times 255 and truncated as the generator does; overwrites them.

    Truncated, not rounded: 0.999 becomes 254.
    """
    np.clip(values, 0, 1, out=values)
    values *= 255
    return values.astype(np.uint8)
