"""What an attack may do to an image, checked once at the door."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mocse_timm.checks import BadInput

__all__ = ["Budget", "Norm", "check_images"]

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Budget:
    """How far an image may move, and how the attack walks there.

    Args:
        epsilon: largest distance, at least 0. In ``linf`` the largest change of a pixel on the scale [0, 1], e.g.
            8/255; in ``l2`` the Euclidean length of the change of all pixels together, e.g. 0.5.
        steps: gradient steps; at least 1 unless ``epsilon`` is 0.
        step_size: length of a step in the same norm; at least 0.
        norm: 'linf' or 'l2'.

    Raises:
        BadInput: for a number outside these ranges.
    """

    epsilon: float
    steps: int
    step_size: float
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise BadInput(f"norm must be 'linf' or 'l2', got {self.norm!r}")
        if not self.epsilon >= 0:
            raise BadInput(f"epsilon must be at least 0, got {self.epsilon:g}")
        if self.norm == "linf" and self.epsilon > 1:
            raise BadInput(
                f"epsilon is {self.epsilon:g}, but pixels are in [0, 1]: "
                f"divide by 255, {self.epsilon:g}/255 = {self.epsilon / 255:.4g}"
            )
        if self.steps < 0 or (self.steps == 0 and self.epsilon > 0):
            raise BadInput(f"an attack with epsilon {self.epsilon:g} needs at least 1 step, got {self.steps}")
        if not self.step_size >= 0:
            raise BadInput(f"the step size must be at least 0, got {self.step_size:g}")


def check_images(images: Tensor) -> None:
    """Raise BadInput unless ``images`` are (B, channels, H, W), or any (B, ...), of floats in [0, 1]."""
    if not images.is_floating_point():
        raise BadInput(f"attacks need float images in [0, 1], got {images.dtype}: divide 8-bit images by 255")
    if images.numel() == 0:
        return
    low, high = (float(value) for value in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise BadInput(
            f"attacks need images in [0, 1], got values from {low:g} to {high:g}: "
            "leave normalisation to the model, as all models of this package do"
        )
