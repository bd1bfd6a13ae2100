"""Which layers become expert layers, and how."""

import math
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import mocse_timm.models  # noqa: F401  (registers the models)
from mocse_timm.models.convert import convert, convertible_layers, set_bank
from mocse_timm.models.expert_layers import ExpertConv2d, ExpertLinear
from mocse_timm.models.routing import RoutingSlot, route_batch


def layers_of(name: str, size: int, **options: Any) -> list[str]:
    network = timm.create_model(name, device="meta", **options)
    return list(convertible_layers(network, input_size=(3, size, size), cfg=timm.get_pretrained_cfg(name)))


def test_all_convolutions_but_stem_shortcuts_and_classifier() -> None:
    network = timm.create_model("resnet18")
    every = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    expected = [name for name in every if name != "conv1" and "downsample" not in name]
    assert layers_of("resnet18", 64) == expected and len(expected) == 16


def test_linear_layers_of_attention_and_mlp() -> None:
    blocks = [f"blocks.{i}.{name}" for i in range(12) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    assert layers_of("vit_tiny_patch16_224", 224) == blocks


class Peculiar(nn.Module):
    """Layers that cannot hold experts, beside two that can."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.good = nn.Conv2d(4, 4, 1)
        self.again = nn.Conv2d(4, 4, 1)  # runs twice
        self.weight_only = nn.Linear(4, 4)  # its weight is used, it is not called
        self.table = nn.Linear(2, 4)  # sees a table and no images
        self.shared = nn.ModuleList([nn.Linear(4, 4)] * 2)  # two names
        self.tied, self.twin = nn.Linear(4, 4), nn.Linear(4, 4)
        self.twin.weight = self.tied.weight
        self.windows = nn.Linear(4, 4)  # four rows an image
        self.head = nn.Linear(4, 2)  # after the features

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.again(self.again(self.good(self.stem(x)))).flatten(2).mT
        x = nn.functional.linear(x, self.weight_only.weight) + self.table(torch.zeros(6, 2, device=x.device)).mean(0)
        x = self.twin(self.tied(self.shared[0](x)))
        return self.windows(x.reshape(-1, 4)).reshape(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.forward_features(x).mean(1))


def test_layers_that_do_not_see_each_image_once_stay_dense() -> None:
    network = Peculiar()
    network.good.eval()  # frozen on purpose
    assert list(convertible_layers(network, input_size=(3, 2, 2))) == ["good", "windows"]
    assert {name for name, layer in network.named_modules() if not layer.training} == {"good"}


class InPlace(nn.Module):
    """Two layers; the activation after the first writes into its output, through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x.flatten(2).relu_()
        return self.second(x.mean(dim=(2, 3)))


def test_what_writes_into_a_layers_output_is_found_and_the_score_still_learns_from_the_output_as_it_was() -> None:
    torch.manual_seed(0)
    network, slot = InPlace(), RoutingSlot()
    with torch.inference_mode():  # as a model for inference may be built
        layers = convertible_layers(network, input_size=(3, 2, 2))
    assert layers == {"first": True, "second": False}
    convert(network, layers, 2, slot)
    x, scores = torch.rand(4, 3, 2, 2), torch.eye(2).repeat(2, 1).requires_grad_()
    route_batch(slot, scores, x, network.forward_features).sum().backward()

    gate = torch.ones(4, requires_grad=True)  # the same network by hand, a gate of 1 at each layer
    weight, bias = network.first.weight[:4], network.first.bias[:4]  # pyright: ignore[reportOptionalSubscript]
    hidden = (nn.functional.conv2d(x, weight, bias) * gate[:, None, None, None]).relu().mean(dim=(2, 3))
    weight, bias = network.second.weight[:2], network.second.bias[:2]
    (nn.functional.linear(hidden, weight, bias) * gate[:, None]).sum().backward()
    assert scores.grad is not None and gate.grad is not None
    p = 1 / (1 + math.exp(-1))  # of the expert taken, whose scores are 1 and 0
    pull = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 1) * p * (1 - p)
    torch.testing.assert_close(scores.grad, pull * gate.grad[:, None])


def test_conversion_by_name_keeps_values_and_a_bank_can_be_replaced() -> None:
    torch.manual_seed(0)
    network, other, slot = Peculiar(), Peculiar(), RoutingSlot()
    x, scores = torch.rand(6, 3, 2, 2), torch.eye(3).repeat(2, 1)
    expected = network(x)
    convert(network, {"good": False, "windows": False}, 3, slot)
    assert isinstance(network.good, ExpertConv2d) and isinstance(network.windows, ExpertLinear)
    torch.testing.assert_close(route_batch(slot, scores, x, network), expected)
    set_bank(network, ["good", "windows"], 1, other)
    found = route_batch(slot, scores, x, network)
    changed = (found - expected).abs().amax(dim=1) > 1e-6
    assert changed.tolist() == [False, True, False] * 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "Peculiar has no layer that can hold several experts"),
        (["nothing"], "Peculiar has no layer 'nothing'"),
        (["shared"], "'shared' is a ModuleList: only Conv2d and Linear"),
    ],
)
def test_names_that_cannot_be_converted_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(Peculiar(), dict.fromkeys(names, False), 2, RoutingSlot())
