"""Glass blur: pixels trade places with near neighbours, between two Gaussian blurs."""

import numpy as np
from numpy.typing import NDArray

from mocse_timm.corruptions.blur import gaussian
from mocse_timm.corruptions.pixels import Bytes, Draws, to_bytes
from mocse_timm.corruptions.severities import strength

__all__ = ["glass_blur", "sample_shuffles", "sources"]


def sample_shuffles(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return steps (n, iterations, (side - 2 reach)**2, 2), dx before dy, in -reach .. reach - 1, in visiting order."""
    _, reach, iterations = strength("glass_blur", side, severity)
    visited = (side - 2 * reach) ** 2
    return (rng.integers(-reach, reach, (n, iterations, visited, 2), dtype=np.int8),)


def sources(steps: NDArray[np.int8], side: int, reach: int) -> NDArray[np.int32]:
    """Return, for each pixel after one shuffle, the place (B, side * side) it has in the image before.

    Pixels are visited from the bottom right, ``side - reach`` down to ``reach + 1`` in each direction, and each takes
    the value of the pixel that its step points to. (The generator means to swap the two, but both sides of its swap
    are views, so the other pixel keeps its value.) A step of ``reach`` 1 never leads to a pixel that was visited
    before; longer ones may, and then the value is the one which that pixel took: followed here step by step.
    """
    rows = np.arange(side - reach, reach, -1, dtype=np.int32)
    places = (rows[:, None] * side + rows).ravel()
    turn = np.full(side * side, len(places), np.int32)
    turn[places] = np.arange(len(places))

    source = np.tile(np.arange(side * side, dtype=np.int32), (len(steps), 1))
    source[:, places] += steps[:, :, 1].astype(np.int32) * side + steps[:, :, 0]
    if reach == 1:
        return source
    first_hop = source.copy()
    image, place = np.nonzero(turn[source] < turn)
    while len(image):
        here = source[image, place]
        there = first_hop[image, here]
        source[image, place] = there
        visited_earlier = turn[there] < turn[here]
        image, place = image[visited_earlier], place[visited_earlier]
    return source


def glass_blur(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Blur, shuffle, blur; draws are those of :func:`sample_shuffles`.

    The table gives the sigma of the blurs, how far a step reaches in pixels, and how often to shuffle.
    """
    n, side = images.shape[:2]
    sigma, reach, iterations = strength("glass_blur", side, severity)
    before = to_bytes(gaussian(images / 255.0, sigma)).reshape(n * side * side, 3)
    start_of_image = np.arange(n, dtype=np.int32)[:, None] * (side * side)
    for iteration in range(iterations):
        before = before[(sources(draws[0][:, iteration], side, reach) + start_of_image).ravel()]
    return to_bytes(gaussian(before.reshape(images.shape) / 255.0, sigma))
