"""Which size images in memory get, and resizing them to it."""

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from mocse_timm.checks import BadInput

__all__ = ["chosen_size", "resize_images"]


def chosen_size(name: str, stored: tuple[int, int], *, model_size: int, image_size: int | None) -> int:
    """Return the side, in pixels, that images of data set ``name`` are used at.

    Args:
        name: of the data set, for the message.
        stored: (height, width) of its images.
        model_size: side of the images the model was made for.
        image_size: side the user asked for (``--img-size``), or None: the stored size has to fit the model.

    Raises:
        BadInput: if the user asked for no size and the stored one is not the model's.
    """
    if image_size is not None:
        return image_size
    if stored != (model_size, model_size):
        height, width = stored
        raise BadInput(
            f"images of {name} are {height}x{width} but the model takes {model_size}x{model_size}: "
            f"pass --img-size N to build the model for NxN and resize the images to it (for example {max(stored)})"
        )
    return model_size


def resize_images(images: Tensor, size: int, *, chunk: int = 4096) -> Tensor:
    """Resize (N, C, H, W) uint8 images to ``size`` x ``size``: bilinear, antialiased.

    Works on ``chunk`` images at a time, so that it needs little memory beyond the result. Images already of
    that size come back as they are.
    """
    if images.shape[-2:] == (size, size):
        return images
    return torch.cat([functional.resize(part, [size, size], antialias=True) for part in images.split(chunk)])
