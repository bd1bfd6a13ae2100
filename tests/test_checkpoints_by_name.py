"""Models by name: the right weights, or one sentence. The Hub is tests/hub_server.py's."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hub_server import HubServer, client_of, hub_server
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn

from mocse_timm.checkpoints.by_name import load_model, run_folder
from mocse_timm.checks import BadInput

THIN: dict[str, Any] = {"width": 0.125}


def save(model: nn.Module, folder: Path) -> Path:
    save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def logits(model: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    return timm.create_model("cifar_preact18", **THIN)


@pytest.fixture(scope="module")
def mixture() -> nn.Module:
    return timm.create_model("mocse_preact18", expert_width=0.125, num_classes=3)


@pytest.fixture
def run(dense: nn.Module, tmp_path: Path) -> Path:
    return save(dense, tmp_path / "run")


def edit_config(run: Path, **changes: Any) -> None:
    file = run / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def become_pickle(run: Path) -> None:
    weights = run / "model.safetensors"
    torch.save(load_file(weights), run / "pytorch_model.bin")
    weights.unlink()


def change_tensor(run: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(run / "model.safetensors")
    del tensors[name]
    save_file(tensors if tensor is None else tensors | {name: tensor}, run / "model.safetensors")


def test_run_folder_by_path_and_by_timm_s_prefix(dense: nn.Module, run: Path) -> None:
    for name in (str(run), f"local-dir:{run}"):
        assert torch.equal(logits(load_model(name)), logits(dense))


def test_mixture_reloads_with_its_options(mixture: nn.Module, tmp_path: Path) -> None:
    assert torch.equal(logits(load_model(str(save(mixture, tmp_path / "run")))), logits(mixture))


def test_registered_name_with_a_checkpoint(dense: nn.Module, run: Path) -> None:
    model = load_model("cifar_preact18", checkpoint=run / "model.safetensors", model_kwargs=THIN)
    assert torch.equal(logits(model), logits(dense))


def test_checkpoint_takes_the_place_of_the_folder_s_weights(run: Path, tmp_path: Path) -> None:
    other = timm.create_model("cifar_preact18", **THIN)
    file = save(other, tmp_path / "other") / "model.safetensors"
    (run / "model.safetensors").unlink()
    assert torch.equal(logits(load_model(str(run), checkpoint=file)), logits(other))


def test_folder_here_wins_over_a_registered_model_of_its_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    run.rename("resnet18")
    assert run_folder("resnet18") == Path("resnet18")
    assert run_folder("resnet34") is None
    assert run_folder("hf-hub:timm/resnet18") is None


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        client_of(server, tmp_path, monkeypatch)
        yield server


def contents(run: Path, *names: str) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in names}


def test_hub_repository_is_its_safetensors(dense: nn.Module, run: Path, hub: HubServer) -> None:
    commit = hub.add("me/mine", contents(run, "config.json", "model.safetensors"))
    hub.repositories["me/mine"].branches["v1"] = commit
    hub.add("me/mine", {"config.json": b"{}", "model.safetensors": b"a later one"})
    assert torch.equal(logits(load_model("hf-hub:me/mine@v1")), logits(dense))


def test_checkpoint_takes_the_place_of_a_repository_s_weights(run: Path, hub: HubServer) -> None:
    hub.add("me/mine", contents(run, "config.json"))
    other = timm.create_model("cifar_preact18", **THIN)
    file = save(other, run.parent / "other") / "model.safetensors"
    assert torch.equal(logits(load_model("hf-hub:me/mine", checkpoint=file)), logits(other))


def test_published_weights_of_a_registered_name_come_from_its_repository(hub: HubServer, tmp_path: Path) -> None:
    model = timm.create_model("test_vit")
    run = save(model, tmp_path / "run")
    hub.add("timm/test_vit.r160_in1k", contents(run, "config.json", "model.safetensors"))
    loaded = load_model("test_vit", pretrained=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    with pytest.raises(BadInput, match="'timm/resnet18.a1_in1k'"):
        load_model("resnet18", pretrained=True)


def test_hub_repository_without_safetensors_is_refused(run: Path, hub: HubServer) -> None:
    hub.add("me/mine", contents(run, "config.json"))
    with pytest.raises(BadInput, match="'me/mine' has no model.safetensors"):
        load_model("hf-hub:me/mine")
    hub.add("me/mine", {"pytorch_model.bin": b"a pickle"})
    with pytest.raises(BadInput, match="only the pickle pytorch_model.bin"):
        load_model("hf-hub:me/mine")
    assert not hub.count("GET /me/mine/resolve/main/pytorch_model.bin")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("resnet18", {}, "would have random weights; add --checkpoint FILE or --pretrained"),
        ("cifar_preact81", {}, "unknown model 'cifar_preact81' .did you mean 'cifar_preact18'"),
        ("cifar_preact18", {"pretrained": True}, "has no published weights"),
        ("resnet18.nonsense", {"pretrained": True}, "Invalid pretrained tag .nonsense."),
        ("runs/never", {}, "model folder 'runs/never' does not exist"),
        ("local-dir:never", {}, "model folder 'never' does not exist"),
        ("cifar_preact18", {"checkpoint": "weights.pth"}, "checkpoint weights.pth is a pickle"),
        ("cifar_preact18", {"checkpoint": "never.safetensors"}, "checkpoint never.safetensors does not exist"),
        (
            "cifar_preact18",
            {"checkpoint": "never.safetensors", "model_kwargs": {"widht": 1}},
            "cannot build the model 'cifar_preact18': .*'widht'",
        ),
        ("hf-hub:no/such/repository", {}, "is not the name of a Hub repository: write user/name"),
    ],
)
def test_names_that_lead_to_no_weights_are_refused(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        load_model(name, **options)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda run: (run / "config.json").unlink(), "has no config.json"),
        (lambda run: (run / "config.json").write_text("{"), "config.json cannot be used: it is not JSON"),
        (lambda run: (run / "config.json").write_text("[]"), "names no architecture"),
        (
            lambda run: edit_config(run, architecture="cifar_preact17"),
            "'cifar_preact17', which is not registered .did you mean",
        ),
        (lambda run: edit_config(run, model_args={"bogus": 1}), "model_args has an unknown 'bogus'"),
        (lambda run: edit_config(run, model_args={"growth": 1}), "cannot build the model .*'growth'"),
        (lambda run: edit_config(run, model_args={}), r"tensor stem.weight is \(8, 3, 3, 3\) in the checkpoint and"),
        (lambda run: (run / "model.safetensors").unlink(), "has no model.safetensors; give"),
        (lambda run: (run / "model.safetensors").write_bytes(b"torn"), "is not a safetensors file"),
        (become_pickle, "only the pickle pytorch_model.bin, which could run code"),
        (lambda run: change_tensor(run, "stem.weight", None), "lacks the model's tensor stem.weight"),
    ],
)
def test_spoiled_folders_are_refused(spoil: Any, sentence: str, run: Path) -> None:
    spoil(run)
    with pytest.raises(BadInput, match=sentence):
        load_model(str(run))


def test_a_pickle_is_never_opened(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become_pickle(run)
    shutil.copy(run / "pytorch_model.bin", run / "weights.pth")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    for checkpoint in (None, run / "weights.pth"):
        with pytest.raises(BadInput, match="pickle"):
            load_model(str(run), checkpoint=checkpoint)


def test_wrong_class_counts_are_named(run: Path, mixture: nn.Module, tmp_path: Path) -> None:
    file = run / "model.safetensors"
    with pytest.raises(BadInput, match="the checkpoint has 10 classes, the model 100; build the model with"):
        load_model("cifar_preact18", checkpoint=file, model_kwargs=THIN, num_classes=100)
    with pytest.raises(BadInput, match="run has 10 classes, the model 100; leave out"):
        load_model(str(run), num_classes=100)
    file = save(mixture, tmp_path / "mixture") / "model.safetensors"
    with pytest.raises(BadInput, match="the checkpoint has 3 classes, the model 5"):
        load_model("mocse_preact18", checkpoint=file, model_kwargs={"expert_width": 0.125, "num_classes": 5})


def test_a_class_count_that_the_run_does_not_confirm_is_refused(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    for part in (config, config["model_args"], config["pretrained_cfg"]):
        del part["num_classes"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="has an unknown number of classes, the model 100; leave out"):
        load_model(str(run), num_classes=100)


def test_mixtures_are_scored_with_the_tensors_that_were_saved(mixture: nn.Module, tmp_path: Path) -> None:
    run = save(mixture, tmp_path / "run")
    assert load_model(str(run), model_kwargs={"drop_rate": 0.5})
    with pytest.raises(
        BadInput, match="does not fit the model asked for: tensor .*stem.weight.*; leave out the options"
    ):
        load_model(str(run), model_kwargs={"in_chans": 1})


def test_experts_are_never_repeated_to_fill_a_larger_mixture(mixture: nn.Module, tmp_path: Path) -> None:
    """The model's own loader does so, for fine-tuning; scores of such a model would mean nothing."""
    run = save(mixture, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    edit_config(run, num_classes=5, model_args=config["model_args"] | {"num_classes": 5})
    with pytest.raises(BadInput, match="the checkpoint has 3 classes, the model 5"):
        load_model(str(run))


@pytest.mark.parametrize("name", ["stem.weight", "head.fc.bias"])
def test_every_other_misfit_names_its_first_tensor(name: str, run: Path) -> None:
    change_tensor(run, name, torch.zeros(4))
    with pytest.raises(BadInput, match=rf"tensor {name} is \(4,\) in the checkpoint and \("):
        load_model("cifar_preact18", checkpoint=run / "model.safetensors", model_kwargs=THIN)
    change_tensor(run, name, None)
    with pytest.raises(BadInput, match=f"lacks the model's tensor {name}"):
        load_model("cifar_preact18", checkpoint=run / "model.safetensors", model_kwargs=THIN)


def test_tensors_left_over_are_named(run: Path) -> None:
    tensors = load_file(run / "model.safetensors")
    save_file(tensors | {"router.weight": torch.zeros(2)}, run / "model.safetensors")
    with pytest.raises(BadInput, match=r"has a tensor router.weight \(2,\) that the model lacks"):
        load_model("cifar_preact18", checkpoint=run / "model.safetensors", model_kwargs=THIN)
