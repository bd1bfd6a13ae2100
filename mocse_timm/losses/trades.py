"""TRADES: be right on clean images, and give attacked ones the same answer.

Paper: `Theoretically Principled Trade-off between Robustness and Accuracy` - https://arxiv.org/abs/1901.08573
"""

import torch.nn.functional as F
from torch import Tensor

from mocse_timm.losses.batch import check_labels, check_scores, check_weight

__all__ = ["agreement_loss", "trades_loss"]


def agreement_loss(clean_logits: Tensor, attacked_logits: Tensor) -> Tensor:
    """Return KL(p(clean) || p(attacked)), averaged over the images.

    Both sides stay in log space: with plain probabilities as target, one that underflows to 0 has the gradient NaN,
    which happens once scores differ by a hundred or more.

    Args:
        clean_logits: (B, C), gradients flow through them.
        attacked_logits: (B, C), of the same images after the attack, likewise.

    Returns:
        Scalar, nats per image.

    Raises:
        ValueError: if the two differ in shape, or hold no images.
    """
    check_scores("logits", clean_logits)
    if clean_logits.shape != attacked_logits.shape:
        raise ValueError(
            f"clean and attacked logits must have one shape, got {tuple(clean_logits.shape)} and "
            f"{tuple(attacked_logits.shape)}: were both made from the same batch?"
        )
    attacked, clean = attacked_logits.log_softmax(dim=1), clean_logits.log_softmax(dim=1)
    return F.kl_div(attacked, clean, reduction="batchmean", log_target=True)


def trades_loss(
    clean_logits: Tensor, attacked_logits: Tensor, labels: Tensor, *, beta: float, label_smoothing: float = 0.0
) -> Tensor:
    """Return cross-entropy(clean, labels) + ``beta`` * KL(p(clean) || p(attacked)).

    Args:
        clean_logits: (B, C).
        attacked_logits: (B, C), of the same images after an attack, which the caller makes.
        labels: (B,) int64 class indices.
        beta: weight of the agreement, at least 0.
        label_smoothing: of the cross-entropy, in [0, 1).

    Returns:
        Scalar, nats per image.

    Raises:
        ValueError: if shapes do not match, a label is not a class, or ``beta`` or the smoothing is out of range.

    Source:
        Zhang et al. 2019, arXiv:1901.08573, equation 5 with cross-entropy for the surrogate loss.
    """
    check_scores("logits", clean_logits)
    check_labels(labels, *clean_logits.shape)
    check_weight("beta", beta)
    check_weight("label_smoothing", label_smoothing, below=1)
    natural = F.cross_entropy(clean_logits, labels, label_smoothing=label_smoothing)
    return natural + beta * agreement_loss(clean_logits, attacked_logits)
