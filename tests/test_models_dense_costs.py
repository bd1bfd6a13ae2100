"""Parameters and MACs of every dense network and of MoCSE, against sums written out by hand."""

from typing import Any, NamedTuple

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import mocse_timm.models  # noqa: F401  (registers the models)


class Cost(NamedTuple):
    parameters: int
    macs: int


def conv(inputs: int, outputs: int, kernel: int, size: int, bias: bool = False) -> Cost:
    weights = inputs * outputs * kernel * kernel
    return Cost(weights + (outputs if bias else 0), weights * size * size)


def norm(channels: int) -> Cost:
    return Cost(2 * channels, 0)


def linear(inputs: int, outputs: int) -> Cost:
    return Cost(inputs * outputs + outputs, inputs * outputs)


def total(layers: list[Cost]) -> Cost:
    return Cost(sum(layer.parameters for layer in layers), sum(layer.macs for layer in layers))


def preact(channels: list[int], depth: int, stem: int, classes: int) -> Cost:
    """Norms stand before the convolutions; shortcuts are bare 1x1 convolutions."""
    layers, inputs = [conv(3, stem, 3, 32)], stem
    for stage, outputs in enumerate(channels):
        size = 32 >> stage
        for block in range(depth):
            layers += [norm(inputs), conv(inputs, outputs, 3, size), norm(outputs), conv(outputs, outputs, 3, size)]
            if block == 0 and (stage > 0 or inputs != outputs):
                layers.append(conv(inputs, outputs, 1, size))
            inputs = outputs
    return total([*layers, norm(inputs), linear(inputs, classes)])


def resnet18() -> Cost:
    layers, inputs = [conv(3, 64, 3, 32), norm(64)], 64
    for stage, outputs in enumerate([64, 128, 256, 512]):
        size = 32 >> stage
        layers += [conv(inputs, outputs, 3, size), *[conv(outputs, outputs, 3, size)] * 3, *[norm(outputs)] * 4]
        if inputs != outputs:
            layers += [conv(inputs, outputs, 1, size), norm(outputs)]
        inputs = outputs
    return total([*layers, linear(512, 10)])


def vgg16() -> Cost:
    layers, inputs = [], 3
    for stage, widths in enumerate([[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]):
        for outputs in widths:
            layers += [conv(inputs, outputs, 3, 32 >> stage, bias=True), norm(outputs)]
            inputs = outputs
    return total([*layers, linear(512, 10)])


def densenet() -> Cost:
    layers, channels = [conv(3, 24, 3, 32)], 24
    for block, depth in enumerate([6, 12, 24, 16]):
        size = 32 >> block
        for _ in range(depth):
            layers += [norm(channels), conv(channels, 48, 1, size), norm(48), conv(48, 12, 3, size)]
            channels += 12
        if block < 3:
            layers += [norm(channels), conv(channels, channels // 2, 1, size)]
            channels //= 2
    return total([*layers, norm(channels), linear(channels, 10)])


def measured(name: str, **arguments: Any) -> Cost:
    """Count on the meta device: shapes are all that matters."""
    model = timm.create_model(name, device="meta", **arguments).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 32, 32, device="meta"))
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


@pytest.mark.parametrize(
    ("name", "by_hand", "published_parameters", "mega_macs"),
    [
        # 11,171,146 is the count of the form without a closing batch norm, which has 2 * 512
        ("cifar_preact18", preact([64, 128, 256, 512], 2, 64, 10), 11_171_146 + 1_024, 555.4),
        ("cifar_wrn28_10", preact([160, 320, 640], 4, 16, 10), 36_479_194, 5_243.3),
        ("cifar_resnet18", resnet18(), 11_173_962, 555.4),
        ("cifar_vgg16_bn", vgg16(), 14_728_266, 313.2),
        ("cifar_densenet", densenet(), 1_000_618, 125.3),
    ],
)
def test_dense_network_costs_what_was_published(
    name: str, by_hand: Cost, published_parameters: int, mega_macs: float
) -> None:
    cost = measured(name)
    assert cost == by_hand
    assert cost.parameters == published_parameters
    assert round(cost.macs / 1e6, 1) == mega_macs


def test_ten_experts_of_16_channels_cost_063_of_the_dense_network() -> None:
    experts, dense = measured("mocse_preact18"), measured("cifar_preact18")
    one = preact([16, 32, 64, 128], 2, 16, 2)
    assert experts == Cost(10 * one.parameters, 10 * one.macs)
    assert (round(dense.macs / 1e6, 1), round(experts.macs / 1e6, 1)) == (555.4, 350.5)
    assert (round(dense.parameters / 1e6, 2), round(experts.parameters / 1e6, 2)) == (11.17, 7.0)
    assert round(experts.macs / dense.macs, 2) == round(experts.parameters / dense.parameters, 2) == 0.63


def test_shared_stages_are_paid_once() -> None:
    dense = preact([64, 128, 256, 128], 2, 64, 2)  # trunk and one expert
    trunk_only = preact([64, 128, 256], 2, 64, 2)
    last_stage = Cost(
        dense.parameters - trunk_only.parameters + norm(256).parameters + linear(256, 2).parameters,
        dense.macs - trunk_only.macs + linear(256, 2).macs,
    )  # stage, closing norm and classifier
    trunk = Cost(dense.parameters - last_stage.parameters, dense.macs - last_stage.macs)
    expected = Cost(trunk.parameters + 10 * last_stage.parameters, trunk.macs + 10 * last_stage.macs)
    assert measured("mocse_preact18_shared") == expected


def test_width_multiplies_channels() -> None:
    assert measured("cifar_preact18", width=0.5) == preact([32, 64, 128, 256], 2, 32, 10)
    assert measured("cifar_preact18", width=[0.5, 0.25, 0.25, 1.0]) == preact([32, 32, 64, 512], 2, 32, 10)
    assert measured("cifar_wrn28_10", width=0.1) == preact([16, 32, 64], 4, 16, 10)  # WRN-28-1
    assert measured("cifar_preact18", width=0.01) == preact([8, 8, 8, 8], 2, 8, 10)  # never under 8 channels
