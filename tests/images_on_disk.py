"""Small image folders, written for a test."""

from pathlib import Path

import numpy as np
from PIL import Image


def random_pixels(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    """(height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_folder(root: Path, *, validation: str = "val", height: int = 8, width: int = 8) -> dict[str, np.ndarray]:
    """Two classes, three training images and two validation images each; returns pixels by path under ``root``."""
    written: dict[str, np.ndarray] = {}
    for part, count in (("train", 3), (validation, 2)):
        for name in ("zebra", "ant"):
            for number in range(count):
                file = f"{part}/{name}/{number}.png"
                written[file] = random_pixels(len(written), height, width)
                write_image(root / file, written[file])
    return written
