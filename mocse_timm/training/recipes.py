"""The recipes: which losses are minimised, by which optimisers."""

import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from mocse_timm.checks import BadInput
from mocse_timm.losses.mocse import mocse_loss
from mocse_timm.models.mocse import MoCSE
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.phases import LossResult, Phase, PhaseLoss

__all__ = ["build_recipe", "learning_rate"]


def cross_entropy_objective(smoothing: float) -> PhaseLoss:
    """Cross-entropy on the class scores."""

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        logits = model(images).float()  # the softmax of a loss is not taken in 16 bits
        label_smoothing = smoothing if targets.ndim == 1 else 0.0
        return LossResult(F.cross_entropy(logits, targets, label_smoothing=label_smoothing), logits)

    return loss


def mocse_objective(smoothing: float, expert_loss_weight: float) -> PhaseLoss:
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
            label_smoothing=smoothing,
        )
        return LossResult(result.total, scores, {"aggregate_loss": result.aggregate, "expert_loss": result.experts})

    return loss


def learning_rate(config: TrainConfig, num_processes: int) -> float:
    """Return ``--lr``, or ``--lr-base`` scaled linearly by the images of one optimiser step."""
    if config.lr is not None:
        return config.lr
    return config.lr_base * config.batch_size * config.grad_accum_steps * num_processes / config.lr_base_size


def _optimizer(config: TrainConfig, model: nn.Module, num_processes: int) -> torch.optim.Optimizer:
    try:
        return create_optimizer_v2(
            model,
            opt=config.opt,
            lr=learning_rate(config, num_processes),
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            filter_bias_and_bn=config.filter_bias_and_bn,
            layer_decay=config.layer_decay,
            **config.opt_kwargs,
        )
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"--opt {config.opt}: {' '.join(str(error).split())}; see timm.optim.list_optimizers()"
        ) from None


def build_recipe(config: TrainConfig, model: nn.Module, num_processes: int = 1) -> tuple[Phase, ...]:
    """Return the phases of the training that ``config`` asks for.

    Raises:
        BadInput: if the objective does not fit the model or timm refuses the optimiser.
    """
    objective = config.objective or ("mocse" if isinstance(model, MoCSE) else "ce")
    if objective == "mocse" and not isinstance(model, MoCSE):
        raise BadInput(f"--objective mocse needs a model with class experts, got {config.model!r}: use --objective ce")
    if objective == "mocse":
        loss = mocse_objective(config.smoothing, config.expert_loss_weight)
    else:
        loss = cross_entropy_objective(config.smoothing)
    return (Phase("standard", loss, _optimizer(config, model, num_processes)),)
