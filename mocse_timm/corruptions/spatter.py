"""Spatter: drops of water or mud on the lens."""

import numpy as np
from numpy.typing import NDArray

from mocse_timm.corruptions.blur import gaussian
from mocse_timm.corruptions.extra import import_cv2
from mocse_timm.corruptions.pixels import Bytes, Draws, Floats, to_bytes
from mocse_timm.corruptions.severities import strength

__all__ = ["sample_spatter", "spatter"]

WATER = np.array([175, 238, 238], np.float32) / 255  # pale turquoise
MUD = np.array([63, 42, 20], np.float32) / 255  # brown
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)


def sample_spatter(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return standard normal numbers (n, side, side)."""
    return (rng.standard_normal((n, side, side)),)


def _water(liquid: Bytes) -> NDArray[np.float32]:
    """Return how much light each drop of one image (side, side) adds, at most 1: its edges, embossed."""
    cv2 = import_cv2()
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    near = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    relief = cv2.filter2D(cv2.equalizeHist(near), cv2.CV_8U, _EMBOSS)
    light = liquid * cv2.blur(relief, (3, 3)).astype(np.float32)
    brightest = light.max()
    return light / brightest if brightest > 0 else light


def spatter(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Add drops of water or cover by mud; draws are those of :func:`sample_spatter`.

    The table gives mean and deviation of the noise, the sigma of its blur, the threshold above which it is liquid, the
    strength of the water or the sigma of the mud's edge, and whether it is mud. An image without a drop keeps its
    values.
    """
    mean, deviation, sigma, threshold, intensity, is_mud = strength("spatter", images.shape[1], severity)
    values = images.astype(np.float32)
    values /= 255
    liquid = gaussian(mean + deviation * draws[0], sigma)
    if is_mud:
        cover: Floats = gaussian((liquid > threshold).astype(np.float32), intensity)
        cover[cover < 0.8] = 0
        cover = cover[..., None]
        values *= 1 - cover
        values += MUD * cover
    else:
        liquid[liquid < threshold] = 0
        liquid *= 255
        drops = np.stack([_water(layer) for layer in liquid.astype(np.uint8)])[..., None]
        drops *= np.float32(intensity)
        values += drops * WATER
    return to_bytes(values)
