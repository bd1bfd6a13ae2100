"""What an attack may do to an image, checked once at the door."""

import math
import operator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mocse_timm.checks import BadInput

__all__ = ["Budget", "Norm", "check_gradients", "check_images", "check_labels", "check_scores"]

Norm = Literal["linf", "l2"]
LARGEST = 1e6  # of a number in pixels; beyond, 16-bit and then 32-bit arithmetic leaves the finite numbers


@dataclass(frozen=True)
class Budget:
    """How far an image may move, and how the attack walks there.

    Args:
        epsilon: largest distance, at least 0. In ``linf`` the largest change of a pixel on the scale [0, 1], e.g.
            8/255; in ``l2`` the Euclidean length of the change of all pixels together, e.g. 0.5, at most 1e6.
        steps: gradient steps; at least 1 unless ``epsilon`` is 0.
        step_size: length of a step in the same norm, 0 to 1e6.
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
        if self.epsilon > LARGEST:
            raise BadInput(f"epsilon must be at most {LARGEST:g}, got {self.epsilon:g}")
        try:
            operator.index(self.steps)
        except TypeError:
            raise BadInput(f"the steps of an attack must be a whole number, got {self.steps!r}") from None
        if self.steps < 0 or (self.steps == 0 and self.epsilon > 0):
            raise BadInput(f"an attack with epsilon {self.epsilon:g} needs at least 1 step, got {self.steps}")
        if not self.step_size >= 0:
            raise BadInput(f"the step size must be at least 0, got {self.step_size:g}")
        if self.step_size > LARGEST:
            raise BadInput(f"the step size must be at most {LARGEST:g}, got {self.step_size:g}")


def check_images(images: Tensor) -> None:
    """Raise BadInput unless ``images`` are (B, channels, H, W), or any (B, ...), of floats in [0, 1]."""
    if not isinstance(images, Tensor):
        raise BadInput(f"attacks need images as a torch tensor, got {type(images).__name__}: use torch.from_numpy")
    if images.ndim < 2:
        raise BadInput(f"attacks need images of shape (B, channels, H, W), got {tuple(images.shape)}: add the missing")
    if not images.is_floating_point():
        raise BadInput(f"attacks need float images in [0, 1], got {images.dtype}: divide 8-bit images by 255")
    if images.numel() == 0:
        return
    low, high = (float(value) for value in images.aminmax())
    if not (low >= 0 and high <= 1):
        advice = "leave normalisation to the model, as all models of this package do"
        if math.isnan(low):
            advice = "replace the pixels that are NaN"
        raise BadInput(f"attacks need images in [0, 1], got values from {low:g} to {high:g}: {advice}")


def check_labels(labels: Tensor, images: Tensor) -> int:
    """Return the largest of ``labels``, -1 if there are none; raise BadInput unless they are (B,) int64 from 0."""
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise BadInput(f"labels must be a tensor of int64 class indices, got {kind}: convert them")
    if labels.shape != images.shape[:1]:
        raise BadInput(f"labels must have shape {tuple(images.shape[:1])}, got {tuple(labels.shape)}")
    if len(labels) == 0:
        return -1
    low, high = (int(value) for value in labels.aminmax())
    if low < 0:
        raise BadInput(f"labels must be class indices from 0, got {low}: leave images without a class out")
    return high


def check_scores(scores: Tensor, num_images: int, largest_label: int = -1) -> Tensor:
    """Return ``scores``; raise BadInput unless they are (B, K) for B images, K above every label, with a gradient."""
    if scores.ndim != 2 or len(scores) != num_images:
        raise BadInput(
            f"an attack needs a model that maps {num_images} images to ({num_images}, classes), "
            f"this one gave {tuple(scores.shape)}"
        )
    if largest_label >= scores.shape[1]:
        raise BadInput(f"label {largest_label} is outside the model's {scores.shape[1]} classes: labels begin at 0")
    if torch.is_grad_enabled() and not scores.requires_grad:
        raise BadInput("the model's answers carry no gradient to the images: an attack by gradients cannot work on it")
    return scores


def check_gradients(sums: Tensor) -> None:
    """Raise BadInput unless ``sums``, (B,), the sums of each image's gradients over all steps, are finite.

    The sign of NaN is 0: an attack would stay where it is, and call every model robust.
    """
    broken = int((~sums.isfinite()).sum())
    if broken:
        raise BadInput(
            f"the model's gradients are NaN or infinite on {broken} of {len(sums)} images, so an attack cannot move: "
            "its training has diverged (lower the learning rate), or its weights are broken"
        )
