"""Motion blur as ImageMagick computes it, in 16 bits a value."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mocse_timm.corruptions.pixels import Bytes, Draws
from mocse_timm.corruptions.severities import strength

__all__ = ["motion_blur", "sample_angles", "smear", "trail"]


def sample_angles(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return angles (n,) uniform in -45..45 degrees."""
    return (rng.uniform(-45, 45, n),)


def trail(radius: float, sigma: float, angles: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the weights (T,) of the trail's pixels, and their places (B, T, 2), rows before columns.

    The trail starts at the pixel itself and runs one way, along the angle (degrees), for T = 2 ceil(radius) + 1
    pixels; weights are half a Gaussian of ``sigma`` pixels and sum to 1.
    """
    length = 2 * math.ceil(radius) + 1
    along = np.arange(length)
    weights = np.exp(-(along**2) / (2 * sigma**2))
    direction = length * np.stack([np.sin(angles * np.pi / 180), np.cos(angles * np.pi / 180)], axis=-1)
    steps = along[:, None] * direction[:, None] / np.hypot(direction[:, :1], direction[:, 1:])[:, None]
    return weights / weights.sum(), np.ceil(steps - 0.5).astype(np.int64)


def smear(images: Bytes, radius: float, sigma: float, angles: NDArray[np.float64]) -> Bytes:
    """Return each image (B, H, W) or (B, H, W, C) smeared along its own angle, the edge repeated beyond the border."""
    weights, places = trail(radius, sigma, angles)
    height, width, *channels = images.shape[1:]
    reach = int(np.abs(places).max(initial=0))
    around = [(0, 0), (reach, reach), (reach, reach)] + [(0, 0)] * len(channels)
    padded = np.pad(images, around, mode="edge")
    smeared = np.empty_like(images)
    for image, place, result in zip(padded, reach + places, smeared, strict=True):
        shifted = np.moveaxis(sliding_window_view(image, (height, width), axis=(0, 1)), (-2, -1), (2, 3))
        trails = shifted[place[:, 0], place[:, 1]].reshape(len(weights), -1)
        total = weights @ trails.astype(np.float64)
        total *= 257  # a byte in 16 bits is 257 times itself
        total += 0.5
        result[:] = (total.astype(np.uint16) // np.uint16(257)).reshape(result.shape)
    return smeared


def motion_blur(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Smear images along their angles; draws are those of :func:`sample_angles`.

    The table gives the radius and the sigma of :func:`trail`.
    """
    radius, sigma = strength("motion_blur", images.shape[1], severity)
    return smear(images, radius, sigma, draws[0])
