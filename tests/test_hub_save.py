"""``save``: the run's bytes under a new name, proved by logits, or nothing at all."""

import json
from pathlib import Path

import pytest
import timm
import torch
from hub_runs import corrupted, edit_json, make_run, make_weights
from safetensors.torch import load_file, save_file

import mocse_timm.hub.same_logits as same_logits
import mocse_timm.hub.save as save
from mocse_timm.checkpoints.config_json import read_config
from mocse_timm.checks import BadInput
from mocse_timm.hub.same_logits import logits_of, open_on_file, probe, same_bits
from mocse_timm.models.saving import save_model

DENSE = "cifar_preact18"


def test_the_saved_folder_holds_the_run_and_loads_by_timm_alone(tmp_path: Path) -> None:
    run = make_weights(tmp_path / "run", DENSE)
    out = save.save_run(run, tmp_path / "new" / "out")
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "config.json"}
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert json.loads((out / "config.json").read_text()) == json.loads((run / "config.json").read_text())
    images = torch.rand(2, 3, 32, 32)
    ours, theirs = (timm.create_model(f"local-dir:{path}", pretrained=True).eval() for path in (run, out))
    torch.testing.assert_close(theirs(images), ours(images), rtol=0, atol=0)
    assert {path.name for path in out.parent.iterdir()} == {"out"}


def test_the_main_scores_come_along_under_a_key_that_timm_passes_over(tmp_path: Path) -> None:
    scores = corrupted(mixture=True)
    out = save.save_run(make_run(tmp_path / "run", DENSE, corruptions=scores), tmp_path / "out")
    told = json.loads((out / "config.json").read_text())["mocse_timm"]
    assert told["scores"]["top1"] == 85.6149
    assert told["scores"]["corrupted_15_top1"] == pytest.approx(float(scores.top1[:15].mean()), abs=1e-4)
    assert told["scores"]["corrupted_19_top1"] == pytest.approx(float(scores.top1.mean()), abs=1e-4)
    assert (told["seed"], told["recipe"]) == (3, "standard")
    assert (out / "results.json").read_bytes() == (tmp_path / "run" / "results.json").read_bytes()


def test_the_copy_is_a_file_of_its_own(tmp_path: Path) -> None:
    run = make_weights(tmp_path / "run", DENSE)
    out = save.save_run(run, tmp_path / "out")
    before = (out / "model.safetensors").read_bytes()
    with (run / "model.safetensors").open("r+b") as file:
        file.seek(-64, 2)
        file.write(bytes(64))
    assert (out / "model.safetensors").read_bytes() == before


def test_an_empty_folder_may_be_saved_into_and_no_other(tmp_path: Path) -> None:
    run, out = make_weights(tmp_path / "run", DENSE), tmp_path / "out"
    out.mkdir()
    save.save_run(run, out)
    with pytest.raises(BadInput, match="not empty"):
        save.save_run(run, out)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file"):
        save.save_run(run, tmp_path / "file")


def test_results_of_other_weights_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", DENSE)
    edit_json(run / "results.json", "computation", "weights_sha256", value="0" * 64)
    with pytest.raises(BadInput, match="scored other weights"):
        save.save_run(run, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_copy_that_went_wrong_is_found_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_weights(tmp_path / "run", DENSE)

    def flip_a_bit(source: Path, target: Path) -> None:
        content = bytearray(source.read_bytes())
        content[-2] ^= 1  # in the last tensor's last number
        target.write_bytes(content)

    monkeypatch.setattr(save.shutil, "copyfile", flip_a_bit)
    with pytest.raises(BadInput, match="does not give the same logits"):
        save.save_run(run, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_full_disk_is_one_sentence_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save.shutil, "copyfile", full)
    with pytest.raises(BadInput, match="No space left"):
        save.save_run(make_weights(tmp_path / "run", DENSE), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mocse_preact18_shared", {"width": 0.125, "expert_width": 0.0625}),
        ("advmoe_resnet18", {"width": 0.125}),
        ("cifar_densenet", {"width": 0.5}),
        ("advmoe", {"backbone": "test_resnet"}),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "num_classes": 10}),
    ],
)
def test_a_model_on_the_mapped_file_is_the_one_in_memory(tmp_path: Path, name: str, options: dict) -> None:
    torch.manual_seed(1)
    save_model(timm.create_model(name, **options), tmp_path)
    usual = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    mapped = open_on_file(tmp_path)
    theirs = dict([*usual.named_parameters(), *usual.named_buffers()])
    for key, tensor in [*mapped.named_parameters(), *mapped.named_buffers()]:
        assert same_bits(tensor.detach(), theirs.pop(key).detach()), key
    assert not theirs
    with torch.inference_mode():  # a file's tensors lie at other addresses than memory's, which moves the last bit
        torch.testing.assert_close(
            logits_of(tmp_path), usual(probe(usual, read_config(tmp_path))), rtol=1e-4, atol=1e-4
        )


def test_no_copy_of_the_weights_is_made_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, mapped = make_weights(tmp_path / "run", DENSE), []
    monkeypatch.setattr(same_logits, "load_file", lambda file: mapped.append(load_file(file)) or mapped[0])
    model = open_on_file(run)
    assert {key: tensor.data_ptr() for key, tensor in model.state_dict().items()} == {
        key: tensor.data_ptr() for key, tensor in mapped[0].items()
    }


def test_the_probe_meets_every_tap_of_every_filter(tmp_path: Path) -> None:
    """Change any weight of a 3x3 filter in the last stage, and the logits change."""
    run = make_weights(tmp_path / "run", DENSE)
    before, tensors = logits_of(run), load_file(run / "model.safetensors")
    inside_out = reversed([name for name, _ in open_on_file(run).named_parameters()])
    name = next(name for name in inside_out if tensors[name].shape[-2:] == (3, 3))
    for row in range(3):
        for column in range(3):
            changed = {key: tensor.clone() for key, tensor in tensors.items()}
            changed[name][:, :, row, column] += 1
            save_file(changed, run / "model.safetensors")
            assert not same_bits(logits_of(run), before), (name, row, column)
