"""Doubt before reporting: does an attack on this model mean anything?

A robust accuracy can be high because the model is robust, or because its gradients are hidden and the attack never
moves. These checks tell the two apart on a few images.
Letters: B images, C classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocse_timm.attacks.budget import Norm
from mocse_timm.attacks.pgd import pgd_l2, pgd_linf
from mocse_timm.modes import evaluating

__all__ = ["Check", "check_gradients"]

STEPS = 10  # of the attacks at neighbouring epsilons
LARGE_STEPS = 40
LARGE = {"linf": 0.5, "l2": 20.0}  # every image can be changed beyond recognition
TOLERANCE = 0.02  # share of images that chance may turn between two attacks


@dataclass(frozen=True)
class Check:
    """One reason to believe or doubt the robust accuracies."""

    name: str
    passed: bool
    found: str
    """What was measured."""


def _gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(model(images).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
    return gradient


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(images).argmax(dim=1) == labels).float().mean())


def check_gradients(model: nn.Module, images: Tensor, labels: Tensor, *, epsilon: float, norm: Norm) -> list[Check]:
    """Return the outcome of four checks on a few images.

    Gradients are not zero, the same images give the same logits twice, a larger epsilon never helps the model, and a
    very large one leaves it nothing.

    Args:
        model: maps images to logits (B, C).
        images: (B, channels, H, W), float in [0, 1].
        labels: (B,), int64 class indices.
        epsilon: that of the attacks to come.
        norm: 'linf' or 'l2'.
    """
    attack = pgd_l2 if norm == "l2" else pgd_linf
    with evaluating(model):
        zero = float((_gradient(model, images, labels).flatten(1).abs().amax(dim=1) == 0).float().mean())
        with torch.no_grad():
            difference = float((model(images) - model(images)).abs().max())
        curve = [_accuracy(model, images, labels)]
        for factor in (0.5, 1, 2):
            options = {"epsilon": min(factor * epsilon, LARGE[norm]), "steps": STEPS, "random_start": False}
            curve.append(_accuracy(model, attack(model, images, labels, **options), labels))
        options = {"epsilon": LARGE[norm], "steps": LARGE_STEPS, "early_stop": True}
        largest = _accuracy(model, attack(model, images, labels, **options), labels)
    rises = max(after - before for before, after in zip(curve, curve[1:], strict=False))
    return [
        Check("gradients are not zero", zero < 0.5, f"zero for {100 * zero:.1f} % of {len(images)} images"),
        Check("outputs are deterministic", difference == 0, f"logits of two passes differ by {difference:.3g}"),
        Check(
            "a larger epsilon never helps",
            rises <= TOLERANCE,
            "accuracy " + ", ".join(f"{100 * value:.1f}" for value in curve) + " % at 0, 1/2, 1, 2 times epsilon",
        ),
        Check("a large epsilon leaves nothing", largest == 0, f"accuracy {100 * largest:.1f} % at {LARGE[norm]:g}"),
    ]
