"""What every loss needs of a batch, checked at the door.

Shapes and number types cost nothing to check. Values are checked on the CPU alone, and not in compiled code: on an
accelerator the training would wait for the answer at every step, a compiled step would be cut in two there, and data
sets are checked when they are loaded.
"""

import math

import torch
from torch import Tensor

__all__ = [
    "check_answers",
    "check_labels",
    "check_scores",
    "check_weight",
    "check_weights",
    "log_probabilities",
    "values_are_at_hand",
]

LOWEST = -1e4  # for the -inf that pads the experts of smaller groups: a probability of 0 with finite gradients


def check_scores(name: str, scores: Tensor) -> None:
    """Raise ValueError unless ``scores`` are floats (B, K) with at least one image and one column."""
    if scores.ndim != 2 or scores.numel() == 0 or not scores.is_floating_point():
        raise ValueError(
            f"{name} must be floats of shape (B, K) for at least one image, got {scores.dtype} of shape "
            f"{tuple(scores.shape)}"
        )


def check_answers(name: str, logits: Tensor) -> None:
    """Raise ValueError unless ``logits`` are floats (B, K), or (B, ..., K) for several questions, of some images."""
    check_scores(name, logits.flatten(1) if logits.ndim > 2 else logits)


def log_probabilities(logits: Tensor) -> Tensor:
    """Return log softmax over the last dimension; of padding, -inf, a finite number whose probability is 0."""
    return logits.clamp(min=LOWEST).log_softmax(dim=-1)


def values_are_at_hand(tensor: Tensor) -> bool:
    """Return whether looking at the values of ``tensor`` makes nobody wait."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def check_labels(labels: Tensor, num_images: int, num_classes: int | None) -> None:
    """Raise ValueError unless ``labels`` are (B,) int64, and from 0 to C - 1; with no C, from 0."""
    if labels.shape != (num_images,):
        raise ValueError(f"labels must have shape ({num_images},), got {tuple(labels.shape)}")
    if labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 class indices, got {labels.dtype}")
    if not values_are_at_hand(labels):
        return
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or (num_classes is not None and high >= num_classes):
        classes = "" if num_classes is None else f" to {num_classes - 1}"
        raise ValueError(f"labels must be class indices from 0{classes}, got {low if low < 0 else high}")


def check_weights(targets: Tensor, num_images: int, num_classes: int) -> None:
    """Raise ValueError unless soft ``targets`` are floats (B, C) from 0 whose rows sum to 1."""
    if targets.shape != (num_images, num_classes):
        raise ValueError(
            f"soft targets must have one row an image and one column a class, ({num_images}, {num_classes}), got "
            f"{tuple(targets.shape)}"
        )
    if not targets.is_floating_point():
        raise ValueError(f"soft targets must be floats, got {targets.dtype}: give labels (B,) or weights of classes")
    if not values_are_at_hand(targets):
        return
    low, sums = targets.amin(), targets.sum(dim=1, dtype=torch.float32)
    if not (low >= 0 and (sums - 1).abs().amax() <= 0.02):  # 16-bit weights of 1,000 classes miss 1 by a little
        raise ValueError(
            f"soft targets must be at least 0 and sum to 1 for each image, got {low:g} and sums from "
            f"{sums.amin():g} to {sums.amax():g}"
        )


def check_weight(name: str, value: float, *, below: float = math.inf) -> None:
    """Raise ValueError unless ``value`` is a number from 0 to below ``below``."""
    if not 0 <= value < below:
        upper = "" if below == math.inf else f" and below {below:g}"
        raise ValueError(f"{name} must be at least 0{upper}, got {value}")
