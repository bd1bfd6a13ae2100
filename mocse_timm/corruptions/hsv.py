"""Brightness and saturation: a change of V or S in hue, saturation, value.

The hue does not change, so of a pixel's three channels the largest and the smallest follow from the old largest and
smallest alone, two bytes: tables of 256 x 256 hold them. Only the middle one needs the hue. All is computed in the
order of scikit-image's conversions, because truncation shows the last bit.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mocse_timm.corruptions.pixels import Bytes, Draws, to_bytes
from mocse_timm.corruptions.severities import strength

__all__ = ["brightness", "saturate"]

Table = NDArray[np.float64]

_ORDERS = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1], [2, 1, 0], [1, 2, 0], [0, 2, 1]], dtype=np.uint8)
"""For each sixth of the colour circle, which of (largest, middle, smallest) red, green and blue are."""


@lru_cache(maxsize=32)
def _value_and_saturation(brighter: float, factor: float, more: float) -> tuple[Table, Table]:
    """Return the new V and S (256, 256) by the largest and the smallest of a pixel's three bytes."""
    levels = np.arange(256) / 255.0
    largest, smallest = np.broadcast_arrays(levels[:, None], levels)
    delta = largest - smallest
    saturation = np.divide(delta, largest, out=np.zeros((256, 256)), where=delta > 0)
    return np.clip(largest + brighter, 0, 1), np.clip(saturation * factor + more, 0, 1)


def _hue(red: Bytes, green: Bytes, blue: Bytes, largest: Bytes, smallest: Bytes) -> Table:
    """Return the hue of each pixel (P,) in sixths of the circle, 0 to 6, and 0 for grey."""
    levels = np.arange(256) / 255.0
    is_blue, is_green, is_coloured = blue == largest, green == largest, largest > smallest
    leads = np.where(is_blue, red, np.where(is_green, blue, green))
    trails = np.where(is_blue, green, np.where(is_green, red, blue))
    hue = levels.take(leads)
    hue -= levels.take(trails)
    np.divide(hue, levels.take(largest) - levels.take(smallest), out=hue, where=is_coloured)
    hue += np.where(is_blue, np.uint8(4), np.where(is_green, np.uint8(2), np.uint8(0)))
    hue /= 6
    hue += hue < 0  # once round the circle
    hue *= 6
    hue *= is_coloured
    return hue


def _change(images: Bytes, brighter: float = 0.0, factor: float = 1.0, more: float = 0.0) -> Bytes:
    """Return images (B, H, W, 3) with V + ``brighter`` and S * ``factor`` + ``more``, each kept within [0, 1]."""
    red, green, blue = np.ascontiguousarray(images.reshape(-1, 3).T)
    largest = np.maximum(np.maximum(red, green), blue)
    smallest = np.minimum(np.minimum(red, green), blue)
    value_table, saturation_table = _value_and_saturation(brighter, factor, more)
    pair = largest * np.int32(256) + smallest
    value, saturation = value_table.take(pair), saturation_table.take(pair)

    share = _hue(red, green, blue, largest, smallest)
    sixth = share.astype(np.uint8)
    share -= sixth
    sixth %= 6
    share = np.where(sixth % 2 == 1, share, 1 - share)
    most, middle, least = (to_bytes(value * (1 - part)) for part in (0, share * saturation, saturation))

    changed = np.empty((len(pair), 3), np.uint8)
    for channel, order in enumerate(_ORDERS.T):
        rank = order.take(sixth)
        changed[:, channel] = np.where(rank == 0, most, np.where(rank == 1, middle, least))
    return changed.reshape(images.shape)


def brightness(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Add to the value V of every pixel, whole range 1."""
    return _change(images, brighter=strength("brightness", images.shape[1], severity))


def saturate(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Scale the saturation S of every pixel, and add to it; severities 1 and 2 take colour away."""
    factor, more = strength("saturate", images.shape[1], severity)
    return _change(images, factor=factor, more=more)
