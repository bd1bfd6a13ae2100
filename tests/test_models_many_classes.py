"""A hundred and a thousand classes: every kind of mixture is built and learns, and costs what its parts cost."""

from typing import Any

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from mocse_timm.training.config import TrainConfig
from mocse_timm.training.recipes import build_recipe

NARROW = {"depths": [1, 1], "channels": [8, 8]}
ROW = 8 + 1  # parameters of one logit: a weight for each channel, and a bias
THIN_STEM = NARROW | {"stem_channels": 8}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "an expert a class": ("mocse", {"backbone_args": THIN_STEM}),
    "one stage shared": ("mocse", {"backbone_args": THIN_STEM, "shared_stages": 1}),
    "ten experts": ("mocse", {"backbone_args": THIN_STEM, "num_experts": 10}),
    "an ensemble": ("ensemble", {"backbone_args": THIN_STEM, "num_experts": 3}),
    "ten routed experts": ("advmoe", {"backbone_args": NARROW, "num_experts": 10}),
}


def build(kind: str, num_classes: int, **options: Any) -> Any:
    name, arguments = KINDS[kind]
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=num_classes, **arguments, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_classes", [100, 1000])
def test_a_step_is_trained(kind: str, num_classes: int) -> None:
    model = build(kind, num_classes).train()
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, num_classes // 2, num_classes - 1])
    config = TrainConfig(model=KINDS[kind][0], opt="sgd", lr=0.01)
    (phase,) = build_recipe(config, model)
    losses = []
    for _ in range(2):
        result = phase.loss(model, images, labels)
        assert result.logits.shape == (4, num_classes)
        phase.optimizer.zero_grad()
        result.loss.backward()
        phase.optimizer.step()
        losses.append(result.loss.item())
    assert losses[1] < losses[0]


def count(kind: str, num_classes: int) -> tuple[int, int, int]:
    """Return parameters, those of the trunk, and MACs for one image of 16x16 pixels."""
    model = build(kind, num_classes, device="meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, 16, 16, device="meta"))
    trunk = getattr(model, "trunk", torch.nn.Identity())
    parameters, shared = (sum(p.numel() for p in module.parameters()) for module in (model, trunk))
    return parameters, shared, counter.get_total_flops() // 2


@pytest.mark.parametrize("kind", ["an expert a class", "one stage shared"])
def test_an_expert_a_class_costs_in_proportion_to_the_classes(kind: str) -> None:
    few, shared, macs_of_few = count(kind, 10)
    many, _, macs_of_many = count(kind, 100)
    one, _, macs_of_one = count(kind, 1)
    assert (few - shared, many - shared) == (10 * (one - shared), 100 * (one - shared))
    per_expert = (macs_of_few - macs_of_one) / 9
    assert macs_of_many - macs_of_few == 90 * per_expert
    assert (macs_of_one > 1.5 * per_expert) == (kind == "one stage shared")


@pytest.mark.parametrize(
    ("kind", "rows"), [("ten experts", 900), ("an ensemble", 3 * 900), ("ten routed experts", 900)]
)
def test_other_mixtures_grow_by_their_last_layers_alone(kind: str, rows: int) -> None:
    few, many = count(kind, 100), count(kind, 1000)
    assert many[0] - few[0] == rows * ROW
    assert many[2] - few[2] == rows * (ROW - 1)
