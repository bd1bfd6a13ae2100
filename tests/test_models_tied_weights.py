import copy
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mocse_timm.models.tied_weights import save_tied_weights_once


def tied() -> nn.Sequential:
    """Two layers that are one, and one of its own."""
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, layer, nn.Linear(2, 2))
    save_tied_weights_once(model)
    return model


def test_tied_weights_are_saved_once_and_loaded_everywhere(tmp_path: Path) -> None:
    model, other = tied(), tied()
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    images = torch.rand(3, 2)
    assert torch.equal(other(images), model(images))
    assert other[0] is other[1]


def test_it_holds_inside_another_module_and_for_copies() -> None:
    wrapper = copy.deepcopy(nn.ModuleDict({"inner": tied()}))
    assert list(wrapper.state_dict()) == ["inner.0.weight", "inner.0.bias", "inner.2.weight", "inner.2.bias"]
    wrapper.load_state_dict(wrapper.state_dict(), strict=True)


def test_weights_that_are_missing_stay_missing() -> None:
    model = tied()
    result = model.load_state_dict({}, strict=False)
    assert "1.weight" in result.missing_keys
