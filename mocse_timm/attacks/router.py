"""An attack on the route alone: does another expert take the image?"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocse_timm.attacks.budget import Budget, check_images, check_scores
from mocse_timm.attacks.pgd import walk
from mocse_timm.attacks.steps import draw_start
from mocse_timm.modes import evaluating, without_gradients

__all__ = ["router_attack"]


def router_attack(
    model: nn.Module,
    images: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    norm: str = "linf",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return images near the given ones that the router would send elsewhere.

    Maximises the cross-entropy of the router's scores against the expert it chooses for the clean image.

    Args:
        model: has ``route``, images to scores (B, E).
        images: (B, channels, H, W), float in [0, 1].
        epsilon, steps, step_size, norm: see :class:`mocse_timm.attacks.budget.Budget`.
        generator: source of the random start; torch's own when None.

    Returns:
        (B, channels, H, W), float in [0, 1], detached.

    Raises:
        BadInput: if images leave [0, 1], a number is out of range, or gradients are not finite.
        ValueError: if the model has no router.
    """
    budget = Budget(epsilon, steps, step_size, norm)  # pyright: ignore[reportArgumentType]  (checked there)
    check_images(images)
    route: Any = getattr(model, "route", None)
    if route is None:
        raise ValueError(f"{type(model).__name__} has no router to attack: choose another attack")
    images = images.detach()
    if epsilon == 0 or images.numel() == 0:
        return images.clone()
    with evaluating(model):
        with without_gradients(images):
            chosen = check_scores(route(images), len(images)).argmax(dim=1)

        def loss(attacked: Tensor) -> Tensor:
            scores = check_scores(route(attacked), len(attacked))
            return F.cross_entropy(scores.float(), chosen, reduction="none")

        start = draw_start(images, budget, generator)
        return walk(loss, start, images, budget)
