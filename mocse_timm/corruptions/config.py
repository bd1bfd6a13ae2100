"""The flags of ``python -m mocse_timm.corruptions``."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

__all__ = ["CorruptionsConfig"]


@dataclass(frozen=True)
class CorruptionsConfig:
    """Corrupt a data set; or, with --gallery, --verify or --download, draw, check or fetch."""

    dataset: str = "digits"
    """digits, cifar10, cifar100, folder:PATH, torch/NAME or hfds/NAME."""
    data_dir: str | None = None
    """Where data sets are kept, and where --download puts archives; by default the folder data."""
    dataset_download: bool = False
    """Download the data set if it is missing."""
    split: Literal["validation", "train"] = "validation"
    """Which part of the data set to corrupt."""
    train_split: str = "train"
    """Name of the training part, in folders and timm's data sets."""
    val_split: str = "validation"
    """Name of the validation part, likewise; of folders val and test are tried, too."""
    img_size: int | None = None
    """Image side in pixels; by default the stored one. It picks the strengths: from 32, from 64 or from 224 pixels."""
    crop_pct: float | None = None
    """With --img-size, the part kept of the side of images above 64 pixels; by default 0.875, as in ImageNet-C."""

    corruptions: tuple[str, ...] = ("all",)
    """Names, groups (noise blur weather digital extra), 15 or all. Frost needs photographs, else it is left out."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    """How strong, 1 to 5; files hold the chosen ones in rising order."""
    seed: int = 0
    """Seed of every draw. An image's draws depend on seed, corruption, severity and its place in the set."""
    frost_dir: str | None = None
    """Folder of frost's photographs; by default those of an installed imagecorruptions."""
    processes: Annotated[int | None, tyro.conf.arg(aliases=["-j"])] = None
    """Processes that corrupt images; by default one a core. The result is the same to the last bit."""
    output: str = "data"
    """Folder that receives the folder generated-DATASET-seedN. Run again after a stop, and it goes on."""

    gallery: str | None = None
    """Instead, draw one image under every corruption and severity into this .png."""
    image: int = 0
    """Which image of the part --gallery shows."""
    verify: str | None = None
    """Instead, check an archive: the folder of one, official or generated, or an official .tar."""
    download: str | None = None
    """Instead, fetch an official archive from Zenodo: cifar10-c, cifar100-c (2.9 GB each), tiny-imagenet-c or
    imagenet-c (66 GB). Run again after a stop, and it goes on. The variable MOCSE_TIMM_ZENODO names a mirror."""
