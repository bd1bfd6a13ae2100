"""What all dense networks share, tried on the narrowest of them."""

from typing import Any

import pytest
import timm
import torch

import mocse_timm.models  # noqa: F401  (registers the models)
from mocse_timm.models.cifar_net import scale_channels, stage_widths

DENSE = ["cifar_preact18", "cifar_wrn28_10", "cifar_resnet18", "cifar_vgg16_bn", "cifar_densenet"]


def narrow(name: str = "cifar_preact18", **arguments: Any) -> Any:
    torch.manual_seed(0)
    arguments = {"width": 0.125} | arguments
    return timm.create_model(name, **arguments).eval()


@pytest.mark.parametrize("name", DENSE)
def test_forward_is_head_of_features(name: str) -> None:
    model, images = narrow(name), torch.rand(1, 3, 32, 32)
    features = model.forward_features(images)
    assert features.shape[1] == model.num_features
    assert model.forward_head(features, pre_logits=True).shape == (1, model.head_hidden_size)
    torch.testing.assert_close(model.forward_head(features), model(images), rtol=0, atol=0)


def test_normalises_with_the_statistics_it_was_given() -> None:
    images = torch.rand(2, 3, 32, 32)
    plain = narrow(input_mean=(0.0,) * 3, input_std=(1.0,) * 3)
    shifted = narrow(input_mean=(0.5, 0.4, 0.3), input_std=(0.25,) * 3)
    by_hand = (images - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / 0.25
    torch.testing.assert_close(shifted(images), plain(by_hand))


def test_checkpointing_changes_neither_outputs_nor_gradients() -> None:
    images = torch.rand(2, 3, 32, 32)
    results = []
    for enable in (False, True):
        model = narrow().train()
        model.set_grad_checkpointing(enable)
        logits = model(images)
        logits.logsumexp(1).sum().backward()
        results.append([logits.detach(), *[parameter.grad for parameter in model.parameters()]])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_checkpointing_keeps_fewer_activations() -> None:
    saved = []
    for enable in (False, True):
        model = narrow().train()
        model.set_grad_checkpointing(enable)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            model(torch.rand(2, 3, 32, 32))
        saved.append(sum(sizes))
    assert saved[1] < saved[0] / 2


def test_reset_classifier_replaces_only_the_classifier() -> None:
    model, images = narrow(), torch.rand(2, 3, 32, 32)
    features = model.forward_features(images)
    model.reset_classifier(7)
    assert model(images).shape == (2, 7)
    torch.testing.assert_close(model.forward_features(images), features, rtol=0, atol=0)
    model.reset_classifier(0)
    torch.testing.assert_close(model(images), features.mean((2, 3)))
    model.reset_classifier(3, "max")
    torch.testing.assert_close(model(images), model.get_classifier()(features.amax((2, 3))))
    assert model.global_pool == "max"


def test_drop_rate_acts_in_training_only() -> None:
    model, images = narrow(drop_rate=0.5), torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), model(images))
    model.head.train()
    assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    ("name", "channels", "reductions"),
    [
        ("cifar_preact18", [8, 16, 32, 64], [1, 2, 4, 8]),
        ("cifar_wrn28_10", [24, 40, 80], [1, 2, 4]),
        ("cifar_resnet18", [8, 16, 32, 64], [1, 2, 4, 8]),
        ("cifar_vgg16_bn", [8, 16, 32, 64, 64], [2, 4, 8, 16, 32]),
    ],
)
def test_features_only_gives_every_stage(name: str, channels: list[int], reductions: list[int]) -> None:
    model = narrow(name, features_only=True)
    assert model.feature_info.channels() == channels
    shapes = [tuple(feature.shape) for feature in model(torch.rand(1, 3, 32, 32))]
    assert shapes == [(1, c, 32 // r, 32 // r) for c, r in zip(channels, reductions, strict=True)]


def test_intermediates_are_the_stages_outputs() -> None:
    model, images = narrow(), torch.rand(1, 3, 32, 32)
    final, stages = model.forward_intermediates(images, indices=[0, 3], norm=True)
    torch.testing.assert_close(stages[0], model.stages[0](model.stem(model.normalize(images))))
    torch.testing.assert_close(stages[1], final)
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW', got 'NLC'"):
        model.forward_intermediates(images, output_fmt="NLC")


def test_bfloat16_model_takes_bfloat16_images() -> None:
    model = narrow(dtype=torch.bfloat16)
    assert model(torch.rand(1, 3, 32, 32, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_channels_are_multiples_of_eight() -> None:
    assert [scale_channels(64, width) for width in (0.01, 0.2, 0.25, 0.3125, 1)] == [8, 16, 16, 24, 64]


@pytest.mark.parametrize(
    ("width", "sentence"),
    [
        ([1.0, 0.5], r"one number or 4 numbers, one a stage, got \[1.0, 0.5\]"),
        (0, "width must be above 0 and finite, got 0"),
        ([1, 1, -1, 1], "width must be above 0"),
    ],
)
def test_bad_widths_are_refused(width: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        stage_widths(width, 4)
