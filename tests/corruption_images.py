"""Images to corrupt: smooth colours as in photographs, edges, a white and a black corner; and pictures of ice."""

from pathlib import Path

import cv2
import numpy as np

from mocse_timm.corruptions.frost import TEXTURES


def pictures(count: int, side: int = 32) -> np.ndarray:
    """Return images (count, side, side, 3) uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    images = np.empty((count, side, side, 3))
    for image in images:
        for channel in range(3):
            waves = rng.normal(size=(4, 1, 1)) * np.cos(
                rng.uniform(1, 9, (4, 1, 1)) * (y + rng.normal(size=(4, 1, 1)) * x)
            )
            image[..., channel] = rng.uniform(80, 170) + 45 * waves.sum(axis=0)
        top, left = rng.integers(side // 4, side // 2, 2)
        image[top : top + side // 4, left : left + side // 3] = rng.uniform(0, 255, 3)
        image[: side // 4, : side // 4], image[-side // 5 :, -side // 5 :] = 255, 0
    return images.clip(0, 255).astype(np.uint8)


def natural_spectra(count: int, side: int = 32) -> np.ndarray:
    """Return images (count, side, side, 3) uint8 of noise whose waves weaken with their frequency, as photographs'."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.fft.fftfreq(2 * side), np.fft.fftfreq(2 * side), indexing="ij")
    strength = 1 / np.maximum(np.hypot(y, x), 0.5 / side)[..., None]
    waves = np.fft.fft2(rng.normal(size=(count, 2 * side, 2 * side, 3)), axes=(1, 2)) * strength
    values = np.fft.ifft2(waves, axes=(1, 2)).real[:, :side, :side]
    return (127 + 50 * values / values.std()).clip(0, 255).astype(np.uint8)


def freeze(folder: Path, height: int = 260, width: int = 300) -> Path:
    """Write pictures under the names of the frost photographs, each different, and return ``folder``."""
    rng = np.random.default_rng(1)
    for name in TEXTURES:
        coarse = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        _, written = cv2.imencode(".png", cv2.resize(coarse, (width, height)))
        (folder / name).write_bytes(written.tobytes())  # OpenCV reads by content, not by name
    return folder
