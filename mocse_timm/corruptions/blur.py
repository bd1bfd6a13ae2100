"""Blur by one kernel for all images: Gaussian, and the disk of a lens out of focus."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mocse_timm.corruptions.extra import import_cv2, import_extra
from mocse_timm.corruptions.pixels import Bytes, Draws, Floats, to_bytes
from mocse_timm.corruptions.severities import strength

__all__ = ["defocus_blur", "defocus_kernel", "gaussian", "gaussian_blur"]


def gaussian(values: Floats, sigma: float) -> Floats:
    """Return images (B, H, W) or (B, H, W, 3) blurred over H and W, the edge repeated, to 4 sigma."""
    ndimage = import_extra("scipy.ndimage")
    return ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=4.0, axes=(1, 2))


def gaussian_blur(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Blur by a Gaussian; the table gives its sigma in pixels."""
    return to_bytes(gaussian(images / 255.0, strength("gaussian_blur", images.shape[1], severity)))


@lru_cache(maxsize=32)
def defocus_kernel(radius: float, alias_sigma: float) -> NDArray[np.float32]:
    """Return an odd square kernel that sums to 1: a disk, softened by a Gaussian, without its rim of zeros."""
    cv2 = import_cv2()
    reach = 8 if radius <= 8 else int(radius)
    across = np.arange(-reach, reach + 1)
    disk = (across**2 + across[:, None] ** 2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    softening = (3, 3) if radius <= 8 else (5, 5)
    kernel = cv2.GaussianBlur(disk, ksize=softening, sigmaX=alias_sigma)
    rim = int(np.flatnonzero(kernel.any(axis=0))[0])
    return np.ascontiguousarray(kernel[rim : len(kernel) - rim, rim : len(kernel) - rim])


def defocus_blur(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Blur by a disk; the table gives its radius and the sigma of its softening, in pixels.

    The border mirrors the image without repeating the edge.
    """
    cv2 = import_cv2()
    kernel = defocus_kernel(*strength("defocus_blur", images.shape[1], severity))
    values = images / 255.0
    return to_bytes(np.stack([cv2.filter2D(image, -1, kernel) for image in values]))
