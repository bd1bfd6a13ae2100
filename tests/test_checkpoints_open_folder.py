"""A folder is opened as it was saved, or refused in a sentence, before memory is taken for what it claims to hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mocse_timm.checkpoints.build import Budget, give_memory
from mocse_timm.checkpoints.open_folder import open_folder
from mocse_timm.checks import BadInput
from mocse_timm.models.saving import save_model

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SWIN = {  # with buffers that are not saved, and must be made again
    "backbone": "swin_tiny_patch4_window7_224",
    "backbone_args": {"embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4},
    "img_size": 32,
}
TIED = {  # with layers that share weights
    "backbone": "coat_tiny",
    "backbone_args": {"embed_dims": [16, 16, 16, 16], "serial_depths": [1, 1, 1, 1], "parallel_depth": 1},
    "img_size": 32,
}
SMALL: tuple[str, dict[str, Any]] = (
    "mocse_preact18",
    {"num_classes": 3, "backbone_args": {"depths": [1, 1], "channels": [32, 32], "stem_channels": 32}},
)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "preact18": ("cifar_preact18", {"width": 0.0625}),
    "densenet": ("cifar_densenet", {"width": 0.1, "depths": [1, 1, 1, 1]}),
    "vgg16_bn": ("cifar_vgg16_bn", {"width": 0.0625}),
    "mixture": ("mocse_preact18", {"expert_width": 0.0625, "num_classes": 4}),
    "shared": ("mocse_preact18_shared", {"expert_width": 0.0625, "width": 0.0625, "num_classes": 4}),
    "groups": ("mocse", {"num_experts": 2, "num_classes": 5, "expert_width": 0.0625}),
    "no classes": ("mocse", {"num_experts": 2, "num_classes": 0, "expert_width": 0.0625}),
    "mixture of swins": ("mocse", {"num_classes": 2, **SWIN}),
    "mixture of tied": ("mocse", {"num_classes": 2, **TIED}),
    "ensemble": ("ensemble", {"num_experts": 2, "expert_width": 0.0625, "num_classes": 4}),
    "routed": ("advmoe_resnet18", {"width": 0.125, "num_experts": 3}),
    "routed, not normalised": ("advmoe_resnet18", {"width": 0.125, "normalize": False}),
    "routed swin": ("advmoe", SWIN),
    "timm's own": ("test_vit", {"img_size": 32, "num_classes": 3}),
}


def save(name: str, options: dict[str, Any], folder: Path) -> Any:
    model: Any = timm.create_model(name, **options).train()
    with torch.no_grad():
        model(torch.rand(4, 3, 32, 32))  # so that running statistics are not those of a new model
    folder.mkdir()
    save_model(model, folder)
    return model.eval()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save(*SMALL, tmp_path / "run")
    return tmp_path / "run"


def edit_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def equal(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("case", CASES)
def test_what_was_saved_comes_back_bit_for_bit(case: str, tmp_path: Path) -> None:
    model = save(*CASES[case], tmp_path / "run")
    opened: Any = open_folder(tmp_path / "run")
    by_timm = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True)
    assert all(module.training for module in opened.modules())
    assert [(n, p.requires_grad) for n, p in opened.named_parameters()] == [
        (n, p.requires_grad) for n, p in by_timm.named_parameters()
    ]
    for (name, ours), (_, theirs) in zip(opened.named_buffers(), by_timm.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), name  # those that are not saved, too
    assert opened.pretrained_cfg == by_timm.pretrained_cfg
    with torch.inference_mode():
        assert torch.equal(opened.eval()(IMAGES), model(IMAGES))


@pytest.mark.parametrize("shared", ["weights", "nothing", "a tensor that is no buffer", "a buffer nobody fills"])
def test_memory_is_given_only_where_nothing_is_lost(shared: str) -> None:
    with torch.device("meta"):
        model: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        if shared == "weights":
            model[1].weight = model[0].weight
        elif shared == "a tensor that is no buffer":
            model[1].scale = torch.ones(2)
        elif shared == "a buffer nobody fills":
            model[1].register_buffer("scale", torch.ones(2), persistent=False)
    assert give_memory(model) == (shared == "nothing")
    assert model[0].weight.is_meta == (shared != "nothing")


def test_weights_take_the_place_of_nothing_random(run: Path) -> None:
    before = torch.get_rng_state()
    open_folder(run)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("mixture", {"num_classes": 3}),
        ("mixture", {"num_classes": 6}),
        ("mixture", {"in_chans": 1}),
        ("shared", {"num_classes": 6, "in_chans": 1}),
        ("groups", {"num_classes": 7}),
        ("groups", {"num_classes": 1}),
        ("preact18", {"num_classes": 5, "in_chans": 4}),
        ("preact18", {"num_classes": 0}),
        ("routed", {"num_classes": 5, "in_chans": 1}),
        ("preact18", {"features_only": True, "out_indices": (1, 2)}),
        ("mixture", {"features_only": True}),
        ("routed", {"features_only": True, "in_chans": 1}),
    ],
)
def test_options_adapt_the_model_as_timm_does(case: str, options: dict[str, Any], tmp_path: Path) -> None:
    save(*CASES[case], tmp_path / "run")
    torch.manual_seed(0)
    adapted: Any = open_folder(tmp_path / "run", **options)
    torch.manual_seed(0)
    by_timm = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True, **options)
    assert type(adapted) is type(by_timm) and equal(adapted, by_timm)
    if "features_only" in options:
        images = IMAGES[:, : options.get("in_chans", 3)]
        for ours, theirs in zip(adapted.eval()(images), by_timm.eval()(images), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["pretrained", "pretrained_cfg_overlay", "checkpoint_path", "backbone_pretrained"])
def test_options_may_not_bring_other_weights(name: str, run: Path) -> None:
    with pytest.raises(BadInput, match=f"the weights are those in the folder; leave {name} out"):
        open_folder(run, **{name: "elsewhere"})


def test_options_that_do_not_fit_are_named(run: Path) -> None:
    with pytest.raises(BadInput, match=r"tensor .* in the checkpoint and .* in the model .asked for: expert_width=1"):
        open_folder(run, expert_width=1)
    with pytest.raises(BadInput, match="cannot build the model .*'bogus'"):
        open_folder(run, bogus=1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"expert_width": 64}, "in the checkpoint and .* in the model"),  # 600 GB
        ({"num_classes": 100_000}, "more layers than the weights beside it fill"),
        ({"num_experts": 65_536, "num_classes": 65_536}, "more layers than the weights beside it fill"),
        ({"backbone_args": {"depths": [1024] * 2, "channels": [8, 8]}}, "more layers than the weights beside it fill"),
        (
            {"backbone_args": {"depths": [1, 1], "channels": [65_536] * 2}, "expert_width": 64},
            "in the checkpoint and .* in the model",
        ),
        ({"shared_stages": 1, "backbone_args": {}, "expert_width": 0.0625}, "lacks the model's tensor trunk"),
        ({"aggregation": "sum"}, "aggregation must be one of"),
        ({"backbone_args": {"input_std": [0, 0, 0]}}, "std must be above 0"),
        ({"backbone_args": {"input_mean": "mean"}}, "cannot build the model"),
        ({"backbone_args": {"depths": {}}}, "cannot build the model"),
    ],
)
def test_sizes_beyond_the_weights_are_refused_before_memory_is_taken(
    arguments: dict[str, Any], sentence: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(config: dict[str, Any]) -> None:
        config["model_args"] |= arguments
        config["num_classes"] = config["model_args"]["num_classes"]

    edit_config(run, change)
    monkeypatch.setattr("mocse_timm.checkpoints.open_folder.give_memory", lambda model: pytest.fail("memory was taken"))
    with pytest.raises(BadInput, match=sentence):
        open_folder(run)


def test_mixtures_of_mixtures_stay_within_the_weights(run: Path) -> None:
    nested: dict[str, Any] = {}
    for _ in range(12):  # 3 experts, each of 2, each of 2: 12,288 networks in 2 kB
        nested = {"backbone": "mocse", "backbone_args": nested}

    def change(config: dict[str, Any]) -> None:
        config["architecture"], config["model_args"] = "mocse", {"num_classes": 3, **nested}

    edit_config(run, change)
    with pytest.raises(BadInput, match="more layers than the weights beside it fill"):
        open_folder(run)


def test_a_model_of_timm_may_not_be_much_larger_than_its_weights(tmp_path: Path) -> None:
    save("test_resnet", {"num_classes": 3}, tmp_path / "run")
    edit_config(tmp_path / "run", lambda config: config["model_args"].update(channels=[4096] * 4))
    with pytest.raises(BadInput, match=r"the model has \d+ numbers, the checkpoint \d+"):
        open_folder(tmp_path / "run")


NAME = "experts.1.stages.0.0.conv1.weight"


@pytest.mark.parametrize("folder", ["run", "timm's own"])
@pytest.mark.parametrize(
    ("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity"), (-float("inf"), "infin")]
)
def test_weights_that_are_no_numbers_are_refused(value: float, word: str, folder: str, tmp_path: Path) -> None:
    save(*(SMALL if folder == "run" else CASES[folder]), tmp_path / "run")
    name = NAME if folder == "run" else "blocks.0.mlp.fc1.weight"
    edit_tensors(tmp_path / "run", lambda tensors: tensors[name].view(-1)[-1].fill_(value))
    with pytest.raises(BadInput, match=f"model.safetensors holds {word}.* in tensor {name}"):
        open_folder(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop(NAME), f"lacks the model's tensor {NAME}"),
        (lambda tensors: tensors.update(more=torch.zeros(2)), r"has a tensor more \(2,\) that the model lacks"),
        (lambda tensors: tensors.update({NAME: torch.zeros(2)}), rf"tensor {NAME} is \(2,\) in the checkpoint and"),
        (
            lambda tensors: tensors.update({NAME: tensors[NAME].half()}),
            rf"tensor {NAME} is \(8, 8, 3, 3\) float16 in the checkpoint and \(8, 8, 3, 3\) float32 in the model",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Any, sentence: str, run: Path) -> None:
    edit_tensors(run, change)
    with pytest.raises(BadInput, match=sentence):
        open_folder(run)


@pytest.mark.parametrize("calls", range(12))  # in the block, and on its way in and out
def test_a_construction_that_is_given_up_leaves_gradients_as_they_were(calls: int) -> None:
    with pytest.raises(BadInput, match="more layers than the weights"), Budget(calls), torch.no_grad():
        for _ in range(10):
            torch.ones(1)
        raise BadInput("more layers than the weights, after the block")
    assert torch.is_grad_enabled()


def test_what_swallows_the_refusal_is_refused_again() -> None:
    refused = 0
    with Budget(0):
        for _ in range(1000):
            try:
                torch.ones(1)
            except BadInput:
                refused += 1
    assert 5 < refused < 20
