"""Noise on every value of an image by itself: Gaussian, shot, impulse and speckle."""

import numpy as np

from mocse_timm.corruptions.pixels import Bytes, Draws, to_bytes
from mocse_timm.corruptions.poisson import poisson_quantile
from mocse_timm.corruptions.severities import strength

__all__ = [
    "gaussian_noise",
    "impulse_noise",
    "sample_impulses",
    "sample_normal",
    "sample_uniform",
    "shot_noise",
    "speckle_noise",
]


def sample_normal(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return standard normal numbers (n, side, side, 3)."""
    return (rng.standard_normal((n, side, side, 3)),)


def sample_uniform(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return numbers (n, side, side, 3) uniform in [0, 1)."""
    return (rng.random((n, side, side, 3)),)


def sample_impulses(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return which values (n, side, side, 3) are replaced, and which of those by 255 rather than 0."""
    replaced = rng.random((n, side, side, 3), dtype=np.float32) < strength("impulse_noise", side, severity)
    white = rng.integers(0, 2, (n, side, side, 3), dtype=np.bool_)
    return replaced, white


def gaussian_noise(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Add normal noise; the table gives its standard deviation. Draws are those of :func:`sample_normal`."""
    noise = draws[0] * strength("gaussian_noise", images.shape[1], severity)
    noise += images / 255.0
    return to_bytes(noise)


def speckle_noise(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Add normal noise in proportion to the value, by the table's factor; draws are those of :func:`sample_normal`."""
    values = images / 255.0
    noise = draws[0] * strength("speckle_noise", images.shape[1], severity)
    noise *= values
    noise += values
    return to_bytes(noise)


def shot_noise(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Count photons; the table gives how many white is on average. Draws are those of :func:`sample_uniform`.

    A uniform number becomes a count through the inverse distribution function, so any counts can be asked for by the
    middle of their step in it.
    """
    photons = strength("shot_noise", images.shape[1], severity)
    return to_bytes(poisson_quantile(draws[0], images, photons) / photons)


def impulse_noise(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Turn single values (not whole pixels) to 255 or 0; draws are those of :func:`sample_impulses`.

    The table gives the share of values that turn. Values left alone pass through [0, 1] and truncation too, which
    costs a few of them 1.
    """
    replaced, white = draws
    through_floats = to_bytes(np.arange(256) / 255.0)
    return np.where(replaced, np.where(white, np.uint8(255), np.uint8(0)), through_floats[images])
