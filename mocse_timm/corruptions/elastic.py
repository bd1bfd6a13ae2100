"""Elastic transform: a random affine map, then every pixel pushed by a smooth random field."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mocse_timm.corruptions.extra import import_cv2, import_extra
from mocse_timm.corruptions.pixels import Bytes, Draws, Floats, to_bytes
from mocse_timm.corruptions.severities import strength

__all__ = ["elastic_transform", "pull", "sample_elastic", "smoothing_matrix"]


def sample_elastic(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return uniform numbers in [0, 1): moves of three points (n, 3, 2), fields along x and y (n, 2, side, side)."""
    return rng.random((n, 3, 2)), rng.random((n, 2, side, side))


@lru_cache(maxsize=16)
def smoothing_matrix(side: int, sigma: float) -> NDArray[np.float64]:
    """Return G (side, side): G X G^T is X blurred by a Gaussian to 3 sigma, mirrored at the border."""
    ndimage = import_extra("scipy.ndimage")
    return ndimage.gaussian_filter1d(np.eye(side), sigma, axis=0, mode="reflect", truncate=3.0)


def _affine(images: Floats, uniform: Floats, largest_move: float) -> Floats:
    """Move three points of each image (B, side, side, 3) float32 by up to ``largest_move`` pixels, and it with them."""
    cv2 = import_cv2()
    side = images.shape[1]
    centre, arm = np.full(2, side // 2, np.float32), side // 3
    points = np.array([centre + arm, [centre[0] + arm, centre[1] - arm], centre - arm], np.float32)
    moved = points + (-largest_move + 2 * largest_move * uniform).astype(np.float32)
    warped = np.empty_like(images)
    for image, place, target in zip(images, warped, moved, strict=True):
        matrix = cv2.getAffineTransform(points, target)
        cv2.warpAffine(image, matrix, (side, side), dst=place, borderMode=cv2.BORDER_REFLECT_101)
    return warped


@lru_cache(maxsize=16)
def _mirrored(side: int, margin: int) -> NDArray[np.int32]:
    """Return the pixel of a row at each place from -``margin`` to side + ``margin``: ... 1 0 | 0 1 ... | side-1 ..."""
    places = np.arange(-margin, side + margin + 1, dtype=np.int32) % (2 * side)
    return np.minimum(places, 2 * side - 1 - places)


def pull(images: Floats, field: Floats) -> Floats:
    """Return images (B, side, side, 3) whose pixels come from ``field`` (B, 2, side, side) pixels right and below.

    Linear between pixels; the image is mirrored beyond its border. Computed by the channel, in float64.
    """
    n, side = images.shape[:2]
    margin = math.ceil(np.abs(field).max(initial=0)) + 1
    inside = _mirrored(side, margin)
    across = np.arange(side, dtype=np.float64)
    to_right, to_bottom = across + field[:, 0], across[:, None] + field[:, 1]
    left, top = np.floor(to_right), np.floor(to_bottom)
    to_right -= left
    to_bottom -= top
    left, top = left.astype(np.int32) + margin, top.astype(np.int32) + margin
    start_of_image = (np.arange(n, dtype=np.int32) * side * side)[:, None, None]
    row_above = start_of_image + inside.take(top) * np.int32(side)
    row_below = start_of_image + inside.take(top + 1) * np.int32(side)
    left, right = inside.take(left), inside.take(left + 1)

    pulled = np.empty((*images.shape[:3], 3))
    for channel in range(3):
        plane = images[..., channel].astype(np.float64).ravel()
        upper, lower = plane.take(row_above + left), plane.take(row_below + left)
        upper += to_right * (plane.take(row_above + right) - upper)
        lower += to_right * (plane.take(row_below + right) - lower)
        lower -= upper
        lower *= to_bottom
        np.add(upper, lower, out=pulled[..., channel])
    return pulled


def elastic_transform(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Warp images; draws are those of :func:`sample_elastic`.

    At severity 1 there is no field. From there on the field gets shorter waves, and the affine map weaker.
    """
    side = images.shape[1]
    amplitude, sigma, largest_move = strength("elastic_transform", side, severity)
    values = images.astype(np.float32)
    values /= 255
    values = _affine(values, draws[0], largest_move)
    if amplitude > 0:
        smooth = smoothing_matrix(side, sigma)
        field = smooth @ (2 * draws[1] - 1) @ smooth.T
        field *= amplitude
        values = pull(values, field.astype(np.float32)).astype(np.float32)
    return to_bytes(values)
