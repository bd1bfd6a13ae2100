"""The recipes: which losses are minimised, by which optimisers."""

import math
from typing import Any

import torch
from accelerate.utils import reduce
from timm.optim import create_optimizer_v2
from torch import nn

from mocse_timm.checks import BadInput
from mocse_timm.models.advmoe import AdvMoE
from mocse_timm.models.ensemble import Ensemble
from mocse_timm.models.mocse import MoCSE
from mocse_timm.training.adversarial import expert_turn, pgd_objective, router_turn, trades_objective
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.objectives import (
    Objective,
    consistent_objective,
    cross_entropy_objective,
    ensemble_objective,
    mocse_objective,
    taught_objective,
)
from mocse_timm.training.phases import Phase, PhaseLoss

__all__ = ["build_recipe", "learning_rate"]


def learning_rate(config: TrainConfig, num_processes: int) -> float:
    """Return ``--lr``, or ``--lr-base`` scaled by the images of one optimiser step.

    As in timm's train.py that is by their square root for optimisers with 'ada' or 'lamb' in their name, else linearly.
    """
    if config.lr is not None:
        return config.lr
    ratio = config.batch_size * config.grad_accum_steps * num_processes / config.lr_base_size
    by_root = any(part in config.opt.lower() for part in ("ada", "lamb"))
    return config.lr_base * (math.sqrt(ratio) if by_root else ratio)


def _optimizer(config: TrainConfig, module: nn.Module, lr: float, layer_decay: float | None) -> torch.optim.Optimizer:
    try:
        optimizer = create_optimizer_v2(
            module,
            opt=config.opt,
            lr=lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            filter_bias_and_bn=config.filter_bias_and_bn,
            layer_decay=layer_decay,
            **config.opt_kwargs,
        )
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"--opt {config.opt}: {' '.join(str(error).split())}; see timm.optim.list_optimizers()"
        ) from None
    if getattr(optimizer, "is_second_order", False):
        raise BadInput(
            f"--opt {config.opt} needs second derivatives, which no recipe computes: give another, e.g. adamw"
        )
    return optimizer


def _objective(config: TrainConfig, model: nn.Module) -> Objective:
    by_default = "mocse" if isinstance(model, MoCSE) else "ensemble" if isinstance(model, Ensemble) else "ce"
    objective = config.objective or by_default
    if objective != "mocse":
        for name in ("expert_loss_weight", "aggregate_loss_weight", "expert_positive_weight"):
            if getattr(config, name) != getattr(TrainConfig, name):
                raise BadInput(f"{config.flag(name)} is for --objective mocse: leave it out of --objective {objective}")
    if objective == "ce":
        return cross_entropy_objective(config.smoothing)
    if objective == "ensemble":
        if not isinstance(model, Ensemble):
            raise BadInput(f"--objective ensemble needs an ensemble, got {config.model!r}: use --objective ce")
        return ensemble_objective(config.smoothing)
    if not isinstance(model, MoCSE):
        raise BadInput(f"--objective mocse needs a model with class experts, got {config.model!r}: use --objective ce")
    if config.smoothing and not config.aggregate_loss_weight and not (config.mixup or config.cutmix):
        raise BadInput("--smoothing is of the class scores' loss, which --aggregate-loss-weight 0 leaves out: drop one")
    return mocse_objective(
        config.smoothing, config.expert_loss_weight, config.aggregate_loss_weight, config.expert_positive_weight
    )


def _free(config: TrainConfig, model: Any) -> tuple[nn.Module, ...]:
    """Return the classifiers if clipping is to leave them out, as timm's adaptive clipping does."""
    if config.clip_mode != "agc":
        return ()
    found = model.get_classifier()
    return found if isinstance(found, tuple) else (found,)


def _advmoe(config: TrainConfig, model: nn.Module, lr: float, num_processes: int) -> tuple[Phase, ...]:
    if not isinstance(model, AdvMoE):
        raise BadInput(f"--recipe advmoe needs a model with a router (advmoe*), got {config.model!r}: use trades")
    _objective(config, model)  # refuses what does not fit
    budget = config.attack_budget()
    experts = expert_turn(budget, config.beta, config.smoothing)
    together: dict[str, Any] = {"mean_over_processes": reduce} if num_processes > 1 else {}
    router = router_turn(
        budget, config.beta, config.router_objective, config.balance_weight, config.smoothing, **together
    )
    of_experts = _optimizer(config, model.body, lr, config.layer_decay)
    of_router = _optimizer(config, model.router, config.router_lr or lr, None)  # decay is by the backbone's layers
    return (
        Phase("expert", experts, of_experts, (model.router,), config.clip_grad, config.clip_mode, _free(config, model)),
        Phase("router", router, of_router, (model.body,), config.router_clip_grad),
    )


def build_recipe(
    config: TrainConfig, model: nn.Module, num_processes: int = 1, teacher: nn.Module | None = None
) -> tuple[Phase, ...]:
    """Return the phases of the training that ``config`` asks for.

    Args:
        config: the flags.
        model: what is trained.
        num_processes: that train it together.
        teacher: see :func:`mocse_timm.training.teacher.build_teacher`.

    Raises:
        BadInput: if the recipe or the objective does not fit the model, or timm refuses the optimiser.
    """
    lr = learning_rate(config, num_processes)
    if config.recipe == "advmoe":
        return _advmoe(config, model, lr, num_processes)
    objective = _objective(config, model)
    loss: PhaseLoss = objective
    if config.jsd_loss:
        loss = consistent_objective(objective, config.aug_splits, config.jsd_weight)
    elif teacher is not None:
        loss = taught_objective(objective, teacher, config.kd_temperature, *config.teaching_weights())
    elif config.recipe == "pgd":
        loss = pgd_objective(loss, config.attack_budget())
    elif config.recipe == "trades":
        loss = trades_objective(loss, config.attack_budget(), config.beta)
    optimizer = _optimizer(config, model, lr, config.layer_decay)
    return (Phase(config.recipe, loss, optimizer, (), config.clip_grad, config.clip_mode, _free(config, model)),)
