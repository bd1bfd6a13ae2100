"""How images of any size become the squares that a model is shown in validation, in timm's words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mocse_timm.checks import BadInput

__all__ = ["Resizing"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")  # timm's words for one way of resizing
CROP_MODES = ("center", "squash", "border")
LARGEST_CROP = 16.0  # as what may stand in a config.json


@dataclass(frozen=True)
class Resizing:
    """What timm's ``pretrained_cfg`` says of the images that a model is shown.

    Args:
        crop_pct: the part of the side that is kept, above 0; at most 1 but for a few models, whose images get a black
            border. None for 0.875 above 64 pixels (timm's usual) and for 1 up to 64.
        crop_mode: ``center`` resizes the shorter side to ``size / crop_pct`` and cuts the middle out; ``squash``
            resizes both sides to that, whatever their proportion; ``border`` the longer side, and fills up with the
            mean colour of ImageNet.
        interpolation: how pixels are mixed when an image is resized, in training, too.

    Raises:
        BadInput: if ``crop_pct`` is out of range, or another word is none of timm's.
    """

    crop_pct: float | None = None
    crop_mode: str = "center"
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.crop_pct is not None and not 0 < self.crop_pct <= LARGEST_CROP:
            raise BadInput(f"crop_pct is {self.crop_pct}: give the part of the side that is kept, such as 0.875")
        for name, word, known in (
            ("crop_mode", self.crop_mode, CROP_MODES),
            ("interpolation", self.interpolation, INTERPOLATIONS),
        ):
            if word not in known:
                raise BadInput(f"{name} is {word!r}: it has to be one of {', '.join(known)}")

    @classmethod
    def of_cfg(cls, cfg: Mapping[str, Any]) -> "Resizing":
        """Return what a model's ``pretrained_cfg``, or timm's resolved data configuration, says."""
        return cls(float(cfg["crop_pct"]), cfg["crop_mode"], cfg["interpolation"])

    def kept(self, size: int) -> float:
        """Return the part of the side that is kept of images which become ``size`` pixels wide.

        Raises:
            BadInput: if ``crop_pct`` leaves less than a pixel of them.
        """
        kept = self.crop_pct or (0.875 if size > 64 else 1.0)
        if size / kept < 1:
            raise BadInput(
                f"crop_pct is {kept} for images of {size} pixels: give the part of the side that is kept, such as 0.875"
            )
        return kept
