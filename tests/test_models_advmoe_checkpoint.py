"""Weights in the layout of the authors' code, written out here from a network of ours."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from routers import bright_and_dark
from timm.models import load_checkpoint
from torch import Tensor

from mocse_timm.models.advmoe_checkpoint import checkpoint_filter_fn
from mocse_timm.models.saving import save_model

IMAGES = bright_and_dark(4)


def authors_names(model: Any, prefix: str = "") -> dict[str, Tensor]:
    """Return the weights of an ``advmoe_resnet18`` as the authors' code would save them, router copies included."""
    state: dict[str, Tensor] = {}
    renamed = {"stem.conv": "conv1", "stem.bn": "bn1", "head.fc": "linear"}
    for key, value in model.body.state_dict().items():
        owner, _, leaf = key.rpartition(".")
        if owner.startswith("stages."):
            _, stage, block, *rest = owner.split(".")
            owner = ".".join([f"layer{int(stage) + 1}", block, *rest]).replace("downsample", "shortcut")
        state[f"{prefix}{renamed.get(owner, owner)}.{leaf}"] = value
    for name in model.expert_layers:
        _, stage, block, conv = name.split(".")
        state |= {
            f"{prefix}layer{int(stage) + 1}.{block}.{conv}.router.{k}": v for k, v in model.router.state_dict().items()
        }
    return state | {f"{prefix}router.{key}": value for key, value in model.router.state_dict().items()}


@pytest.fixture
def source() -> Any:
    torch.manual_seed(0)
    return timm.create_model("advmoe_resnet18", width=0.125, normalize=False).eval()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_loading_gives_the_same_logits_without_normalisation(source: Any, prefix: str, tmp_path: Path) -> None:
    state = authors_names(source, prefix)
    assert sum(".router." in key for key in state) > 1000
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    model: Any = timm.create_model("advmoe_resnet18", width=0.125).eval()
    assert not torch.equal(model(IMAGES), source(IMAGES))
    load_checkpoint(model, str(tmp_path / "theirs.pth"), filter_fn=checkpoint_filter_fn)
    assert torch.equal(model(IMAGES), source(IMAGES))

    (tmp_path / "ours").mkdir()
    save_model(model, tmp_path / "ours")  # that it does not normalise is remembered
    again: Any = timm.create_model(f"local-dir:{tmp_path / 'ours'}", pretrained=True).eval()
    assert torch.equal(again(IMAGES), source(IMAGES))


def test_timms_overlay_loads_it_too(source: Any, tmp_path: Path) -> None:
    torch.save(authors_names(source), tmp_path / "theirs.pth")
    model: Any = timm.create_model(
        "advmoe_resnet18",
        pretrained=True,
        width=0.125,
        pretrained_cfg_overlay={"file": str(tmp_path / "theirs.pth"), "num_classes": 10},
    ).eval()
    assert torch.equal(model(IMAGES), source(IMAGES))


def test_our_own_weights_pass_through(source: Any) -> None:
    state = source.state_dict()
    model: Any = timm.create_model("advmoe_resnet18", width=0.125)
    assert checkpoint_filter_fn(state, model) is state
    assert model.normalize.mean.numel() == 3  # still there
