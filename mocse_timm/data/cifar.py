"""CIFAR-10 and CIFAR-100, read through torchvision into memory."""

from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from mocse_timm.checks import BadInput
from mocse_timm.data.grayscale import pillow_mode, rgb_to_gray
from mocse_timm.data.image_size import chosen_size, resize_images
from mocse_timm.data.splits import DataSplits, MemoryImages

__all__ = ["CIFAR_SETS", "load_cifar"]

CIFAR_SETS = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def load_cifar(
    name: str,
    *,
    data_dir: Path,
    download: bool = False,
    model_size: int = 32,
    image_size: int | None = None,
    in_chans: int = 3,
) -> DataSplits:
    """Return 50,000 training and 10,000 test images of ``name``, ``cifar10`` or ``cifar100``.

    Args:
        data_dir: folder that holds, or with ``download`` receives, torchvision's unpacked archive.

    Raises:
        BadInput: if the files are missing or damaged, cannot be downloaded, or do not fit the model's size.

    Source:
        Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """
    mode = pillow_mode(in_chans)
    size = chosen_size(name, (32, 32), model_size=model_size, image_size=image_size)
    parts: list[MemoryImages] = []
    class_names: tuple[str, ...] = ()
    for train in (True, False):
        try:
            source = CIFAR_SETS[name](str(data_dir), train=train, download=download)
        except (OSError, RuntimeError) as error:  # torchvision: RuntimeError for missing files, OSError for the network
            if download:
                raise BadInput(f"{name} could not be downloaded to {data_dir}: {error}") from None
            raise BadInput(
                f"{name} is not in {data_dir}, or its files are damaged: "
                "pass --data-dir with the folder that has it, or --dataset-download"
            ) from None
        pixels = rgb_to_gray(source.data)[..., None] if mode == "L" else source.data
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        parts.append(MemoryImages(resize_images(images, size), torch.tensor(source.targets)))
        class_names = tuple(source.classes)
    return DataSplits(name, parts[0], parts[1], class_names)
