"""Fog: a cloud of fractal noise made by the diamond-square method."""

import numpy as np

from mocse_timm.corruptions.pixels import Bytes, Draws, Floats, to_bytes
from mocse_timm.corruptions.severities import strength

__all__ = ["cloud", "fog", "sample_fog"]


def _map_side(side: int) -> int:
    """Return the smallest power of two that is not below ``side``."""
    return 1 << (side - 1).bit_length()


def sample_fog(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return numbers (n, M * M - 1) uniform in [0, 1), one for each point of the cloud but the first."""
    return (rng.random((n, _map_side(side) ** 2 - 1)),)


def cloud(uniform: Floats, decay: float) -> Floats:
    """Return clouds (B, M, M) that span [0, 1] each, from uniform numbers (B, M * M - 1); M is a power of two.

    From a grid of one point, each round fills the centres of squares with the mean of four corners plus noise, then the
    middles of edges with the mean of their four neighbours plus noise; the map wraps around. The noise starts within
    100 * 100 and its two factors shrink by ``decay`` each round: the second factor is the range, the first a scale.
    """
    n, used = len(uniform), 0
    side = round((uniform.shape[1] + 1) ** 0.5)
    points = np.zeros((n, side, side))
    wobble = 100.0
    step = side

    def with_noise(sum_of_four: Floats) -> Floats:
        nonlocal used
        count = sum_of_four[0].size
        drawn = uniform[:, used : used + count].reshape(sum_of_four.shape)
        used += count
        return sum_of_four / 4 + wobble * (-wobble + 2 * wobble * drawn)

    while step >= 2:
        half = step // 2
        corners = points[:, ::step, ::step]
        sides = corners + np.roll(corners, -1, axis=1)
        centres = points[:, half::step, half::step] = with_noise(sides + np.roll(sides, -1, axis=2))
        above_and_below = centres + np.roll(centres, 1, axis=1)
        points[:, ::step, half::step] = with_noise(above_and_below + (corners + np.roll(corners, -1, axis=2)))
        left_and_right = centres + np.roll(centres, 1, axis=2)
        points[:, half::step, ::step] = with_noise(left_and_right + (corners + np.roll(corners, -1, axis=1)))
        step, wobble = half, wobble / decay
    points -= points.min(axis=(1, 2), keepdims=True)
    points /= points.max(axis=(1, 2), keepdims=True)
    return points


def fog(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Add a cloud, then darken so that white stays white; draws are those of :func:`sample_fog`.

    The table gives the cloud's density and its decay from coarse to fine.
    """
    side = images.shape[1]
    density, decay = strength("fog", side, severity)
    values = images / 255.0
    brightest = values.max(axis=(1, 2, 3), keepdims=True)
    values += density * cloud(draws[0], decay)[:, :side, :side, None]
    values *= brightest
    values /= brightest + density
    return to_bytes(values)
