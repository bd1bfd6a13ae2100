"""The attack inside TRADES' training: away from the model's own answer, with no label.

Paper: `Theoretically Principled Trade-off between Robustness and Accuracy` - https://arxiv.org/abs/1901.08573
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mocse_timm.attacks.budget import Budget, check_images, check_scores
from mocse_timm.attacks.pgd import Model, walk
from mocse_timm.attacks.steps import project
from mocse_timm.modes import evaluating, without_gradients

__all__ = ["trades_attack"]

START_NOISE = 0.001  # standard deviation of the start's noise: at the image itself the divergence has no gradient


def trades_attack(
    model: Model,
    images: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    norm: str = "linf",
    scores: Callable[[Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return images near the given ones whose class probabilities are far from theirs.

    Maximises KL(p(images) || p(attacked)) in eval mode; p(images) is held fixed.

    Args:
        model: maps images to logits (B, C); a module, or a function.
        images: (B, channels, H, W), float in [0, 1].
        epsilon, steps, step_size, norm: see :class:`mocse_timm.attacks.budget.Budget`.
        scores: another map of images to scores (B, K) to drive apart, such as a router's; the model's logits when None.
        generator: source of the start's noise; torch's own when None.

    Returns:
        (B, channels, H, W), float in [0, 1], detached.

    Raises:
        BadInput: if images leave [0, 1], a number is out of range, or gradients are not finite.

    Source:
        Zhang et al. 2019, arXiv:1901.08573, Algorithm 1.
    """
    budget = Budget(epsilon, steps, step_size, norm)  # pyright: ignore[reportArgumentType]  (checked there)
    check_images(images)
    images = images.detach()
    if epsilon == 0 or images.numel() == 0:
        return images.clone()
    scores = model if scores is None else scores
    with evaluating(model):
        with without_gradients(images):
            clean = check_scores(scores(images), len(images)).float().log_softmax(dim=1)

        def divergence(attacked: Tensor) -> Tensor:
            logs = check_scores(scores(attacked), len(attacked)).float().log_softmax(dim=1)
            return F.kl_div(logs, clean, reduction="none", log_target=True).sum(dim=1)

        device = images.device if generator is None else generator.device
        noise = torch.randn(images.shape, generator=generator, device=device).to(images)
        start = project(images + START_NOISE * noise, images, epsilon, budget.norm)
        return walk(divergence, start, images, budget)
