"""A recipe is a tuple of phases; the loop runs them in turn on every batch and knows nothing else of a recipe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

__all__ = ["LossResult", "Phase", "TrainingTask"]


@dataclass(frozen=True)
class LossResult:
    """What one phase makes of one batch."""

    loss: Tensor
    """Scalar to minimise."""
    logits: Tensor
    """(B, C), for the training accuracy."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars to log beside the loss."""


PhaseLoss = Callable[[nn.Module, Tensor, Tensor], LossResult]


@dataclass(frozen=True)
class Phase:
    """One optimiser step on a batch.

    ``loss(model, images, targets)`` gets images (B, channels, H, W) in [0, 1] and targets (B,) or (B, C).
    """

    name: str
    loss: PhaseLoss
    optimizer: torch.optim.Optimizer
    held: tuple[nn.Module, ...] = ()
    """Parts of the model that this phase leaves bit for bit as they are."""
    clip_grad: float | None = None
    """Largest gradient norm (or value, see ``clip_mode``); None for no limit."""
    clip_mode: str = "norm"
    """What ``clip_grad`` limits, by timm's names: norm, value or agc."""
    free: tuple[nn.Module, ...] = ()
    """Parts of the model whose gradients ``clip_grad`` does not limit."""


class TrainingTask(nn.Module):
    """The model together with its phases' losses: the one module that is wrapped for several processes.

    Losses call more of the model than its ``forward`` (a MoCSE's experts, a router). Wrapped for distributed
    training, only a module's ``forward`` takes part in gradient exchange, so the losses belong inside it.
    """

    def __init__(self, model: nn.Module, losses: Mapping[str, PhaseLoss]):
        super().__init__()
        self.model = model
        self._losses = dict(losses)

    def forward(self, phase: str, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss of ``phase``, the logits (B, C) and the parts to log."""
        result = self._losses[phase](self.model, images, targets)
        return result.loss, result.logits.detach(), {name: part.detach() for name, part in result.parts.items()}
