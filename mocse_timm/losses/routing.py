"""Losses on a router's scores. Letters: B images, E experts.

Paper: `Robust Mixture-of-Expert Training for Convolutional Neural Networks` - https://arxiv.org/abs/2308.10110
"""

import torch.nn.functional as F
from torch import Tensor

from mocse_timm.losses.batch import check_labels, check_scores, check_weight
from mocse_timm.losses.trades import agreement_loss

__all__ = ["balance_loss", "class_routing_loss", "expert_shares"]


def class_routing_loss(clean_scores: Tensor, attacked_scores: Tensor, labels: Tensor, *, beta: float) -> Tensor:
    """Return cross-entropy(clean, labels mod E) + ``beta`` * KL(p(clean) || p(attacked)): classes own experts.

    So the authors' code trains the router, but in its newest version both terms have the weight ``beta``, and the
    attack drives apart the model's logits as well; the paper's text has the model's own loss instead.

    Args:
        clean_scores: (B, E).
        attacked_scores: (B, E), of the same images after an attack on the scores.
        labels: (B,) int64 class indices; class y belongs to expert y mod E.
        beta: weight of the agreement, at least 0.

    Returns:
        Scalar, nats per image.

    Raises:
        ValueError: if shapes do not match, a label is negative, or ``beta`` is.
    """
    check_scores("scores", clean_scores)
    check_labels(labels, len(clean_scores), None)
    check_weight("beta", beta)
    assigned = F.cross_entropy(clean_scores, labels % clean_scores.shape[1])
    return assigned + beta * agreement_loss(clean_scores, attacked_scores)


def expert_shares(scores: Tensor) -> Tensor:
    """Return the share of the images that each expert gets, (E,) in [0, 1], of scores (B, E); it has no gradient."""
    check_scores("scores", scores)
    return F.one_hot(scores.argmax(dim=1), scores.shape[1]).to(scores.dtype).mean(dim=0)


def balance_loss(scores: Tensor, shares: Tensor | None = None) -> Tensor:
    """Return E * sum_e share_e * p_e: 1 when images are spread evenly, up to E when one expert takes all.

    The share of images an expert gets has no gradient; its mean probability has.

    Args:
        scores: (B, E).
        shares: (E,), the experts' shares of a larger batch, of which ``scores`` are a part: averaged over its equal
            parts this loss is then that of the whole. By default those of ``scores``.

    Returns:
        Scalar.

    Raises:
        ValueError: if there are no images, or a shape is another.

    Source:
        Fedus et al. 2021, Switch Transformers, arXiv:2101.03961, equation 4; shares of the batch of all processes as
        in Qiu et al. 2025, arXiv:2501.11873.
    """
    check_scores("scores", scores)
    shares = expert_shares(scores) if shares is None else shares
    if shares.shape != scores.shape[1:]:
        raise ValueError(f"shares must have shape {tuple(scores.shape[1:])}, one an expert, got {tuple(shares.shape)}")
    return scores.shape[1] * (shares * scores.softmax(dim=1).mean(dim=0)).sum()
