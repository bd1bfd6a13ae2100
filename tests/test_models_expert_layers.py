"""Expert layers: sorted and masked execution against each image run alone through its expert's own torch layer."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from mocse_timm.models import routing
from mocse_timm.models.expert_layers import ExpertConv2d, ExpertLayer, ExpertLinear, straight_through
from mocse_timm.models.routing import Dispatch, RoutingSlot, route_batch

CONVOLUTIONS = [
    {},
    {"groups": 2},
    {"groups": 4, "padding": 1},  # depthwise
    {"stride": 2, "padding": 1},
    {"dilation": 2, "bias": False},
    {"padding": 1, "padding_mode": "reflect"},
    {"same_padding": True, "stride": 2},
]
PATHS = {
    "mixed": [2, 0, 1, 2, 0, 2],
    "one expert idle": [2, 0, 0, 2, 2, 0],
    "one expert takes all": [1, 1, 1, 1, 1, 1],
    "one image": [1],
    "no image": [],
}


def scores_for(path: list[int]) -> Tensor:
    scores = torch.linspace(-1, 1, max(1, len(path) * 3), dtype=torch.float64)[: len(path) * 3].reshape(-1, 3).clone()
    for image, expert in enumerate(path):
        scores[image, expert] += 3
    return scores.requires_grad_()


def alone(layer: ExpertLayer, x: Tensor, scores: Tensor) -> Tensor:
    """The slow twin: one image at a time, its expert's output times a gate of 1 with its probability's slope."""
    outputs = []
    for image, expert in enumerate(scores.argmax(dim=1).tolist()):
        gate = scores[image, expert].exp() / scores[image].exp().sum()
        output = layer.run_bank(x[image : image + 1], *layer.banks()[expert])
        outputs.append(output * (gate / gate.detach()) ** gate.item())
    return torch.cat(outputs) if outputs else layer.run_bank(x, *layer.banks()[0])


def values_and_gradients(run: Any, layer: Any, x: Tensor, scores: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    output = run(x)
    target = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    return [output, *torch.autograd.grad((output * target).sum(), [x, scores, *layer.parameters()], allow_unused=True)]


def assert_three_ways_agree(layer: Any, slot: RoutingSlot, x: Tensor, path: list[int], monkeypatch) -> None:
    scores = scores_for(path)
    expected = values_and_gradients(lambda x: alone(layer, x, scores), layer, x, scores)
    in_order = values_and_gradients(lambda x: route_batch(slot, scores, x, layer), layer, x, scores)
    monkeypatch.setattr(routing, "runs_masked", lambda _: True)
    masked = values_and_gradients(lambda x: route_batch(slot, scores, x, layer), layer, x, scores)
    for one, two, three in zip(expected, in_order, masked, strict=True):
        assert two is not None and three is not None  # an idle expert has a gradient: zero
        torch.testing.assert_close(two, three)
        if one is not None:
            torch.testing.assert_close(one, two)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolutions_give_each_image_its_experts_output_and_gradients(
    options: dict, path: list[int], monkeypatch
) -> None:
    torch.manual_seed(0)
    slot = RoutingSlot()
    layer = ExpertConv2d(4, 8, 3, num_experts=3, slot=slot, dtype=torch.float64, **options)
    x = torch.randn(len(path), 4, 7, 7, dtype=torch.float64)
    assert_three_ways_agree(layer, slot, x, path, monkeypatch)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_do_too(bias: bool, shape: tuple[int, ...], path: list[int], monkeypatch) -> None:
    torch.manual_seed(0)
    slot = RoutingSlot()
    layer = ExpertLinear(5, 6, num_experts=3, slot=slot, bias=bias, dtype=torch.float64)
    x = torch.randn(len(path), *shape, dtype=torch.float64)
    assert_three_ways_agree(layer, slot, x, path, monkeypatch)


def test_rows_of_several_windows_follow_their_image(monkeypatch) -> None:
    torch.manual_seed(0)
    slot = RoutingSlot()
    layer = ExpertLinear(5, 6, num_experts=3, slot=slot)
    path, x = PATHS["mixed"], torch.randn(6, 4, 5)
    scores = scores_for(path)

    def windows(x: Tensor) -> Tensor:  # four windows an image, as attention over windows has them
        return layer(x.reshape(-1, 5)).reshape(-1, 4, 6)

    expected = torch.stack([F.linear(x[i], *layer.banks()[e]) for i, e in enumerate(path)])
    torch.testing.assert_close(route_batch(slot, scores, x, windows), expected)
    monkeypatch.setattr(routing, "runs_masked", lambda _: True)
    torch.testing.assert_close(route_batch(slot, scores, x, windows), expected)


def test_memory_format_and_bfloat16_are_kept() -> None:
    torch.manual_seed(0)
    slot = RoutingSlot()
    layer = ExpertConv2d(8, 8, 3, num_experts=3, slot=slot, padding=1)
    x = torch.randn(6, 8, 7, 7)
    plain = route_batch(slot, scores_for(PATHS["mixed"]), x, layer)
    layer.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = x.to(memory_format=torch.channels_last)
    channels_last = route_batch(slot, scores_for(PATHS["mixed"]).detach(), images, layer)
    torch.testing.assert_close(channels_last, plain)
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = route_batch(slot, scores_for(PATHS["mixed"]), images, layer)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, atol=0.03, rtol=0.03)


def test_the_gate_has_the_gradient_of_a_product_and_the_value_of_none() -> None:
    """Numerical gradients of output * (1 + gate - gate now), whose value now is the output."""
    torch.manual_seed(0)
    output = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    gate = torch.randn(3, dtype=torch.float64, requires_grad=True)  # two rows an image
    assert torch.equal(straight_through(output, gate), output)
    now = gate.detach().clone()

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, output: Tensor, gate: Tensor) -> Tensor:
            ctx.save_for_backward(output.detach().requires_grad_(), gate.detach().requires_grad_())
            return output * (1 + gate - now).repeat_interleave(2)[:, None, None]

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            with torch.enable_grad():
                return torch.autograd.grad(straight_through(*ctx.saved_tensors), ctx.saved_tensors, gradient)

    assert torch.autograd.gradcheck(Product.apply, (output, gate))


def test_a_frozen_router_costs_the_forward_pass_nothing() -> None:
    slot = RoutingSlot()
    layer = ExpertLinear(5, 6, num_experts=3, slot=slot)
    output = route_batch(slot, scores_for([0, 0]).detach(), torch.randn(2, 5), layer)
    names, node = [], output.grad_fn
    while node is not None:
        names.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    assert not any("StraightThrough" in name for name in names), names


def test_conversion_makes_every_expert_the_layer_it_was() -> None:
    torch.manual_seed(0)
    slot = RoutingSlot()
    conv, linear = nn.Conv2d(4, 8, 3, groups=2, stride=2), nn.Linear(5, 6, bias=False)
    for dense, x in ((conv, torch.randn(6, 4, 7, 7)), (linear, torch.randn(6, 5))):
        kind = ExpertConv2d if isinstance(dense, nn.Conv2d) else ExpertLinear
        layer = kind.from_layer(dense, 3, slot)  # pyright: ignore[reportArgumentType]
        assert layer.weight.shape[0] == 3 * dense.weight.shape[0]
        torch.testing.assert_close(route_batch(slot, scores_for(PATHS["mixed"]), x, layer), dense(x))


def test_fresh_experts_differ_and_are_drawn_as_torch_draws_one() -> None:
    torch.manual_seed(0)
    layer = ExpertConv2d(4, 64, 3, num_experts=4, slot=RoutingSlot())
    first, second = layer.banks()[0][0], layer.banks()[1][0]
    assert not torch.equal(first, second)
    bound = 1 / (4 * 9) ** 0.5  # torch's: uniform within 1 / sqrt(fan-in)
    assert 0.95 * bound < layer.weight.abs().max() <= bound


def test_no_experts_and_layers_that_mix_images_are_refused() -> None:
    slot = RoutingSlot()
    with pytest.raises(ValueError, match="num_experts must be at least 1, got 0"):
        ExpertLinear(5, 6, num_experts=0, slot=slot)
    layer = ExpertLinear(5, 6, num_experts=2, slot=slot)
    with (
        slot.filled(Dispatch(torch.zeros(2, dtype=torch.int64), None, (2, 0))),
        pytest.raises(RuntimeError, match="an expert layer got 3 rows for 2 images"),
    ):
        layer(torch.zeros(3, 5))


@pytest.mark.parametrize(
    "dense",
    [
        nn.Conv2d(4, 8, 3, dilation=2),
        nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"),
        Conv2dSame(4, 8, 3, stride=2),
    ],
)
def test_conversion_keeps_every_option(dense: nn.Conv2d) -> None:
    slot, x = RoutingSlot(), torch.rand(6, 4, 8, 8)
    layer = ExpertConv2d.from_layer(dense, 3, slot)
    torch.testing.assert_close(route_batch(slot, scores_for(PATHS["mixed"]), x, layer), dense(x))


def test_conversion_keeps_frozen_what_is_frozen() -> None:
    layer = ExpertConv2d.from_layer(nn.Conv2d(4, 8, 3).requires_grad_(False).eval(), 2, RoutingSlot())
    assert not layer.training and not any(parameter.requires_grad for parameter in layer.parameters())
