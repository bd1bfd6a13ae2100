"""Routing and expert layers on anything: every image its own expert's output, or one sentence."""

import timm
import torch
from answers import answer_or_sentence, drawn, some
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mocse_timm.models  # noqa: F401
from mocse_timm.models.expert_layers import ExpertConv2d, ExpertLinear
from mocse_timm.models.routing import RoutingSlot, route_batch

MODEL = timm.create_model("advmoe", backbone="resnet10t", num_experts=3, num_classes=4).eval()
MIXTURE = timm.create_model("mocse_preact18", expert_width=0.125, num_experts=2, num_classes=4).eval()


@some()
@given(st.integers(0, 9), st.integers(0, 4), st.integers(0, 4), st.integers(-1, 2), st.booleans(), st.booleans())
def test_a_batch_takes_its_paths(images, routed, layers, missing, conv, not_finite) -> None:
    """``routed`` experts are scored where the layer has ``layers``; ``missing`` images have no scores."""
    slot = RoutingSlot()
    layer = answer_or_sentence(
        lambda: (
            ExpertConv2d(2, 3, 3, padding=1, num_experts=layers, slot=slot)
            if conv
            else ExpertLinear(2, 3, num_experts=layers, slot=slot)
        )
    )
    assert (layer is None) == (layers < 1)
    if layer is None:
        return
    generator = torch.Generator().manual_seed(images)
    x = torch.rand(images, 2, 5, 4, generator=generator) if conv else torch.rand(images, 2, generator=generator)
    scores = torch.rand(max(0, images - missing), routed, generator=generator)
    if not_finite:
        scores = scores * float("nan")

    def run() -> torch.Tensor:
        try:
            return route_batch(slot, scores, x, layer)
        except RuntimeError as error:  # a path among other experts than the layer's
            raise ValueError(str(error)) from None

    output = answer_or_sentence(run)
    numbers = not not_finite or not scores.numel()
    assert (output is not None) == (len(scores) == images and routed == layers and numbers)
    if output is not None:
        chosen = scores.argmax(dim=1)
        banks = layer.banks()
        for image in range(images):
            alone = layer.run_bank(x[image : image + 1], *banks[int(chosen[image])])
            torch.testing.assert_close(output[image : image + 1], alone)


@some(0.6)
@given(drawn(MODEL, MIXTURE), st.integers(0, 5), drawn(8, 16, 33, 64), drawn(8, 15, 40), drawn(0.0, 1.0, -3.0, 1e4))
def test_models_take_every_batch_and_believe_no_nan(model: nn.Module, count, height, width, scale) -> None:
    images = scale * torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))
    with torch.no_grad():
        logits = model(images)
        assert logits.shape == (count, 4) and logits.isfinite().all()
        if count:
            images[0, 0, 0, 0] = float("nan")
            spoiled = answer_or_sentence(lambda: model(images))  # a router refuses
            assert spoiled is None or not spoiled[0].isfinite().all(), "a NaN pixel must not give a number to believe"
            if spoiled is not None:
                torch.testing.assert_close(spoiled[1:], logits[1:], rtol=1e-3, atol=1e-3 * max(1.0, abs(scale)))
