"""What one phase minimises: losses of a model on a batch, put together from ``mocse_timm.losses``."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocse_timm.losses.consistency import consistency_loss
from mocse_timm.losses.distillation import distillation_loss
from mocse_timm.losses.mocse import mocse_loss
from mocse_timm.models.aggregation import expert_answers
from mocse_timm.models.ensemble import Ensemble
from mocse_timm.models.mocse import MoCSE
from mocse_timm.modes import without_gradients
from mocse_timm.training.phases import LossResult, PhaseLoss

__all__ = [
    "Objective",
    "consistent_objective",
    "cross_entropy_objective",
    "ensemble_objective",
    "mocse_objective",
    "taught_objective",
]


@dataclass(frozen=True)
class Objective:
    """A loss in two steps: what a model says of images, and what that costs by labels or by a teacher."""

    say: Callable[[nn.Module, Tensor], Tensor]
    """Maps images (B, channels, H, W) to logits (B, ..., K), float32: the softmax of a loss is not taken in 16 bits."""
    cost: Callable[[nn.Module, Tensor, Tensor], LossResult]
    """Of a model, what it said and the targets."""
    learn: Callable[[nn.Module, Tensor, Tensor, float], Tensor]
    """Scalar: how far what a model said is from a teacher's class logits (B, C), at a temperature."""

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        """Return the loss of ``model`` on a batch."""
        return self.cost(model, self.say(model, images), targets)


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).float()


def _expert_logits(model: nn.Module, images: Tensor) -> Tensor:
    assert isinstance(model, (MoCSE, Ensemble))  # torch 2.6 does not compile a test of MoCSE | Ensemble
    return model.forward_experts(images).float()


def cross_entropy_objective(smoothing: float) -> Objective:
    """Cross-entropy on the class scores."""

    def cost(model: nn.Module, logits: Tensor, targets: Tensor) -> LossResult:
        label_smoothing = smoothing if targets.ndim == 1 else 0.0
        return LossResult(F.cross_entropy(logits, targets, label_smoothing=label_smoothing), logits)

    def learn(model: nn.Module, logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
        return distillation_loss(logits, taught, temperature=temperature)

    return Objective(_scores, cost, learn)


def mocse_objective(
    smoothing: float, expert_loss_weight: float, aggregate_loss_weight: float, positive_weight: float
) -> Objective:
    """Cross-entropy on the aggregate and on every expert, see :func:`mocse_timm.losses.mocse.mocse_loss`.

    A teacher is asked each expert's question, too, and both parts count as those of labels do.
    """

    def cost(model: nn.Module, expert_logits: Tensor, targets: Tensor) -> LossResult:
        assert isinstance(model, MoCSE)
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

    def learn(model: nn.Module, expert_logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
        assert isinstance(model, MoCSE)
        aggregate = distillation_loss(model.aggregate(expert_logits), taught, temperature=temperature)
        answers = expert_answers(taught, model.group_sizes)
        experts = distillation_loss(expert_logits, answers, temperature=temperature)
        return aggregate_loss_weight * aggregate + expert_loss_weight * experts

    return Objective(_expert_logits, cost, learn)


def ensemble_objective(smoothing: float) -> Objective:
    """Cross-entropy of every expert on all classes, summed: what is not shared learns as if it were alone."""

    def cost(model: nn.Module, expert_logits: Tensor, targets: Tensor) -> LossResult:
        assert isinstance(model, Ensemble)
        label_smoothing = smoothing if targets.ndim == 1 else 0.0
        each = [F.cross_entropy(logits, targets, label_smoothing=label_smoothing) for logits in expert_logits.unbind(1)]
        return LossResult(torch.stack(each).sum(), model.aggregate(expert_logits))

    def learn(model: nn.Module, expert_logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
        return distillation_loss(expert_logits, taught[:, None].expand_as(expert_logits), temperature=temperature)

    return Objective(_expert_logits, cost, learn)


def consistent_objective(objective: Objective, versions: int, weight: float) -> PhaseLoss:
    """The objective on the first of several versions of every image, and one answer to all of them.

    Images are (versions * B, channels, H, W), the first version of all B before the second of all, as the loaders of
    ``aug_splits`` give them, and run through the model as one batch. What is to agree is what the objective asks the
    model for: the class scores, or each expert's answer.

    Source:
        Hendrycks et al. 2020, arXiv:1912.02781, section 3; ``weight`` is 12 there.
    """

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        said = objective.say(model, images).chunk(versions)
        natural, consistency = objective.cost(model, said[0], targets), consistency_loss(said)
        parts = {**natural.parts, "natural_loss": natural.loss, "consistency_loss": consistency}
        return LossResult(natural.loss + weight * consistency, natural.logits, parts)

    return loss


def taught_objective(
    objective: Objective, teacher: nn.Module, temperature: float, task_weight: float, distill_weight: float
) -> PhaseLoss:
    """The objective, and the answers of ``teacher``, which learns nothing, to the same images.

    Args:
        objective: what is learned from labels.
        teacher: maps images (B, channels, H, W) in [0, 1] to class logits (B, C); in eval mode.
        temperature: of the answers, see :func:`mocse_timm.losses.distillation.distillation_loss`.
        task_weight: of the objective.
        distill_weight: of what is learned from the teacher.

    Source:
        Hinton et al. 2015, arXiv:1503.02531; the two weights are those of timm's tasks of distillation.
    """

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        with without_gradients(images):
            taught = teacher(images).float()
        said = objective.say(model, images)
        task, distillation = objective.cost(model, said, targets), objective.learn(model, said, taught, temperature)
        parts = {**task.parts, "task_loss": task.loss, "distill_loss": distillation}
        return LossResult(task_weight * task.loss + distill_weight * distillation, task.logits, parts)

    return loss
