"""What a camera's or a computer's processing does: less contrast, larger pixels, JPEG."""

from io import BytesIO

import numpy as np
from PIL import Image

from mocse_timm.corruptions.pixels import Bytes, Draws, to_bytes
from mocse_timm.corruptions.severities import strength

__all__ = ["contrast", "jpeg_compression", "pixelate"]


def contrast(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Pull every channel towards its mean over the image; the table gives the share of the distance that is kept."""
    kept = strength("contrast", images.shape[1], severity)
    values = images / 255.0
    means = values.mean(axis=(1, 2), keepdims=True)
    values -= means
    values *= kept
    values += means
    return to_bytes(values)


def pixelate(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Shrink images by the table's factor, averaging over boxes, and enlarge them again the same way."""
    side = images.shape[1]
    fewer = int(side * strength("pixelate", side, severity))
    box = Image.Resampling.BOX
    pictures = (Image.fromarray(image) for image in images)
    return np.stack([np.asarray(p.resize((fewer, fewer), box).resize((side, side), box)) for p in pictures])


def jpeg_compression(images: Bytes, draws: Draws, severity: int) -> Bytes:
    """Write images as JPEG of the table's quality, colour at half resolution, and read them back."""
    quality = strength("jpeg_compression", images.shape[1], severity)
    decoded = np.empty_like(images)
    for image, place in zip(images, decoded, strict=True):
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        place[:] = np.asarray(Image.open(file, formats=["JPEG"]))
    return decoded
