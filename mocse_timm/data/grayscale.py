"""The two kinds of images a model can take: colour and gray."""

import numpy as np

from mocse_timm.checks import BadInput

__all__ = ["pillow_mode", "rgb_to_gray"]


def pillow_mode(in_chans: int) -> str:
    """Return Pillow's name for images of ``in_chans`` channels: RGB for 3, L (gray) for 1.

    Raises:
        BadInput: for any other number.
    """
    modes = {1: "L", 3: "RGB"}
    if in_chans not in modes:
        raise BadInput(f"--in-chans {in_chans}: images have 3 channels (colour) or 1 (gray), so give 3 or 1")
    return modes[in_chans]


def rgb_to_gray(images: np.ndarray) -> np.ndarray:
    """Turn (..., 3) uint8 colours into (...) uint8 grays, to the last bit as Pillow's ``convert("L")`` does.

    Source:
        ITU-R BT.601 luma weights 0.299, 0.587, 0.114, in Pillow's 16-bit fixed point.
    """
    red, green, blue = np.moveaxis(images.astype(np.uint32), -1, 0)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)
