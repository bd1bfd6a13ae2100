import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from timm.models import save_for_hf

import mocse_timm.models  # noqa: F401  (registers the models)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense network of 8 channels with 7 classes, saved."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("source")
    save_for_hf(timm.create_model("cifar_preact18", width=0.125, num_classes=7), str(folder), safe_serialization=True)
    return folder


def experts_from(source: Path | str, **arguments: Any) -> Any:
    defaults = {"num_classes": 3, "expert_width": 0.125, "backbone_pretrained": f"local-dir:{source}"}
    return timm.create_model("mocse", **(defaults | arguments))


def test_every_expert_starts_from_the_bodys_weights(source: Path) -> None:
    model = experts_from(source)
    dense = timm.create_model(f"local-dir:{source}", pretrained=True).state_dict()
    for expert in model.experts:
        for key, value in expert.state_dict().items():
            if not key.startswith("head.fc"):
                assert torch.equal(value, dense[key]), key
    assert not torch.equal(model.experts[0].head.fc.weight, model.experts[1].head.fc.weight)


def test_shared_stages_start_from_them_too(source: Path) -> None:
    model = experts_from(source, width=0.125, shared_stages=3)
    dense = timm.create_model(f"local-dir:{source}", pretrained=True).state_dict()
    assert torch.equal(model.trunk.stem.weight, dense["stem.weight"])
    assert torch.equal(model.experts[2].stages[3][0].conv1.weight, dense["stages.3.0.conv1.weight"])


def test_a_reload_does_not_ask_for_them_again(source: Path, tmp_path: Path) -> None:
    model = experts_from(source)
    assert "backbone_pretrained" not in model._model_args
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_args"]["expert_width"] == 0.125
    assert "backbone_pretrained" not in json.dumps(config)


def test_weights_of_another_width_are_refused(source: Path) -> None:
    with pytest.raises(ValueError, match="weights of 'local-dir:.*' do not fit the experts, first at 'stages.3"):
        experts_from(source, width=0.125, expert_width=0.25, shared_stages=3)


def test_weights_of_another_architecture_are_refused(source: Path) -> None:
    with pytest.raises(ValueError, match="do not fit the experts, first at"):
        experts_from(source, backbone="cifar_resnet18")


def test_other_normalisation_is_refused(tmp_path: Path) -> None:
    half = timm.create_model("cifar_preact18", width=0.125, input_mean=(0.5, 0.5, 0.5))
    save_for_hf(half, str(tmp_path), safe_serialization=True)
    with pytest.raises(
        ValueError, match=r"wants images normalised with mean \[0.5, 0.5, 0.5\], the experts with \[0.49"
    ):
        experts_from(tmp_path)
    model = experts_from(tmp_path, backbone_args={"input_mean": (0.5, 0.5, 0.5)})
    assert model.trunk.normalize.mean.flatten().tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", ["mocse_preact18", "advmoe_resnet18"])
@pytest.mark.parametrize("source", [True, "nope", "local-dir:/nope", "hf-hub:nope/nope"])
def test_a_source_without_weights_is_refused_by_its_own_argument(
    name: str, source: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    named = (
        {"mocse_preact18": "cifar_preact18", "advmoe_resnet18": "cifar_resnet18"}[name] if source is True else source
    )
    with pytest.raises(ValueError, match=f"backbone_pretrained: '{named}' cannot be loaded .*; name a timm model"):
        timm.create_model(name, num_classes=3, backbone_pretrained=source)


@pytest.mark.parametrize("license", ["cc-by-nc-4.0", None])
@pytest.mark.parametrize(("name", "backbone"), [("mocse", "cifar_preact18"), ("advmoe", "cifar_resnet18")])
def test_the_licence_of_the_first_weights_goes_along(
    name: str, backbone: str, license: str | None, tmp_path: Path
) -> None:
    first: Any = timm.create_model(backbone, width=0.125)
    first.pretrained_cfg["license"] = license
    save_for_hf(first, str(tmp_path), safe_serialization=True)
    options: dict[str, Any] = {"width" if name == "advmoe" else "expert_width": 0.125}
    model: Any = timm.create_model(name, num_classes=3, backbone_pretrained=f"local-dir:{tmp_path}", **options)
    assert model.pretrained_cfg.get("license") == license
    again = tmp_path / "again"
    again.mkdir()
    save_for_hf(model, str(again), safe_serialization=True)
    loaded: Any = timm.create_model(f"local-dir:{again}", pretrained=True)
    assert loaded.pretrained_cfg.get("license") == license


@pytest.mark.parametrize("prefix", ["local-dir:", "Local-Dir:"])
def test_a_folder_that_holds_only_a_pickle_is_refused(source: Path, prefix: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    dense = timm.create_model(f"local-dir:{source}", pretrained=True)
    torch.save(dense.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds no model.safetensors, and pickles are not read"):
        experts_from(source, backbone_pretrained=f"{prefix}{tmp_path}")
