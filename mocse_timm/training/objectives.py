"""What one phase minimises: losses of a model on a batch, put together from ``mocse_timm.losses``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocse_timm.losses.mocse import mocse_loss
from mocse_timm.models.ensemble import Ensemble
from mocse_timm.models.mocse import MoCSE
from mocse_timm.training.phases import LossResult, PhaseLoss

__all__ = ["cross_entropy_objective", "ensemble_objective", "mocse_objective"]


def cross_entropy_objective(smoothing: float) -> PhaseLoss:
    """Cross-entropy on the class scores."""

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        logits = model(images).float()  # the softmax of a loss is not taken in 16 bits
        label_smoothing = smoothing if targets.ndim == 1 else 0.0
        return LossResult(F.cross_entropy(logits, targets, label_smoothing=label_smoothing), logits)

    return loss


def mocse_objective(
    smoothing: float, expert_loss_weight: float, aggregate_loss_weight: float, positive_weight: float
) -> PhaseLoss:
    """Cross-entropy on the aggregate and on every expert, see :func:`mocse_timm.losses.mocse.mocse_loss`."""

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        assert isinstance(model, MoCSE)
        expert_logits = model.forward_experts(images).float()
        scores = model.aggregate(expert_logits)
        result = mocse_loss(
            scores,
            expert_logits,
            targets,
            group_sizes=model.group_sizes,
            expert_loss_weight=expert_loss_weight,
            aggregate_loss_weight=aggregate_loss_weight,
            positive_weight=positive_weight,
            label_smoothing=smoothing,
        )
        return LossResult(result.total, scores, {"aggregate_loss": result.aggregate, "expert_loss": result.experts})

    return loss


def ensemble_objective(smoothing: float) -> PhaseLoss:
    """Cross-entropy of every expert on all classes, summed: what is not shared learns as if it were alone."""

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        assert isinstance(model, Ensemble)
        expert_logits = model.forward_experts(images).float()
        label_smoothing = smoothing if targets.ndim == 1 else 0.0
        each = [F.cross_entropy(logits, targets, label_smoothing=label_smoothing) for logits in expert_logits.unbind(1)]
        return LossResult(torch.stack(each).sum(), model.aggregate(expert_logits))

    return loss
