"""Snow: flakes of thresholded noise, enlarged and smeared by the wind, over a whitened image."""

import numpy as np

from mocse_timm.corruptions.extra import import_cv2
from mocse_timm.corruptions.motion import smear
from mocse_timm.corruptions.pixels import Bytes, Draws, Floats, to_bytes
from mocse_timm.corruptions.severities import strength
from mocse_timm.corruptions.zoom import zoom_matrix

__all__ = ["flakes", "sample_snow", "snow"]


def sample_snow(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return standard normal numbers (n, side, side) and the wind's angles (n,), uniform in -135..-45 degrees."""
    return rng.standard_normal((n, side, side)), rng.uniform(-135, -45, n)


def flakes(draws: Draws, severity: int) -> Floats:
    """Return the layer of snow (B, side, side) in [0, 1].

    The table gives mean and deviation of the noise, how much it is enlarged, the threshold below which there is no
    snow, and radius and sigma of the smear; then the weight of the image against its whitened self.
    """
    normal, angles = draws
    side = normal.shape[1]
    mean, deviation, zoom, threshold, radius, sigma, _ = strength("snow", side, severity)
    layer = mean + deviation * normal
    if zoom != 1:
        along = zoom_matrix(side, zoom)
        layer = along @ layer @ along.T
    layer[layer < threshold] = 0
    return smear(to_bytes(layer), radius, sigma, angles) / 255.0


def snow(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Whiten images, then add the snow and the snow turned by 180 degrees; draws are those of :func:`sample_snow`."""
    n, side = images.shape[:2]
    kept = strength("snow", side, severity)[-1]
    values = images.astype(np.float32)
    values /= 255
    cv2 = import_cv2()
    grey = cv2.cvtColor(values.reshape(n * side, side, 3), cv2.COLOR_RGB2GRAY).reshape(n, side, side, 1)
    whitened = np.maximum(values, np.repeat(grey * 1.5 + 0.5, 3, axis=3))
    whitened *= 1 - kept
    whitened += kept * values
    layer = flakes(draws, severity)[..., None]
    return to_bytes(whitened + layer + layer[:, ::-1, ::-1])
