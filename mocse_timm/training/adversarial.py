"""Training against attacks: PGD's and TRADES' objectives, and the two turns of AdvMoE.

Papers: arXiv:1706.06083 (PGD), arXiv:1901.08573 (TRADES), arXiv:2308.10110 (AdvMoE).
"""

from collections.abc import Callable

from torch import Tensor, nn

from mocse_timm.attacks.budget import Budget
from mocse_timm.attacks.pgd import pgd_l2, pgd_linf
from mocse_timm.attacks.trades import trades_attack
from mocse_timm.losses.routing import balance_loss, class_routing_loss, expert_shares
from mocse_timm.losses.trades import agreement_loss, trades_loss
from mocse_timm.models.advmoe import AdvMoE
from mocse_timm.training.phases import LossResult, PhaseLoss

__all__ = ["expert_turn", "pgd_objective", "router_turn", "trades_objective"]


def pgd_objective(objective: PhaseLoss, budget: Budget) -> PhaseLoss:
    """The objective on attacked images alone."""
    attack = pgd_l2 if budget.norm == "l2" else pgd_linf

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        attacked = attack(
            model, images, targets, epsilon=budget.epsilon, steps=budget.steps, step_size=budget.step_size
        )
        return objective(model, attacked, targets)

    return loss


def _attacked(model: nn.Module, images: Tensor, budget: Budget, **options) -> Tensor:
    numbers = {"epsilon": budget.epsilon, "steps": budget.steps, "step_size": budget.step_size}
    return trades_attack(model, images, norm=budget.norm, **numbers, **options)


def trades_objective(objective: PhaseLoss, budget: Budget, beta: float) -> PhaseLoss:
    """The objective on clean images, and the agreement of the attacked ones with them."""

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        attacked = _attacked(model, images, budget)
        natural = objective(model, images, targets)
        agreement = agreement_loss(natural.logits, model(attacked).float())
        parts = {**natural.parts, "natural_loss": natural.loss, "agreement_loss": agreement}
        return LossResult(natural.loss + beta * agreement, natural.logits, parts)

    return loss


def _shares(scores: Tensor) -> dict[str, Tensor]:
    """Return each expert's share of the batch, by the name it is logged under."""
    return {f"expert{expert}_share": share for expert, share in enumerate(expert_shares(scores.float()))}


def expert_turn(budget: Budget, beta: float, smoothing: float) -> PhaseLoss:
    """TRADES on the model's logits; the router is held: it chooses the paths, and learns nothing."""

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        assert isinstance(model, AdvMoE)
        attacked = _attacked(model, images, budget)
        logits, scores = model.forward_with_scores(images)
        logits, attacked_logits = logits.float(), model(attacked).float()
        total = trades_loss(logits, attacked_logits, targets, beta=beta, label_smoothing=smoothing)
        return LossResult(total, logits, _shares(scores))

    return loss


def _of_one_process(shares: Tensor) -> Tensor:
    return shares


def router_turn(
    budget: Budget,
    beta: float,
    router_objective: str,
    balance_weight: float,
    smoothing: float = 0.0,
    mean_over_processes: Callable[[Tensor], Tensor] = _of_one_process,
) -> PhaseLoss:
    """What the router learns while the experts are held.

    Args:
        budget: of the attack, which this turn makes anew: on the model's logits, or for ``class`` on the scores.
        beta: weight of the agreement.
        router_objective: 'trades', the model's own loss through the straight-through gate (the paper), or 'class',
            after the authors' code, see :func:`mocse_timm.losses.routing.class_routing_loss`.
        balance_weight: weight of :func:`mocse_timm.losses.routing.balance_loss` on the clean scores.
        smoothing: label smoothing of 'trades'.
        mean_over_processes: averages the experts' shares (E,) over the processes that share a batch, so that it is
            the whole batch that is balanced. Every process calls it.
    """

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        assert isinstance(model, AdvMoE)
        if router_objective == "class":
            attacked = _attacked(model, images, budget, scores=model.route)
            logits = scores = model.route(images).float()
            total = class_routing_loss(scores, model.route(attacked).float(), targets, beta=beta)
        else:
            attacked = _attacked(model, images, budget)
            logits, scores = model.forward_with_scores(images)
            logits, scores = logits.float(), scores.float()
            attacked_logits = model(attacked).float()
            total = trades_loss(logits, attacked_logits, targets, beta=beta, label_smoothing=smoothing)
        if balance_weight:
            total = total + balance_weight * balance_loss(scores, mean_over_processes(expert_shares(scores)))
        return LossResult(total, logits)

    return loss
