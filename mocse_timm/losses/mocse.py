"""MoCSE: every expert learns "mine or not mine", and the aggregate learns the class.

Letters: B images, C classes, E experts, G classes of the largest group. Expert logits are (B, E, G + 1) with
"none of mine" at index 0 and -inf where a smaller group has no class.

Paper: `MoCSE` - https://arxiv.org/abs/2311.10177
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mocse_timm.losses.batch import check_labels, check_scores, check_weight, check_weights, values_are_at_hand

__all__ = ["MoCSELoss", "expert_loss", "mocse_loss", "multi_label_loss"]


class MoCSELoss(NamedTuple):
    """The two parts of the loss and their weighted sum, each a scalar in nats per image."""

    total: Tensor
    aggregate: Tensor
    experts: Tensor


def _soft_targets(targets: Tensor, num_images: int, num_classes: int) -> Tensor:
    """Return (B, C) class weights: one-hot for labels (B,), unchanged when they are soft already."""
    if targets.ndim == 1:
        check_labels(targets, num_images, num_classes)
        return F.one_hot(targets, num_classes)
    check_weights(targets, num_images, num_classes)
    return targets


def expert_loss(
    expert_logits: Tensor, targets: Tensor, group_sizes: list[int], *, positive_weight: float = 1.0
) -> Tensor:
    """Return the sum over experts of their cross-entropy, averaged over the images.

    With one expert a class this is sum_n BCE(z_n, [y = n]), z_n the log-odds of expert n. An expert of a group
    tells its classes and "none of mine" apart. Soft targets count as the weights of a sum of such losses.

    Args:
        expert_logits: (B, E, G + 1).
        targets: (B,) class indices, or (B, C) weights that sum to 1 (mixup).
        group_sizes: classes of each expert, E numbers that sum to C.
        positive_weight: at least 0, of an expert's own images; among C classes that occur alike, each expert sees C - 1
            others for every one of its own, and C - 1 here balances them. 1 is the paper.

    Returns:
        Scalar, nats per image.

    Raises:
        ValueError: if the logits' shape does not follow from ``group_sizes``, there are no images, the targets are
            neither classes nor weights of C classes, or ``positive_weight`` is negative.

    Source:
        arXiv:2311.10177, section 3: binary cross-entropy of each expert.
    """
    check_weight("positive_weight", positive_weight)
    if min(group_sizes, default=0) < 1:
        raise ValueError(f"group_sizes must be one or more numbers of classes, each at least 1, got {group_sizes}")
    wanted = (len(group_sizes), max(group_sizes) + 1)
    if expert_logits.shape[1:] != wanted or not len(expert_logits) or not expert_logits.is_floating_point():
        raise ValueError(
            f"expert logits must be (B, {wanted[0]}, {wanted[1]}) for groups of {group_sizes}, floats of at least one "
            f"image, got {expert_logits.dtype} {tuple(expert_logits.shape)}"
        )
    weights = _soft_targets(targets, len(expert_logits), sum(group_sizes)).to(expert_logits.dtype)
    log_confidences = expert_logits.log_softmax(dim=2)
    loss = expert_logits.new_zeros(())
    for expert, own in enumerate(weights.split(group_sizes, dim=1)):  # slices never touch the padding's -inf
        classes = log_confidences[:, expert, 1 : 1 + own.shape[1]]
        loss = (
            loss
            - positive_weight * (own * classes).sum()
            - ((1 - own.sum(dim=1)) * log_confidences[:, expert, 0]).sum()
        )
    return loss / len(expert_logits)


def mocse_loss(
    scores: Tensor,
    expert_logits: Tensor,
    targets: Tensor,
    *,
    group_sizes: list[int],
    expert_loss_weight: float = 1.0,
    aggregate_loss_weight: float = 1.0,
    positive_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> MoCSELoss:
    """Return ``aggregate_loss_weight`` * cross-entropy(scores, targets) + ``expert_loss_weight`` * :func:`expert_loss`.

    Args:
        scores: (B, C), the aggregated class scores.
        expert_logits: (B, E, G + 1), the experts' own logits for the same images.
        targets: (B,) class indices, or (B, C) weights that sum to 1 (mixup).
        group_sizes: classes of each expert.
        expert_loss_weight: at least 0; 0 trains on the aggregate alone.
        aggregate_loss_weight: at least 0; 0 trains every expert for itself.
        positive_weight: of an expert's own images in its loss.
        label_smoothing: of the aggregate's cross-entropy, in [0, 1); soft targets are smoothed already.

    Raises:
        ValueError: if a weight or the smoothing is out of range, shapes disagree, or targets are no classes.

    Source:
        arXiv:2311.10177, section 3.
    """
    check_weight("expert_loss_weight", expert_loss_weight)
    check_weight("aggregate_loss_weight", aggregate_loss_weight)
    check_weight("label_smoothing", label_smoothing, below=1)
    check_scores("scores", scores)
    experts = expert_loss(expert_logits, targets, group_sizes, positive_weight=positive_weight)
    if scores.shape != (len(expert_logits), sum(group_sizes)):
        raise ValueError(
            f"scores must have shape ({len(expert_logits)}, {sum(group_sizes)}), one row an image and one column a "
            f"class, got {tuple(scores.shape)}"
        )
    hard = targets.ndim == 1
    aggregate = F.cross_entropy(
        scores, targets if hard else targets.to(scores.dtype), label_smoothing=label_smoothing if hard else 0.0
    )
    return MoCSELoss(aggregate_loss_weight * aggregate + expert_loss_weight * experts, aggregate, experts)


def multi_label_loss(log_odds: Tensor, targets: Tensor) -> Tensor:
    """Return the experts' binary cross-entropy alone, for images that show several classes or none.

    Args:
        log_odds: (B, C), from :func:`mocse_timm.models.aggregation.class_log_odds`, or the scores of a model whose
            aggregation is ``log_odds``.
        targets: (B, C), 1 where the image shows the class, else 0.

    Returns:
        Scalar: summed over classes, averaged over images, nats.

    Raises:
        ValueError: if the shapes differ, there are no images, or a target is outside [0, 1], which is looked for on the
            CPU alone, see :mod:`mocse_timm.losses.batch`.
    """
    check_scores("log_odds", log_odds)
    if log_odds.shape != targets.shape:
        raise ValueError(f"targets must have shape {tuple(log_odds.shape)}, got {tuple(targets.shape)}")
    if values_are_at_hand(targets) and not torch.all((targets >= 0) & (targets <= 1)):  # so that NaN is refused, too
        raise ValueError(f"targets must lie in [0, 1], got {targets.min().item():g} to {targets.max().item():g}")
    losses = F.binary_cross_entropy_with_logits(log_odds, targets.to(log_odds.dtype), reduction="none")
    return losses.sum(dim=1).mean()
