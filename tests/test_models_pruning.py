"""Networks pruned by timm's interface: what is left is a timm model still, whatever went."""

from typing import Any

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor

import mocse_timm  # noqa: F401 (registers our models with timm)

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MODELS: dict[str, dict[str, Any]] = {
    "cifar_preact18": {"width": 0.125},
    "mocse_preact18": {"num_classes": 3, "expert_width": 0.125},
    "mocse_preact18_shared": {"num_classes": 3, "width": 0.25, "expert_width": 0.125},
    "ensemble": {"num_classes": 3, "num_experts": 2, "expert_width": 0.125},
    "advmoe_resnet18": {"width": 0.25},
}


def build(name: str) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **MODELS[name]).eval()


@pytest.mark.parametrize("last", [0, 1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_left_gives_the_features_it_gave_before(name: str, last: int) -> None:
    model = build(name)
    expected: list[Tensor] = model.forward_intermediates(IMAGES, intermediates_only=True)[: last + 1]
    assert model.prune_intermediate_layers([last]) == [last]
    torch.testing.assert_close(model.forward_intermediates(IMAGES, intermediates_only=True), expected)
    final, found = model.forward_intermediates(IMAGES)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model(IMAGES), final)
    assert model.num_features == final.shape[1]
    assert model.num_classes == 0 and not model.global_pool


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("cifar")])
def test_what_is_left_can_be_trained_layer_by_layer(name: str) -> None:
    model = build(name)
    model.prune_intermediate_layers([1])
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()
    groups = create_optimizer_v2(model, opt="sgd", lr=1.0, weight_decay=0.0, layer_decay=0.5).param_groups
    assert len({group["lr_scale"] for group in groups}) > 1


def test_experts_that_went_do_not_come_back() -> None:
    model = build("mocse_preact18_shared")
    model.prune_intermediate_layers([1])
    model.reset_classifier(0)
    with pytest.raises(ValueError, match="pruning has left no expert for 5 classes: build the model anew"):
        model.reset_classifier(5)
