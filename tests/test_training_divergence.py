"""A training that leaves the finite numbers: it ends in one sentence, and what was saved before can be continued."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mocse_timm.training.loop as loop
import mocse_timm.training.run as run
from mocse_timm.training.progress import EpochSums

SMALL = "--model cifar_preact18 --model-kwargs width=0.125 --img-size 8 --epochs 2 --batch-size 256 --seed 3".split()
EVERY_STEP = [
    "--save-every",
    "1",
    "steps",
    "--checkpoint-hist",
    "9",
]  # there are 5 an epoch, and the 5th looks at the loss


def train(folder: Path, *flags: str) -> int:
    return run.main([*SMALL, "--output", str(folder.parent), "--experiment", folder.name, *flags])


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "states").iterdir())


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_no_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert train(folder, "--lr", "1e30", "--warmup-epochs", "0") == 2
    assert "lower --lr (it is 1e+30)" in capsys.readouterr().err
    assert not (folder / "model.safetensors").exists()
    assert train(folder, "--epochs", "1") == 0  # such a folder may be used again


def test_weights_that_are_not_finite_stop_the_run_though_the_loss_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch norm's running variance is not used in training, so that nothing else shows it."""
    ours = run.train_epoch

    def spoil(trainer, *arguments):
        means = ours(trainer, *arguments)
        next(value for name, value in trainer.model.named_buffers() if name.endswith("running_var"))[3] = math.inf
        return means

    monkeypatch.setattr(run, "train_epoch", spoil)
    folder = tmp_path / "run"
    assert train(folder) == 2
    error = capsys.readouterr().err
    assert "running_var holds NaN or infinity in epoch 1, at step 5: lower --lr" in error
    assert not (folder / "model.safetensors").exists()


def test_no_state_is_saved_after_a_loss_that_is_not_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, folder = EpochSums.add, tmp_path / "run"

    def spoil(sums: EpochSums, values: dict[str, torch.Tensor], images: int) -> None:
        ours(sums, values | {"loss": values["loss"] / (sums.images != 512)}, images)

    with monkeypatch.context() as patch:
        patch.setattr(EpochSums, "add", spoil)
        assert train(folder, *EVERY_STEP) == 2
    assert "the loss is inf in epoch 1, at step 3: lower --lr" in capsys.readouterr().err
    assert states(folder) == ["epoch-0000-step-000001", "epoch-0000-step-000002"]
    assert run.main(["--resume", str(folder)]) == 0


def test_no_state_is_saved_after_a_step_to_weights_that_are_not_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, folder = loop._step, tmp_path / "run"

    def spoil(trainer: loop.Trainer, *arguments) -> None:
        ours(trainer, *arguments)
        if trainer.progress.step == 2:
            torch.nn.init.constant_(next(trainer.model.parameters()), math.nan)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", spoil)
        assert train(folder, *EVERY_STEP) == 2
    assert "holds NaN or infinity in epoch 1, at step 3: lower --lr" in capsys.readouterr().err
    assert states(folder) == ["epoch-0000-step-000001", "epoch-0000-step-000002"]
    for state in states(folder):
        for name, value in load_file(folder / "states" / state / "model.safetensors").items():
            assert value.isfinite().all(), (state, name)
    assert run.main(["--resume", str(folder)]) == 0
