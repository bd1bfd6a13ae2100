"""The two files of a saved model: whole, readable, and timm's."""

import json
import stat
from pathlib import Path

import pytest
import timm
import torch

import mocse_timm.models.saving as saving


def test_folder_holds_two_readable_files_and_facts_timm_passes_over(tmp_path: Path) -> None:
    model = timm.create_model("cifar_preact18", width=0.125).eval()
    saving.save_model(model, tmp_path, facts={"seed": 3}, class_names=[f"class {i}" for i in range(10)])
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "config.json"}
    assert len({stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}) == 1
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["mocse_timm"] == {"seed": 3}
    assert config["label_names"][9] == "class 9"
    images = torch.rand(2, 3, 32, 32)
    reloaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(reloaded(images), model(images), rtol=0, atol=0)


def test_a_failed_save_leaves_the_last_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = timm.create_model("cifar_preact18", width=0.125)
    saving.save_model(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(saving, "save_for_hf", full_disk)
    with pytest.raises(OSError, match="no space left"):
        saving.save_model(timm.create_model("cifar_preact18", width=0.25), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
