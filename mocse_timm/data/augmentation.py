"""How training images are changed: the settings, under timm's names, and the checks on them."""

import math
from dataclasses import dataclass

from timm.data.mixup import Mixup

from mocse_timm.checks import BadInput
from mocse_timm.data.policies import build_policy

__all__ = ["Augmentation", "build_mixup"]


@dataclass(frozen=True)
class Augmentation:
    """Settings for training images; validation images are never changed.

    ``padding`` is used for images in memory; ``scale`` and ``color_jitter`` for images from files.

    Raises:
        BadInput: if a number is out of its range or ``aa`` is not a policy that timm knows.
    """

    padding: int = 4  # pixels of black around an image before a random crop of its own size
    hflip: float = 0.5  # probability of mirroring left to right
    cutout: int = 0  # side in pixels of one black square; 0 for none
    aa: str | None = None  # timm's policy string, such as rand-m9-mstd0.5, augmix-m3-w3, original, v0
    mixup: float = 0.0  # alpha of mixup's beta distribution; 0 for none
    cutmix: float = 0.0  # alpha of cutmix's; with both, each batch gets one of the two at random
    smoothing: float = 0.0  # of the soft labels made by mixup and cutmix; without them the loss smooths
    scale: tuple[float, float] = (0.08, 1.0)  # area of a random resized crop, as a part of the image
    color_jitter: float = 0.4  # strength for brightness, contrast and saturation; not used beside aa
    aug_splits: int = 0  # versions of every image, the first without aa; 0 for one, with it
    reprob: float = 0.0  # probability of erasing one random rectangle
    no_aug: bool = False  # switch all of the above off

    def __post_init__(self) -> None:
        for name in ("padding", "cutout", "mixup", "cutmix", "color_jitter"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"{name} is {getattr(self, name)}: give 0 or more")
        for name in ("hflip", "reprob", "smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} is {getattr(self, name)}: give a number from 0 to 1")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise BadInput(f"scale is {self.scale}: give two parts of the image's area, 0 < smallest <= largest <= 1")
        if self.aug_splits and (self.aug_splits < 2 or not self.aa or self.no_aug or self.mixes):
            raise BadInput(
                f"aug_splits is {self.aug_splits}: give 0, or 2 and more with an aa that tells the versions apart "
                "(such as augmix-m3-w3), and without no_aug, mixup and cutmix"
            )
        if self.aa:
            build_policy(self.aa, image_size=32)

    @property
    def mixes(self) -> bool:
        """Whether batches get mixed images and soft labels."""
        return not self.no_aug and (self.mixup > 0 or self.cutmix > 0)


def build_mixup(augmentation: Augmentation, *, num_classes: int | None) -> Mixup | None:
    """Return timm's Mixup for float batches, or None if neither mixup nor cutmix is asked for.

    Raises:
        BadInput: if it is asked for and the number of classes, which its soft labels need, is None.
    """
    if not augmentation.mixes:
        return None
    if num_classes is None:
        raise BadInput("mixup and cutmix make soft labels: give num_classes")
    return Mixup(
        mixup_alpha=augmentation.mixup,
        cutmix_alpha=augmentation.cutmix,
        label_smoothing=augmentation.smoothing,
        num_classes=num_classes,
    )
