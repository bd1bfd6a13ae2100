"""Small mixtures whose batch norms have seen something, and images for them; in 64 bits."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

import mocse_timm.models  # noqa: F401  (registers the models)

__all__ = ["images", "mocse"]


def mocse(name: str = "mocse_preact18", **options: Any) -> Any:
    torch.manual_seed(0)
    given: dict[str, Any] = {"num_classes": 3} | options
    model: Any = timm.create_model(name, **given)
    for module in model.modules():  # what a fresh network has is the same in every expert
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # pyright: ignore[reportOptionalMemberAccess]
            module.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias)
    return model.double()


def images() -> Tensor:
    return torch.rand(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
