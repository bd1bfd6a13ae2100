"""AdvMoE models: each image's path against the same path run as a network of its own."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from routers import bright_and_dark, spread
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mocse_timm.models import routing
from mocse_timm.models.expert_layers import ExpertConv2d, ExpertLayer
from mocse_timm.models.saving import save_model

FAMILIES = ["advmoe_resnet18", "advmoe_wrn28_10", "advmoe_vgg16_bn", "advmoe_densenet"]
IMAGES = bright_and_dark(9)


def build(name: str = "advmoe_resnet18", **arguments: Any) -> Any:
    torch.manual_seed(0)
    return spread(timm.create_model(name, **({"width": 0.125, "num_experts": 3} | arguments))).eval()


def test_the_images_of_these_tests_use_every_expert() -> None:
    assert len(build().route(IMAGES).argmax(dim=1).unique()) == 3


def one_path(model: Any, expert: int) -> nn.Module:
    """Return the dense network that images of ``expert`` go through."""
    dense = copy.deepcopy(model.body)
    for name in model.expert_layers:
        layer = dense.get_submodule(name)
        weight, bias = layer.banks()[expert]
        assert isinstance(layer, ExpertConv2d)
        sizes: tuple[Any, ...] = (layer.kernel_size, layer.stride, layer.padding)
        plain = nn.Conv2d(layer.in_channels, layer.out_channels, *sizes, bias=bias is not None)
        plain.weight.data = weight.detach().clone()
        if bias is not None and plain.bias is not None:
            plain.bias.data = bias.detach().clone()
        parent, _, own = name.rpartition(".")
        setattr(dense.get_submodule(parent), own, plain)
    return nn.Sequential(model.normalize, dense).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_each_image_goes_through_the_network_of_its_expert(name: str) -> None:
    model = build(name)
    chosen = model.route(IMAGES).argmax(dim=1)
    with torch.no_grad():
        logits = model(IMAGES)
        for expert in range(3):
            torch.testing.assert_close(
                logits[chosen == expert], one_path(model, expert)(IMAGES[chosen == expert]), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("name", FAMILIES)
def test_sorted_and_masked_passes_train_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for masked in (False, True):
        if masked:
            monkeypatch.setattr(routing, "runs_masked", lambda _: True)
        model = build(name).double().train()
        logits, scores = model.forward_with_scores(IMAGES.double())
        logits.logsumexp(dim=1).sum().backward()
        gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
        assert all(gradient is not None for gradient in gradients.values())
        assert gradients["router.slope"].abs().max() > 0
        results.append([logits, scores, *gradients.values()])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def test_the_timm_interface_is_routed_throughout() -> None:
    model = build()
    features = model.forward_features(IMAGES)
    torch.testing.assert_close(model.forward_head(features), model(IMAGES))
    final, maps = model.forward_intermediates(IMAGES)
    torch.testing.assert_close(final, features)
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]
    torch.testing.assert_close(model.forward_with_scores(IMAGES)[1], model.route(IMAGES))
    model.reset_classifier(3)
    assert model(IMAGES).shape == (9, 3)


def test_checkpointing_changes_neither_outputs_nor_gradients() -> None:
    results = []
    for enable in (False, True):
        model = build().train()
        model.set_grad_checkpointing(enable)
        logits = model(IMAGES)
        (logits.logsumexp(dim=1).sum() + model(IMAGES.flip(0)).square().sum()).backward()
        results.append([logits.detach(), *[parameter.grad for parameter in model.parameters()]])
    torch.testing.assert_close(results[1], results[0])


def test_experts_of_an_untrained_model_start_apart() -> None:
    model: Any = timm.create_model("advmoe_resnet18", width=0.125)
    for name in model.expert_layers:
        first, second = (weight for weight, _ in model.body.get_submodule(name).banks())
        assert not torch.equal(first, second)
        assert 0.5 < first.std() / second.std() < 2


def test_pretrained_weights_start_every_expert(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained: Any = timm.create_model("cifar_resnet18", width=0.125).eval()
    save_model(trained, tmp_path)
    model = build("advmoe", ratio=1.0, backbone_pretrained=f"local-dir:{tmp_path}")
    model.body.head.fc.load_state_dict(trained.head.fc.state_dict())  # the classifier is the model's own
    torch.testing.assert_close(model(IMAGES), trained(IMAGES), rtol=1e-4, atol=1e-5)


def count(name: str, **arguments: Any) -> tuple[int, int, int]:
    model: Any = timm.create_model(name, **arguments).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as one:
        model(torch.rand(1, 3, 32, 32))
    with torch.no_grad(), FlopCounterMode(display=False) as router:
        model.route(torch.rand(1, 3, 32, 32))
    parameters = sum(parameter.numel() for parameter in model.body.parameters())
    return parameters, one.get_total_flops() // 2 - router.get_total_flops() // 2, router.get_total_flops() // 2


def test_costs_are_those_of_one_path() -> None:
    """ResNet-18 at half width with the stem's 64 channels, added up by hand; experts add parameters and no MACs."""
    stem, router = 3 * 64 * 9 * 32**2, 40_550_528
    first = (64 * 32 + 3 * 32 * 32) * 9 * 32**2 + 64 * 32 * 32**2  # its shortcut joins 64 channels to 32
    rest = sum(
        (c // 2 * c + 3 * c * c) * 9 * side**2 + c // 2 * c * side**2 for c, side in ((64, 16), (128, 8), (256, 4))
    )
    path = stem + first + rest + 256 * 10
    assert count("advmoe_resnet18") == (5_565_450, path, router)
    assert count("advmoe_resnet18", num_experts=8)[1:] == (path, router + 6 * 64)
    dense: Any = timm.create_model("cifar_resnet18", width=0.5, stem_width=1.0)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        dense(torch.rand(1, 3, 32, 32))
    assert flops.get_total_flops() // 2 == path


def test_the_router_has_a_quarter_million_parameters_and_pools_large_images() -> None:
    model: Any = timm.create_model("advmoe_resnet18")
    router = model.router.eval()
    # 3x3 convolutions 3-16, 6 x 16-16, 16-32, 5 x 32-32, 32-64, 5 x 64-64; 19 norms; a classifier
    weights = 9 * (3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    assert sum(p.numel() for p in router.parameters()) == weights + 2 * (7 * 16 + 6 * 32 + 6 * 64) + 64 * 2 + 2
    large = torch.rand(1, 3, 96, 128)
    torch.testing.assert_close(router(large), router(nn.functional.adaptive_avg_pool2d(large, (64, 64))))


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext"])
def test_any_timm_backbone_keeps_each_images_own_result(backbone: str) -> None:
    model: Any = spread(timm.create_model("advmoe", backbone=backbone, num_classes=3, num_experts=3)).eval()
    size = model.pretrained_cfg["input_size"][-1]
    images = bright_and_dark(4, size)
    with torch.no_grad():
        together, apart = model(images), torch.cat([model(images[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    assert len(model.expert_layers) > 3
    assert all(isinstance(model.body.get_submodule(name), ExpertLayer) for name in model.expert_layers)


@pytest.mark.parametrize("watch", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_see_the_images_in_their_order(watch: str) -> None:
    model, seen = build(), []
    expected = model(IMAGES)
    _, features = model.forward_intermediates(IMAGES, indices=[1, 2])
    layer, feature = (1, 0) if watch == "register_forward_hook" else (3, 1)
    handle = getattr(model.body.stages[layer], watch)(lambda _layer, inputs, *outputs: seen.append([*outputs, *inputs]))
    torch.testing.assert_close(model(IMAGES), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen[0][0], features[feature], rtol=1e-4, atol=1e-5)
    handle.remove()
    with FlopCounterMode(display=False) as counter:  # which looks at all modules, and at no image
        model(IMAGES[:1])
    assert counter.get_total_flops() == one_path_flops(model)


def test_gradients_of_each_image_by_functional_transforms() -> None:
    model, images = build(), IMAGES[:3]
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, weights, (image[None],)).logsumexp(dim=1).sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, images)
    for index in range(3):
        model.zero_grad()
        model(images[index : index + 1]).logsumexp(dim=1).sum().backward()
        expected = {name: p.grad for name, p in model.body.named_parameters() if p.grad is not None}
        ours = {name: found[f"body.{name}"][index] for name in expected}
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def one_path_flops(model: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        one_path(model, 0)(IMAGES[:1])
        model.route(IMAGES[:1])
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_experts": 0}, "num_experts must be at least 1, got 0"),
        ({"ratio": 0.0}, "ratio must be above 0 and at most 1, got 0"),
        ({"ratio": 1.5}, "ratio must be above 0 and at most 1, got 1.5"),
        (
            {"backbone": "resnet18", "ratio": 0.5, "width": None},
            "ratio=0.5 and width need a backbone with a width option",
        ),
        ({"backbone": "resnet81", "width": None}, "backbone must be the name of a timm model, got 'resnet81'"),
        ({"backbone_args": {"width": 0.5}}, "backbone_args may not hold 'width'"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("advmoe", **arguments)


def test_in_eval_mode_an_image_has_the_gradient_of_its_own_path() -> None:
    """What an attack needs; the router's straight-through gradient would lead it astray."""
    model, images = build(), IMAGES.clone().requires_grad_()
    chosen = model.route(IMAGES).argmax(dim=1)
    (found,) = torch.autograd.grad(model(images).logsumexp(dim=1).sum(), images)
    for expert in range(3):
        own = IMAGES[chosen == expert].clone().requires_grad_()
        (expected,) = torch.autograd.grad(one_path(model, expert)(own).logsumexp(dim=1).sum(), own)
        torch.testing.assert_close(found[chosen == expert], expected, rtol=1e-3, atol=1e-5)
    kept: list[bool] = []  # whether the router's own graph is kept: for those who ask for its scores alone
    model.router.register_forward_hook(lambda _module, _images, scores: kept.append(scores.requires_grad))
    for run in (model, model.forward_features, model.forward_with_scores, model.route):
        run(images)
    assert kept == [False, False, True, True]
    model.router.train()
    (gated,) = torch.autograd.grad(model(images).logsumexp(dim=1).sum(), images)
    assert not torch.allclose(gated, found, rtol=1e-2)
