"""Consistency: several versions of an image are to get the same answer.

Paper: `AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty` - https://arxiv.org/abs/1912.02781
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mocse_timm.losses.batch import check_answers, log_probabilities

__all__ = ["consistency_loss"]


def consistency_loss(logits: Sequence[Tensor]) -> Tensor:
    """Return the Jensen-Shannon divergence of the answers to S versions of the same images, averaged over the images.

    It is the mean of KL(p_s || m) over the versions s, m the mean of their probabilities; at most ln S for one
    question. Of MoCSE's experts each answers a question of its own, and their divergences are added up.

    Args:
        logits: S tensors of one shape, (B, K), or (B, E, K) for E questions; K answers each, -inf for those that a
            question lacks.

    Returns:
        Scalar, nats per image.

    Raises:
        ValueError: if there are fewer than two versions, no images, or the shapes differ.

    Source:
        Hendrycks et al. 2020, arXiv:1912.02781, equations 1 and 2.
    """
    if len(logits) < 2:
        raise ValueError(f"consistency needs two or more versions of the images, got {len(logits)}")
    for version in logits:
        check_answers("logits", version)
        if version.shape != logits[0].shape:
            raise ValueError(
                f"all versions must have one shape, got {tuple(logits[0].shape)} and {tuple(version.shape)}"
            )
    logs = log_probabilities(torch.stack(list(logits)))  # (S, B, ..., K)
    mean = logs.logsumexp(dim=0) - math.log(len(logits))
    divergences = (logs.exp() * (logs - mean)).sum(dim=-1).mean(dim=0)
    return divergences.flatten(1).sum(dim=1).mean() if divergences.ndim > 1 else divergences.mean()
