"""MoCSE: what it computes, against networks assembled by hand. Letters: B images, C classes, E experts."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf
from timm.optim import create_optimizer_v2

from mocse_timm.models import MoCSE
from mocse_timm.models.aggregation import AGGREGATIONS, aggregate

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def mocse(**arguments: Any) -> Any:
    """Three thin experts, so that a test takes a tenth of a second."""
    torch.manual_seed(0)
    return timm.create_model("mocse", **({"num_classes": 3, "expert_width": 0.125} | arguments)).eval()


def shared(**arguments: Any) -> Any:
    return mocse(**({"width": 0.25, "shared_stages": 3} | arguments))


@pytest.mark.parametrize("method", AGGREGATIONS)
@pytest.mark.parametrize("arguments", [{}, {"num_classes": 10, "num_experts": 4}, {"width": 0.25, "shared_stages": 2}])
def test_forward_aggregates_what_the_experts_say(method: str, arguments: dict[str, Any]) -> None:
    model = mocse(aggregation=method, **arguments)
    logits = model.forward_experts(IMAGES)
    sizes = [3, 3, 2, 2] if "num_experts" in arguments else [1, 1, 1]
    assert logits.shape == (2, len(sizes), max(sizes) + 1)
    scores = model(IMAGES)
    torch.testing.assert_close(scores, aggregate(logits, sizes, method), rtol=0, atol=0)
    torch.testing.assert_close(model.forward_head(model.forward_features(IMAGES)), scores, rtol=0, atol=0)


def test_each_expert_is_the_whole_backbone() -> None:
    model = mocse()
    for index, expert in enumerate(model.experts):
        alone: Any = timm.create_model("cifar_preact18", width=0.125, num_classes=2).eval()
        alone.load_state_dict(expert.state_dict())
        torch.testing.assert_close(model.forward_experts(IMAGES)[:, index], alone(IMAGES), rtol=0, atol=0)


def test_trunk_and_one_expert_make_one_dense_network() -> None:
    model = shared()
    for index in range(3):
        dense: Any = timm.create_model("cifar_preact18", width=[0.25, 0.25, 0.25, 0.125], num_classes=2).eval()
        prefixes = ("trunk.", f"experts.{index}.")
        dense.load_state_dict(
            {
                key.removeprefix(p): value
                for key, value in model.state_dict().items()
                for p in prefixes
                if key.startswith(p)
            }
        )
        torch.testing.assert_close(model.forward_experts(IMAGES)[:, index], dense(IMAGES), rtol=0, atol=0)


@pytest.mark.parametrize("build", [mocse, shared])
def test_checkpointing_changes_neither_outputs_nor_gradients(build: Any) -> None:
    results = []
    for enable in (False, True):
        model = build().train()
        model.set_grad_checkpointing(enable)
        scores = model(IMAGES)
        scores.logsumexp(1).sum().backward()
        results.append([scores.detach(), *[parameter.grad for parameter in model.parameters()]])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_experts_follow_the_number_of_classes() -> None:
    model = mocse()
    body = [expert.stages.state_dict() for expert in model.experts]
    model.reset_classifier(5)  # experts 3 and 4 start as copies of 0 and 1
    assert model(IMAGES).shape == (2, 5)
    for expert, source in zip(model.experts, [0, 1, 2, 0, 1], strict=True):
        torch.testing.assert_close(expert.stages.state_dict(), body[source], rtol=0, atol=0)
    assert (
        model.experts[3].stages[0][0].conv1.weight.data_ptr() != model.experts[0].stages[0][0].conv1.weight.data_ptr()
    )
    model.reset_classifier(2)
    assert (model(IMAGES).shape, len(model.experts)) == ((2, 2), 2)
    model.reset_classifier(0)
    features = model.forward_features(IMAGES)
    torch.testing.assert_close(model(IMAGES), features.mean((2, 3)))
    model.reset_classifier(3)
    assert len(model.experts) == 3


def test_experts_of_groups_stay_while_there_is_a_class_for_each() -> None:
    model = mocse(num_classes=10, num_experts=4)
    model.reset_classifier(6)
    assert (len(model.experts), model.group_sizes, model(IMAGES).shape) == (4, [2, 2, 1, 1], (2, 6))
    model.reset_classifier(3)
    assert (len(model.experts), model.group_sizes) == (3, [1, 1, 1])


def test_reset_keeps_frozen_batch_norms_frozen() -> None:
    model = mocse().train()
    frozen = set(model.experts[1].norm.eval().modules())
    model.reset_classifier(4)
    assert {module for module in model.modules() if not module.training} == frozen


def test_features_stand_side_by_side() -> None:
    model = shared(features_only=True)
    assert model.feature_info.channels() == [16, 32, 64, 3 * 64]
    shapes = [tuple(feature.shape) for feature in model(IMAGES)]
    assert shapes == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8), (2, 192, 4, 4)]


def test_intermediates_of_the_trunk_stand_once() -> None:
    model = shared()
    final, features = model.forward_intermediates(IMAGES)
    torch.testing.assert_close(features[2], model.trunk(IMAGES), rtol=0, atol=0)
    torch.testing.assert_close(final, model.forward_features(IMAGES), rtol=0, atol=0)
    first = model.forward_intermediates(IMAGES, indices=[0], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(first[0], features[0], rtol=0, atol=0)


@pytest.mark.parametrize("indices", [[3, 0, 2], [2, 1], [3, 2]])
def test_intermediates_come_in_the_networks_order_as_the_backbones_do(indices: list[int]) -> None:
    model: Any = shared()
    dense: Any = timm.create_model("cifar_preact18", width=0.125)
    features = model.forward_intermediates(IMAGES, indices=indices, intermediates_only=True)
    sides = [feature.shape[-1] for feature in dense.forward_intermediates(IMAGES, indices, intermediates_only=True)]
    assert [feature.shape[-1] for feature in features] == sides == sorted(sides, reverse=True)
    _, all_features = model.forward_intermediates(IMAGES)
    for feature, index in zip(features, sorted(indices), strict=True):
        torch.testing.assert_close(feature, all_features[index], rtol=0, atol=0)


def test_same_layer_of_all_experts_learns_at_one_rate() -> None:
    model = shared(num_classes=2)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=1.0, weight_decay=0.0, layer_decay=0.5)
    scale_of = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    rates = {name: scale_of[id(parameter)] for name, parameter in model.named_parameters()}
    for name, rate in rates.items():
        assert rate == rates[name.replace("experts.1", "experts.0")]
    layers = ["trunk.stem", "trunk.stages.0.0.conv1", "trunk.stages.2.1.conv1", "experts.0.stages.3.1.conv1"]
    ladder = [rates[f"{layer}.weight"] for layer in layers]
    assert ladder == sorted(set(ladder))
    assert rates["experts.1.head.fc.weight"] == 1.0
    # stem, eight blocks; norm and head share the last rate
    assert len(set(rates.values())) == 10


def test_backbone_args_reach_the_backbone() -> None:
    model = mocse(backbone="test_resnet", backbone_args={"stem_width": 8}, expert_width=None)
    assert model.experts[2].conv1[0].out_channels == 8


@pytest.mark.parametrize("shared_stages", [0, 1])
def test_other_numbers_of_stages_are_counted(shared_stages: int) -> None:
    short = {"depths": [1, 1], "channels": [16, 32], "stem_channels": 16}
    model = mocse(backbone_args=short, shared_stages=shared_stages, expert_width=None, features_only=True)
    channels = [16 if shared_stages else 3 * 16, 3 * 32]
    assert model.feature_info.channels() == [feature.shape[1] for feature in model(IMAGES)] == channels


@pytest.mark.parametrize("backbone", ["test_resnet", "test_byobnet"])  # one with equal mean and std, one without
def test_timm_backbones_get_the_normalisation_of_their_cfg(backbone: str) -> None:
    model = mocse(backbone=backbone, expert_width=None)
    cfg = timm.get_pretrained_cfg(backbone)
    assert cfg is not None
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.mean, cfg.std))
    for index, expert in enumerate(model.experts):
        by_hand = expert((IMAGES - mean) / std)
        torch.testing.assert_close(model.forward_experts(IMAGES)[:, index], by_hand)
    assert model.pretrained_cfg["mean"] == (0, 0, 0)
    assert model.pretrained_cfg["classifier"] == tuple(f"experts.{i}.{cfg.classifier}" for i in range(3))


def test_tokens_stand_side_by_side() -> None:
    model = mocse(backbone="test_vit", expert_width=None, img_size=32)
    features = model.forward_features(IMAGES)
    assert features.shape[2] == model.num_features == 3 * 64
    torch.testing.assert_close(model.forward_head(features), model(IMAGES))


def test_drop_rate_reaches_the_experts() -> None:
    assert [expert.head.drop.p for expert in mocse(drop_rate=0.3).experts] == [0.3] * 3


@pytest.mark.parametrize("build", [mocse, shared])
def test_exports_and_compiles_in_one_graph(build: Any) -> None:
    model = build()
    scores = model(IMAGES)
    batch = torch.export.Dim("batch", min=2, max=1024)
    exported = torch.export.export(model, (IMAGES,), dynamic_shapes=({0: batch},)).module()
    torch.testing.assert_close(exported(IMAGES), scores)
    torch.testing.assert_close(exported(IMAGES.repeat(2, 1, 1, 1)), scores.repeat(2, 1))
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(IMAGES), scores)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"features_only": True, "feature_cls": "hook"}, "feature_cls='hook' would see one expert's features"),
        ({"aggregation": "mean"}, "aggregation must be one of log_odds, log_confidence, confidence, got 'mean'"),
        ({"num_experts": 4}, r"num_experts must be between 1 and the number of classes \(3\), got 4"),
        ({"num_experts": 0}, r"num_experts must be between 1 and the number of classes \(3\), got 0"),
        ({"backbone": "resnet81"}, "name of a timm model, got 'resnet81' .did you mean 'resnet18'"),
        ({"backbone": "test_resnet"}, "need one of this package's backbones"),
        ({"backbone": "test_resnet", "expert_width": None, "shared_stages": 1}, "need one of this package's backbones"),
        ({"width": 0.5}, "width=0.5 sets the shared stages, but shared_stages is 0: use expert_width"),
        ({"shared_stages": 4}, "shared_stages must be between 0 and 3 for cifar_preact18, got 4"),
        ({"shared_stages": -1}, "shared_stages must be between 0 and 3 for cifar_preact18, got -1"),
        ({"expert_width": 0}, "width must be above 0 and finite, got 0"),
        ({"expert_width": 0, "shared_stages": 1}, r"width must be above 0 and finite, got \[1.0, 0, 0, 0\]"),
        ({"backbone_args": {"in_chans": 1}}, "backbone_args may not hold 'in_chans'"),
        ({"backbone_args": {"width": 1}}, "backbone_args may not hold 'width'"),
        ({"backbone_args": {"num_classes": 1}}, "backbone_args may not hold 'num_classes'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        mocse(**arguments)


def test_without_classes_the_experts_must_be_counted() -> None:
    with pytest.raises(ValueError, match="num_classes is 0: say how many experts there are with num_experts"):
        MoCSE(num_classes=0)
    with pytest.raises(ValueError, match="num_classes must be at least 0, got -1"):
        MoCSE(num_classes=-1)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_saved_groups_are_reloaded_for_fewer_classes_as_reset_classifier_leaves_them(
    classes: int, tmp_path: Path
) -> None:
    model = mocse(num_classes=10, num_experts=4)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    again: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=classes).eval()
    model.reset_classifier(classes)
    assert again.group_sizes == model.group_sizes and again.pretrained_cfg["classifier"][-1].startswith(
        f"experts.{len(model.group_sizes) - 1}."
    )
    kept = {key: value for key, value in model.state_dict().items() if "head.fc" not in key}
    for key, value in again.state_dict().items():
        assert "head.fc" in key or torch.equal(value, kept[key]), key
    assert again.state_dict().keys() == model.state_dict().keys()
    assert again(IMAGES).shape == (2, classes)


def test_more_experts_than_classes_are_refused_where_both_are_typed() -> None:
    with pytest.raises(ValueError, match=r"num_experts must be between 1 and .* \(3\), got 4"):
        mocse(num_experts=4, num_classes=3)


def test_every_expert_keeps_its_backbones_exceptions_from_weight_decay() -> None:
    vit: Any = timm.create_model("test_vit")
    one, model = vit.no_weight_decay(), mocse(backbone="test_vit", expert_width=None)
    assert one and model.no_weight_decay() == {f"experts.{i}.{name}" for i in range(3) for name in one}


def test_intermediates_are_normalised_where_asked_for() -> None:
    model = mocse(backbone="test_vit", expert_width=None, img_size=32)
    _, plain = model.forward_intermediates(IMAGES, indices=[-1])
    _, normed = model.forward_intermediates(IMAGES, indices=[-1], norm=True)
    x = model.trunk(IMAGES)
    each = [expert.forward_intermediates(x, indices=[-1], norm=True)[1][0] for expert in model.experts]
    torch.testing.assert_close(normed[0], torch.cat(each, dim=1))
    assert not torch.allclose(plain[0], normed[0])
