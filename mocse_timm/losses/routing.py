"""Losses on a router's scores. Letters: B images, E experts.

Paper: `Robust Mixture-of-Expert Training for Convolutional Neural Networks` - https://arxiv.org/abs/2308.10110
"""

import torch.nn.functional as F
from torch import Tensor

from mocse_timm.losses.trades import agreement_loss

__all__ = ["balance_loss", "class_routing_loss"]


def class_routing_loss(clean_scores: Tensor, attacked_scores: Tensor, labels: Tensor, *, beta: float) -> Tensor:
    """Return cross-entropy(clean, labels mod E) + ``beta`` * KL(p(clean) || p(attacked)): classes own experts.

    This is how the authors' code trains the router; the paper's text has the model's own loss instead.

    Args:
        clean_scores: (B, E).
        attacked_scores: (B, E), of the same images after an attack on the scores.
        labels: (B,) int64 class indices; class y belongs to expert y mod E.
        beta: weight of the agreement, at least 0.

    Returns:
        Scalar, nats per image.

    Raises:
        ValueError: if shapes do not match or ``beta`` is negative.
    """
    if labels.shape != clean_scores.shape[:1]:
        raise ValueError(f"labels must have shape {tuple(clean_scores.shape[:1])}, got {tuple(labels.shape)}")
    if beta < 0:
        raise ValueError(f"beta must be at least 0, got {beta}")
    assigned = F.cross_entropy(clean_scores, labels % clean_scores.shape[1])
    return assigned + beta * agreement_loss(clean_scores, attacked_scores)


def balance_loss(scores: Tensor) -> Tensor:
    """Return E * sum_e share_e * p_e: 1 when images are spread evenly, up to E when one expert takes all.

    The share of images an expert gets has no gradient; its mean probability has.

    Args:
        scores: (B, E).

    Returns:
        Scalar.

    Source:
        Fedus et al. 2021, Switch Transformers, arXiv:2101.03961, equation 4.
    """
    num_experts = scores.shape[1]
    share = F.one_hot(scores.argmax(dim=1), num_experts).to(scores.dtype).mean(dim=0)
    return num_experts * (share * scores.softmax(dim=1).mean(dim=0)).sum()
