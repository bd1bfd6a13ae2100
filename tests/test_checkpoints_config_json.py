"""config.json is read only where it says one thing, and that thing can be a model in this folder."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import timm
from timm.models import PretrainedCfg, save_for_hf

from mocse_timm.checkpoints.config_json import is_ours, read_config
from mocse_timm.checkpoints.config_values import ARGUMENTS, FACTS, FETCHING, check_facts
from mocse_timm.checks import BadInput
from mocse_timm.models import AdvMoE, CifarDenseNet, CifarPreAct, CifarResNet, CifarVGG, Ensemble, MoCSE
from mocse_timm.models.cifar_net import CifarNet
from mocse_timm.models.mixture import Mixture


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("saved")
    model = timm.create_model("mocse_preact18", expert_width=0.0625, num_classes=2)
    config = {"label_names": ["cat", "dog"], "mocse_timm": {"recipe": "standard"}}
    save_for_hf(model, str(folder), model_config=config, safe_serialization=True)
    return json.loads((folder / "config.json").read_text())


def read(folder: Path, text: bytes | str | dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(text) if isinstance(text, dict) else text
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(folder)


def test_a_saved_config_is_returned_as_it_is(good: dict[str, Any], tmp_path: Path) -> None:
    assert read(tmp_path, good) == good


def test_timm_s_first_format_is_read(tmp_path: Path) -> None:
    old = {"architecture": "resnet18", "num_classes": 2, "labels": ["cat", "dog"], "mean": [0.5], "num_features": 512}
    assert read(tmp_path, old) == old
    with pytest.raises(BadInput, match="it has an unknown 'model_args'"):
        read(tmp_path, old | {"model_args": {}})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b'{"architecture": "\xff"}', "it is not UTF-8 text"),
        ('{"architecture": "resnet18"}'.encode("utf-16"), "it is not UTF-8 text"),
        (b'\xef\xbb\xbf{"architecture": "resnet18"}', "it is not JSON"),
        (b'{"architecture": "resnet18", "architecture": "resnet34"}', "it names 'architecture' twice"),
        (b'{"architecture": "resnet18", "mean": [NaN]}', "it holds the number NaN"),
        (b'{"architecture": "resnet18", "mean": [-Infinity]}', "it holds the number -Infinity"),
        (b'{"architecture": "resnet18", "mean": [1e999]}', "it holds the number 1e999"),
        (b'{"architecture": "resnet18", "num_classes": 1' + b"0" * 5000 + b"}", "it holds the number 1000"),
        (b'{"architecture": "resnet18", "notes": "\\ud800"}', "it holds half a character"),
        (b"[" * 100_000, "nested more than 32 deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested more than 32 deep"),
        (b" " * (8 * 2**20 + 1), "it has 8388609 bytes, 8388608 are the most"),
        (b"[]", "names no architecture"),
        (b'"resnet18"', "names no architecture"),
        (b'{"architecture": 18}', "names no architecture"),
        (
            b'{"architecture": "resnet81"}',
            r"'resnet81', which is not registered .did you mean 'resnet18'.*; import the pa",
        ),
        (b'{"architecture": "local-dir:/etc"}', "which is not registered"),
    ],
)
def test_text_that_is_no_config_is_refused(text: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=sentence):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("part", "values", "sentence"),
    [
        ("model_args", {"bogus": 1}, "model_args has an unknown 'bogus'"),
        ("model_args", {"expert_widht": 1}, "unknown 'expert_widht' .did you mean 'expert_width'"),
        (
            "model_args",
            {"num_classes": "2"},
            "model_args.num_classes must be a whole number from 0 to 100000 or null, got",
        ),
        ("model_args", {"num_classes": True}, "model_args.num_classes must be"),
        ("model_args", {"num_classes": 10**9}, "model_args.num_classes must be"),
        ("model_args", {"num_classes": 3}, "num_classes is 2, but 3 in model_args"),
        ("model_args", {"expert_width": -1}, r"expert_width must be a number above 0, up to 64 or null, got -1"),
        ("model_args", {"expert_width": 1e6}, "model_args.expert_width must be"),
        ("model_args", {"num_experts": 0}, "model_args.num_experts must be a whole number from 1 to 65536"),
        ("model_args", {"img_size": 10**5}, "model_args.img_size must be a whole number from 1 to 2048 or a list of 2"),
        ("model_args", {"backbone_args": [1]}, "model_args.backbone_args must be a group of values"),
        ("model_args", {"depths": 1}, "model_args.depths must be a list of 1 to 16 values, each a whole number"),
        (
            "model_args",
            {"checkpoint_path": "../x.pth"},
            "model_args.checkpoint_path is '../x.pth', but weights come from",
        ),
        ("model_args", {"backbone_pretrained": True}, "model_args.backbone_pretrained is True, but weights come from"),
        (
            "model_args",
            {"backbone_args": {"checkpoint_path": "x.pth"}},
            "backbone_args.checkpoint_path is 'x.pth', but",
        ),
        ("model_args", {"backbone_args": {"backbone_args": {"pretrained": 1}}}, "backbone_args.pretrained is 1, but"),
        (
            "model_args",
            {"backbone_args": {"layer": "/etc/passwd"}},
            "backbone_args.layer must be a short text that is no",
        ),
        (
            "model_args",
            {"backbone_args": {"depths": [1e9]}},
            "model_args.backbone_args.depths must be a number from -1",
        ),
        ("model_args", {"backbone_args": {"window_size": 8192}}, "model_args.backbone_args.window_size must be"),
        ("model_args", {"backbone_args": {"img_size": [9999, 1]}}, "model_args.backbone_args.img_size must be"),
        ("model_args", {"backbone_args": {"a": [0] * 257}}, "the length of model_args.backbone_args.a must be"),
        ("pretrained_cfg", {"bogus": 1}, "pretrained_cfg has an unknown 'bogus'"),
        (
            "pretrained_cfg",
            {"file": "/etc/passwd"},
            "pretrained_cfg.file is '/etc/passwd', but weights come from the folder",
        ),
        (
            "pretrained_cfg",
            {"url": "https://x.org/y.pth"},
            "pretrained_cfg.url is 'https://x.org/y.pth', but weights come",
        ),
        (
            "pretrained_cfg",
            {"hf_hub_id": "else/where"},
            "pretrained_cfg.hf_hub_id is 'else/where', but weights come from",
        ),
        ("pretrained_cfg", {"hf_hub_filename": "x.bin"}, "pretrained_cfg.hf_hub_filename is 'x.bin', but"),
        ("pretrained_cfg", {"state_dict": {"a": 1}}, "pretrained_cfg.state_dict is {'a': 1}, but weights come from"),
        ("pretrained_cfg", {"custom_load": "hf"}, "pretrained_cfg.custom_load is 'hf', but weights come from"),
        ("pretrained_cfg", {"source": "url"}, "pretrained_cfg.source is 'url', but weights come from"),
        ("pretrained_cfg", {"input_size": [3, 32]}, "pretrained_cfg.input_size must be three whole numbers"),
        ("pretrained_cfg", {"input_size": [3, 10**6, 1]}, "pretrained_cfg.input_size must be three whole numbers"),
        (
            "pretrained_cfg",
            {"std": [0, 0, 0]},
            "pretrained_cfg.std must be a list of 1 to 65536 values, each a number above",
        ),
        ("pretrained_cfg", {"label_names": ["a\u001b[2J"]}, "pretrained_cfg.label_names must be"),
        ("pretrained_cfg", {"label_names": [1]}, "pretrained_cfg.label_names must be"),
    ],
)
def test_values_that_no_model_has_are_named(
    part: str, values: dict[str, Any], sentence: str, good: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=f"config.json describes no model that can be opened: .*{sentence}"):
        read(tmp_path, good | {part: good[part] | values})


@pytest.mark.parametrize(
    ("name", "value"),
    [("model_args", []), ("pretrained_cfg", None), ("mocse_timm", "x"), ("num_classes", -1), ("label_names", {"0": 1})],
)
def test_parts_of_another_kind_are_named(name: str, value: Any, good: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"{name} must be"):
        read(tmp_path, good | {name: value})


def test_a_model_of_timm_is_checked_as_far_as_its_arguments_are_known(good: dict[str, Any], tmp_path: Path) -> None:
    other = {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 224, 224]}}
    assert read(tmp_path, other | {"model_args": {"stem_width": 32, "act_layer": "gelu", "layers": [1, 1, 1, 1]}})
    for arguments in (
        {"checkpoint_path": "x.pth"},
        {"num_classes": 10**9},
        {"norm_layer": "a/b"},
        {"layers": [10**6]},
        {"in_chans": "x"},
    ):
        with pytest.raises(BadInput, match=f"model_args.{next(iter(arguments))}"):
            read(tmp_path, other | {"model_args": arguments})


def test_every_cfg_of_timm_and_of_ours_can_be_read() -> None:
    for name in timm.list_models():
        cfg = timm.get_pretrained_cfg(name)
        if cfg is not None:
            check_facts(json.loads(json.dumps(cfg.to_dict(remove_source=True))) | {"custom_load": False})


def test_all_that_timm_knows_as_a_source_of_weights_is_refused() -> None:
    """A field that comes into timm anew must be looked at: does it lead away from the folder?"""
    plain = {"description", "license", "notes", "origin_url", "paper_ids", "paper_name"}
    assert {field.name for field in dataclasses.fields(PretrainedCfg)} - FETCHING <= FACTS.keys() | plain


def test_every_argument_of_our_models_has_a_kind() -> None:
    """By what their constructors take, but for where weights come from and where a model is built."""
    classes = (Mixture, MoCSE, Ensemble, AdvMoE, CifarNet, CifarPreAct, CifarResNet, CifarVGG, CifarDenseNet)
    taken = {name for kind in classes for name in inspect.signature(kind).parameters}
    built_by_them = {"stem", "stages", "norm", "feature_info", "outputs"}
    assert taken - built_by_them - {"backbone_pretrained", "device", "dtype", "kwargs", "networks"} == ARGUMENTS.keys()


def test_ours_are_those_this_package_registers() -> None:
    assert is_ours("mocse_preact18") and is_ours("cifar_vgg16_bn") and is_ours("advmoe")
    assert not is_ours("resnet18") and not is_ours("nothing")
