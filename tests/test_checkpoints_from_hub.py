"""A published model through the real huggingface_hub client, from tests/hub_server.py's Hub and from the cache."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hub_server import HubServer, client_of, hub_server
from huggingface_hub import constants

import mocse_timm
from mocse_timm.checks import BadInput
from mocse_timm.models.saving import save_model

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        client_of(server, tmp_path, monkeypatch)
        yield server


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, bytes]]:
    """A small mixture, and the files of its repository."""
    folder = tmp_path_factory.mktemp("run")
    model: Any = timm.create_model("mocse_preact18", expert_width=0.0625, num_classes=3).eval()
    save_model(model, folder)
    return model, {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}


def test_a_published_model_is_the_one_that_was_saved(published: Any, hub: HubServer) -> None:
    model, files = published
    hub.add("alice/model", files)
    opened = mocse_timm.from_hub("alice/model").eval()
    by_timm = timm.create_model("hf-hub:alice/model", pretrained=True).eval()
    assert torch.equal(opened(IMAGES), model(IMAGES))
    assert torch.equal(by_timm(IMAGES), model(IMAGES))


def test_a_revision_is_that_one(published: Any, hub: HubServer) -> None:
    model, files = published
    hub.repositories["alice/model"].branches["v1"] = hub.add("alice/model", files)
    hub.add("alice/model", {"config.json": b"{}"})
    for arguments in (("alice/model@v1", {}), ("alice/model", {"revision": "v1"})):
        opened = mocse_timm.from_hub(arguments[0], **arguments[1]).eval()
        assert torch.equal(opened(IMAGES), model(IMAGES))
    with pytest.raises(BadInput, match="names no architecture"):
        mocse_timm.from_hub("alice/model")


def test_the_cache_answers_without_a_network(published: Any, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    model, files = published
    hub.add("alice/model", files)
    mocse_timm.from_hub("alice/model")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(mocse_timm.from_hub("alice/model").eval()(IMAGES), model(IMAGES))
    assert hub.requests == []


def test_options_adapt_it(published: Any, hub: HubServer) -> None:
    model, files = published
    hub.add("alice/model", files)
    adapted: Any = mocse_timm.from_hub("alice/model", num_classes=5, in_chans=1)
    assert adapted(IMAGES[:, :1]).shape == (2, 5)
    name = "stages.0.0.conv1.weight"  # of the first expert, which is also the fourth
    for expert in (0, 3):
        assert torch.equal(adapted.state_dict()[f"experts.{expert}.{name}"], model.state_dict()[f"experts.0.{name}"])
    maps = mocse_timm.from_hub("alice/model", features_only=True).eval()(IMAGES)
    assert [each.shape[-1] for each in maps] == [32, 16, 8, 4]
    assert torch.equal(maps[-1], model.forward_intermediates(IMAGES, indices=1, intermediates_only=True)[0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"architecture": "resnet18"},
            r"holds 'resnet18', which is no model of mocse_timm; load it with timm.create_m",
        ),
        (
            {"architecture": "mocse_preact81"},
            "'mocse_preact81', which is not registered .did you mean 'mocse_preact18'",
        ),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "checkpoint_path is '/etc/passwd', but weights come from"),
        ({"model_args": {"num_experts": 10**9}}, "num_experts must be a whole number from 1"),
    ],
)
def test_no_weights_are_fetched_for_a_config_that_is_refused(
    change: dict[str, Any], sentence: str, published: Any, hub: HubServer
) -> None:
    files = published[1]
    config = json.loads(files["config.json"])
    if "architecture" in change:
        config = {"pretrained_cfg": {}}
    hub.add("alice/model", files | {"config.json": json.dumps(config | change).encode()})
    with pytest.raises(BadInput, match=sentence):
        mocse_timm.from_hub("alice/model")
    assert not [request for request in hub.requests if "safetensors" in request or "/cdn/" in request]


def test_a_repository_of_pickles_is_refused_unopened(published: Any, hub: HubServer) -> None:
    hub.add("alice/model", {"config.json": published[1]["config.json"], "pytorch_model.bin": b"a pickle"})
    with pytest.raises(BadInput, match="has no model.safetensors, only the pickle pytorch_model.bin"):
        mocse_timm.from_hub("alice/model")
    assert not [request for request in hub.requests if ".bin" in request]


def test_importing_the_package_imports_only_the_models_and_the_rest_when_it_is_named() -> None:
    code = """
import sys, mocse_timm
assert "mocse_timm.checkpoints" not in sys.modules and "from_hub" in dir(mocse_timm)
assert mocse_timm.from_hub.__name__ == "from_hub" and not hasattr(mocse_timm, "from_hubb")
rest = ["mocse_timm." + part for part in ("attacks", "corruptions", "losses")]
assert not set(rest) & set(sys.modules)
assert [mocse_timm.attacks.__name__, mocse_timm.corruptions.__name__, mocse_timm.losses.__name__] == rest
assert mocse_timm.losses.multi_label_loss and "losses" in dir(mocse_timm)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
