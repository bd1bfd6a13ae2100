"""Models of a few linear weights, whose gradients and worst images can be worked out by hand."""

import torch
from torch import Tensor, nn

from mocse_timm.models import AdvMoE
from mocse_timm.models.expert_layers import ExpertLinear
from mocse_timm.models.routing import RoutingSlot


class LinearMoE(AdvMoE):
    """Two linear experts on flat images of two pixels; the router's scores are the pixels."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.slot = RoutingSlot()
        self.normalize = nn.Identity()
        self.body = ExpertLinear(2, 2, num_experts=2, slot=self.slot, bias=False)
        self.router = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.body.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, -1.0], [2.0, 0.5]]))
            self.router.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))


def dense(x: Tensor) -> Tensor:
    """Two classes of two pixels."""
    return x.flatten(1) @ torch.tensor([[1.0, -1.0], [-2.0, 2.0]])


class Dense(nn.Module):
    """The same as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return dense(x)
