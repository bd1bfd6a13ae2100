"""Mixtures around timm's models behave as those do: saved, resized, as features, layer by layer, with any images."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import get_model_input_config, group_parameters, resolve_model_input_args, save_for_hf
from torch import Tensor

import mocse_timm  # noqa: F401  (registers the models)

CROSSVIT: dict[str, Any] = {"backbone": "crossvit_tiny_240", "backbone_args": {"depth": ((1, 1, 0),) * 3}}
SWIN: dict[str, Any] = {
    "backbone": "swin_tiny_patch4_window7_224",
    "backbone_args": {"depths": (1, 1, 1, 1), "embed_dim": 24},
}
WRAPPERS: dict[str, dict[str, Any]] = {"mocse": {}, "ensemble": {"num_experts": 2}, "advmoe": {}}


def build(name: str, **arguments: Any) -> Any:
    torch.manual_seed(0)
    given: dict[str, Any] = {"num_classes": 3, **WRAPPERS[name], **arguments}
    return timm.create_model(name, **given).eval()


def images(side: int) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def reload(model: Any, folder: Path, **changes: Any) -> Any:
    save_for_hf(model, str(folder), safe_serialization=True)
    return timm.create_model(f"local-dir:{folder}", pretrained=True, **changes).eval()


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_pooling_that_moves_a_norm_survives_saving(name: str, tmp_path: Path) -> None:
    model = build(name, backbone="test_vit", img_size=32)
    model.reset_classifier(4, "avg")  # a ViT built with this pooling has its last norm elsewhere
    assert torch.equal(reload(model.eval(), tmp_path)(images(32)), model(images(32)))


@pytest.mark.filterwarnings("ignore:torch.searchsorted")  # timm's own, from resampling Swin's tables
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # likewise
@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize(("networks", "side"), [({"backbone": "test_vit"}, 32), (SWIN, 64)])
def test_another_image_size_resamples_as_timm_does(
    name: str, networks: dict[str, Any], side: int, tmp_path: Path
) -> None:
    model = build(name, img_size=side, **networks)
    larger = reload(model, tmp_path / "saved", img_size=2 * side)
    part = "body" if name == "advmoe" else "experts.1"
    if name == "advmoe":
        model, larger = model.body, larger.body
        kept = [key for key in model.state_dict() if "pos" in key]  # its other weights are of several experts
    else:
        model, larger = model.get_submodule(part), larger.get_submodule(part)
        kept = list(model.state_dict())
    (tmp_path / "alone").mkdir()
    arguments: dict[str, Any] = {"img_size": side, **networks.get("backbone_args", {})}
    alone: Any = timm.create_model(networks["backbone"], num_classes=model.num_classes, **arguments)
    alone.load_state_dict({key: value for key, value in model.state_dict().items() if key in kept}, strict=False)
    expected = reload(alone, tmp_path / "alone", img_size=2 * side).state_dict()
    assert any(expected[key].shape != model.state_dict()[key].shape for key in kept)
    for key in kept:
        torch.testing.assert_close(larger.state_dict()[key], expected[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", WRAPPERS)
def test_arguments_from_timms_scripts_build_the_model_that_its_name_builds(name: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"backbone": "test_vit", "num_classes": 3} | WRAPPERS[name]
    direct: Any = timm.create_model(name, **arguments)
    assert direct.pretrained_cfg["input_size"] == (3, 160, 160)
    scripted: Any = timm.create_model(**resolve_model_input_args(name, {}, **arguments))
    assert scripted.pretrained_cfg == direct.pretrained_cfg
    registered = timm.get_pretrained_cfg(name)
    assert registered is not None
    chosen: Any = timm.create_model(name, pretrained_cfg=replace(registered, input_size=(3, 64, 64)), **arguments)
    assert chosen.pretrained_cfg == direct.pretrained_cfg | {"input_size": (3, 64, 64)}
    # what a saved model says of its images stands, even where it is what the registry says
    small = reload(timm.create_model(name, pretrained_cfg_overlay={"input_size": (3, 32, 32)}, **arguments), tmp_path)
    assert small.pretrained_cfg["input_size"] == (3, 32, 32)


def test_classes_of_an_overlay_count_for_the_layers_that_are_named() -> None:
    model: Any = timm.create_model("mocse_preact18", pretrained_cfg_overlay={"num_classes": 5}, num_classes=0)
    assert len(model.experts) == len(model.pretrained_cfg["classifier"]) == 5


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit4"])
def test_features_of_every_expert_stand_side_by_side_where_nothing_is_pooled(backbone: str) -> None:
    model = build("mocse", backbone=backbone, img_size=32)
    model.reset_classifier(0, "")
    expected = torch.cat([expert(model.trunk(images(32))) for expert in model.experts], dim=-1)
    torch.testing.assert_close(model.forward_head(model.forward_features(images(32)), pre_logits=True), expected)


@pytest.mark.parametrize("name", WRAPPERS)
def test_features_in_several_tensors_go_through_the_head_as_forward_has_them(name: str) -> None:
    model = build(name, **CROSSVIT)
    torch.testing.assert_close(model.forward_head(model.forward_features(images(240))), model(images(240)))


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_backbones_own_function_sorts_layers(name: str) -> None:
    networks: dict[str, Any] = {"backbone": "cait_xxs24_224", "backbone_args": {"depth": 2}, "device": "meta"}
    alone: Any = timm.create_model("cait_xxs24_224", depth=2, device="meta")
    model = build(name, **networks)
    expected = group_parameters(alone, alone.group_matcher(), reverse=True)
    found = group_parameters(model, model.group_matcher(), reverse=True)
    for key, layer in found.items():
        own = re.sub(r"^(body|experts\.\d+)\.", "", key)
        assert layer == (0 if own.startswith("router.") else expected[own])


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "resnet10t"])
def test_features_only_gives_the_maps_the_backbone_gives(name: str, backbone: str) -> None:
    arguments: dict[str, Any] = {"features_only": True, "device": "meta"}
    expected: Any = timm.create_model(backbone, **arguments)
    model = build(name, backbone=backbone, **arguments)
    assert model.feature_info.out_indices == expected.feature_info.out_indices
    assert model.feature_info.reduction() == expected.feature_info.reduction()


def test_options_that_only_some_backbones_have_reach_the_experts() -> None:
    model = build("mocse", backbone="test_vit", img_size=32)
    [(maps, tokens)] = model.forward_intermediates(
        images(32), indices=1, return_prefix_tokens=True, intermediates_only=True
    )
    of_each = [
        expert.forward_intermediates(
            model.trunk(images(32)), indices=1, return_prefix_tokens=True, intermediates_only=True
        )[0]
        for expert in model.experts
    ]
    torch.testing.assert_close(maps, torch.cat([each[0] for each in of_each], dim=1))
    torch.testing.assert_close(tokens, torch.cat([each[1] for each in of_each], dim=-1))


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_backbone_for_any_size_is_one_for_timm(name: str) -> None:
    fixed = build(name, backbone="vit_tiny_patch16_224", device="meta")
    free = build(name, backbone="vit_tiny_patch16_224", backbone_args={"dynamic_img_size": True}, device="meta")
    assert [get_model_input_config(model)["fixed_input_size"] for model in (fixed, free)] == [True, False]


def test_a_mixture_around_a_mixture_says_the_same_with_any_number_of_threads() -> None:
    model = build("advmoe", backbone="mocse_preact18", backbone_args={"expert_width": 0.125})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = model(images(32))
        torch.set_num_threads(2)
        torch.testing.assert_close(model(images(32)), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["cifar_resnet18", "mocse_preact18", "advmoe_resnet18"])
@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (3, 32, 32)])
def test_images_of_another_shape_are_refused_not_broadcast(name: str, shape: tuple[int, ...]) -> None:
    model: Any = timm.create_model(name, num_classes=2)
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\), got \(.*\): for other channels build"):
        model(torch.rand(shape))


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("cifar_preact18", {"width": float("nan")}, "width must be above 0 and finite, got nan"),
        ("cifar_preact18", {"stem_width": 0}, "stem_width must be above 0 and finite, got 0"),
        ("cifar_resnet18", {"stem_width": -3}, "stem_width must be above 0 and finite, got -3"),
        ("cifar_vgg16_bn", {"stem_width": 0}, "stem_width must be above 0"),
        ("cifar_densenet", {"stem_width": 0}, "stem_width must be above 0"),
        ("cifar_resnet18", {"num_classes": -1}, "num_classes must be at least 0, got -1"),
        ("mocse_preact18", {"in_chans": 0}, "in_chans must be at least 1, got 0"),
        ("mocse_preact18", {"num_experts": 2.5}, "num_experts must be a whole number, got 2.5"),
        ("mocse_preact18_shared", {"shared_stages": 1.5}, "shared_stages must be a whole number, got 1.5"),
        ("mocse", {"backbone": 3}, "backbone must be the name of a timm model, got 3"),
        ("advmoe_resnet18", {"width": [1, 1, 1, 1]}, r"width must be one number, got \[1, 1, 1, 1\]"),
        ("advmoe_resnet18", {"num_classes": -1}, "num_classes must be at least 0, got -1"),
        ("cifar_resnet18", {"input_std": (0.1, 0.2)}, "mean and std must have as many numbers"),
    ],
)
def test_arguments_that_are_no_number_of_theirs_are_refused(
    name: str, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        timm.create_model(name, **arguments)
