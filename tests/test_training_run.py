"""Whole trainings on the embedded digits at 8x8 pixels: what they leave, how they resume, what they refuse."""

import csv
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file

import mocse_timm.training.results as results
import mocse_timm.training.run as run

SMALL = "--model cifar_preact18 --model-kwargs width=0.125 --img-size 8 --epochs 2 --batch-size 256 --seed 3".split()
MOCSE = "--model mocse_preact18 --model-kwargs expert_width=0.125 num_experts=3".split()


def train(folder: Path, *flags: str, base: Sequence[str] = SMALL) -> int:
    return run.main([*base, "--output", str(folder.parent), "--experiment", folder.name, *flags])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0, msg=name)


def test_a_run_leaves_a_folder_that_timm_loads(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, *MOCSE) == 0
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        *("config.yaml", "summary.csv", "log.txt", "model.safetensors", "config.json"),  # what a user reads and loads
        *("best", "states"),
    }
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights(folder)[name], rtol=0, atol=0)
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert {"train_loss", "eval_loss", "eval_top1", "eval_top5", "lr", "eval_expert_auroc"} <= rows[0].keys()
    facts = json.loads((folder / "config.json").read_text())["mocse_timm"]
    assert facts["epochs"] == 2
    assert (facts["recipe"], facts["seed"]) == ("standard", 3)
    assert facts["validation"]["top1"] == pytest.approx(float(rows[1]["eval_top1"]))
    best = json.loads((folder / "best" / "config.json").read_text())["mocse_timm"]
    top1 = [float(row["eval_top1"]) for row in rows]
    assert (facts["weights"], best["weights"]) == ("last", "best")
    assert (best["epochs"], best["validation"]["top1"]) == (1 + top1.index(max(top1)), pytest.approx(max(top1)))
    assert "epoch 2/2" in (folder / "log.txt").read_text()


def test_what_is_not_defined_is_left_out_of_config_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expert that never says "mine" has no precision, and JSON has no NaN."""
    monkeypatch.setattr(results, "summary_row", lambda scores: {"top1": scores.top1, "expert_precision": math.nan})
    assert train(tmp_path / "run", *MOCSE, "--epochs", "1") == 0
    validation = json.loads((tmp_path / "run" / "config.json").read_text())["mocse_timm"]["validation"]
    assert validation.keys() == {"top1", "num_images"}


def test_the_command_in_config_json_trains_the_same_weights_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(first, *MOCSE, "--cutout", "2") == 0
    program, script, *flags = shlex.split(json.loads((first / "config.json").read_text())["mocse_timm"]["command"])
    assert (program, script) == ("python", "train.py")
    assert str(tmp_path) not in " ".join(flags)
    assert train(second, base=flags) == 0
    assert_equal_weights(first, second)


def test_channels_last_leaves_an_ordinary_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, "--channels-last", "--epochs", "1") == 0
    assert run.main(["--resume", str(folder), "--epochs", "2"]) == 0
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(torch.rand(2, 3, 8, 8)).shape == (2, 10)


def test_flags_are_written_back_whole(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(first, "--epochs", "1", "--cutout", "2") == 0
    assert train(second, base=["--config", str(first / "config.yaml")]) == 0
    assert_equal_weights(first, second)
    assert yaml.safe_load((first / "config.yaml").read_text())["cutout"] == 2


def test_the_average_is_what_is_validated_and_saved(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, "--model-ema", "--model-ema-decay", "0.9", "--no-model-ema-warmup", "--epochs", "1") == 0
    live = {
        name.removeprefix("model."): value
        for name, value in load_file(folder / "states" / "epoch-0001-step-000000" / "model.safetensors").items()
    }
    assert not torch.equal(weights(folder)["head.fc.weight"], live["head.fc.weight"])
    for part, name in ((folder, "average"), (folder / "best", "best average")):
        assert json.loads((part / "config.json").read_text())["mocse_timm"]["weights"] == name


def test_expert_loss_weight_zero_trains_on_the_aggregate_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    short = [*MOCSE, "--epochs", "1"]
    assert train(first, *short, "--expert-loss-weight", "0") == 0
    assert train(second, *short, "--objective", "ce") == 0
    for name, value in weights(first).items():
        torch.testing.assert_close(value, weights(second)[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "mocse_preact81"], "--model mocse_preact81: no such model (did you mean 'mocse_preact18'?)"),
        (["--model", "mocse", "--model-kwargs", "backbone=resnet81"], "backbone=resnet81: timm has no such model"),
        ([*MOCSE[:2], "--model-kwargs", "num_experts=11"], "num_experts must be between 1 and the number of classes"),
        (["--model-kwargs", "num_classes=5"], "num_classes=5: this follows from the data"),
        (["--model-kwargs", "depth=5"], "unexpected keyword argument 'depth'"),
        (["--model", "dla46_c", "--model-kwargs", "--grad-checkpointing"], "gradient checkpointing not supported"),
        (["--dataset", "digit"], "unknown data set 'digit'"),
        (["--dataset", "folder:nowhere"], "nowhere"),
        (["--objective", "mocse"], "--objective mocse needs a model with class experts"),
        (["--objective", "ensemble"], "--objective ensemble needs an ensemble, got 'cifar_preact18'"),
        (["--expert-loss-weight", "0", "--aggregate-loss-weight", "0"], "are both 0: nothing would be learned"),
        (["--expert-positive-weight", "-1"], "--expert-positive-weight is -1.0: give 0 or more"),
        (
            ["--expert-loss-weight", "3"],
            "--expert-loss-weight is for --objective mocse: leave it out of --objective ce",
        ),
        ([*MOCSE, "--objective", "ce", "--expert-positive-weight", "9"], "--expert-positive-weight is for --objective"),
        ([*MOCSE, "--smoothing", "0.1", "--aggregate-loss-weight", "0"], "--smoothing is of the class scores' loss"),
        (["--opt", "adamq"], "--opt adamq"),
        (["--opt", "lookahead_adahessian"], "--opt lookahead_adahessian needs second derivatives"),
        (["--sched", "multistep", "--decay-milestones", "4", "2"], "--decay-milestones is 4 2: give epochs from 1 on"),
        (["--sched", "cosinus"], "--sched cosinus"),
        (["--epochs", "0"], "--epochs is 0: give at least 1"),
        (["--lr", "-1"], "--lr is -1.0: give more than 0"),
        (["--aa", "bogus"], "--aa bogus"),
        (["--log-with", "bogus"], "Accelerate refuses these flags"),
        (["--seed", "-1"], "--seed is -1: give a number from 0 to 4294967295"),
        (["--seed", "4294967296"], "--seed is 4294967296: give a number from 0 to 4294967295"),
        (["--torchcompile", "inductr"], "--torchcompile inductr: no such backend (did you mean 'inductor'?)"),
        (["--drop", "1.5"], "--drop is 1.5: give a number from 0 to below 1"),
        (["--layer-decay", "-0.5"], "--layer-decay is -0.5: give more than 0"),
        (["--sched", "step", "--decay-epochs", "0"], "--decay-epochs is 0.0: give more than 0"),
        (["--sched", "poly", "--decay-rate", "-1"], "--decay-rate is -1.0: give 0 or more"),
        (["--validation-batch-size", "-1"], "--validation-batch-size is -1: give at least 1"),
        (["--img-size", "2049"], "--img-size is 2049: give at most 2048"),
        (["--validation-batch-size", "0"], "--validation-batch-size is 0: give at least 1"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "out" / "run", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_run_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert train(folder, "--epochs", "1") == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert train(folder, "--epochs", "1") == 2
    assert f"already holds a run: continue it with --resume {folder}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    assert run.main(["--resume", str(folder), "--model", "cifar_resnet18"]) == 2
    assert "that run has --model cifar_preact18, not cifar_resnet18" in capsys.readouterr().err
    assert run.main(["--resume", str(tmp_path / "none")]) == 2
    assert "no config.yaml there" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("all", "tensorboard")])
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_trained(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    assert train(tmp_path / "out" / "run", "--log-with", name) == 2
    error = f"error: --log-with {name}: no such tracker is installed here: pip install {package}\n"
    assert capsys.readouterr().err == error
    assert not (tmp_path / "out").exists()


def test_a_tracker_of_accelerate_gets_the_metrics(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(folder, "--epochs", "1", "--log-with", "tensorboard") == 0
    assert list(folder.rglob("events.out.tfevents.*"))
