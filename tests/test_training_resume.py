"""A training that was stopped anywhere ends, continued, with the same bits as one that was not."""

import csv
import inspect
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mocse_timm.training.run as run
from mocse_timm.training.run_folder import RunFolder
from mocse_timm.training.saver import Saver
from mocse_timm.training.state_files import StateFiles

SMALL = "--img-size 8 --epochs 3 --batch-size 256 --seed 3".split()  # 5 batches an epoch
DENSE = "--model cifar_preact18 --model-kwargs width=0.125".split()
MOCSE = "--model mocse_preact18 --model-kwargs expert_width=0.125 num_experts=2".split()
ADVMOE = "--model advmoe_resnet18 --model-kwargs width=0.125 --recipe advmoe --attack-steps 1".split()
AVERAGED = "--model-ema --model-ema-decay 0.9 --grad-accum-steps 2 --mixup 0.2 --drop 0.1".split()  # 3 steps an epoch
BY_WORKERS = (
    "--aa rand-m9-mstd0.5 --cutout 2 --cutmix 1 --workers 2 --sched step --decay-epochs 1 --no-sched-on-updates".split()
)


def train(folder: Path, *flags: str) -> int:
    return run.main([*SMALL, *flags, "--output", str(folder.parent), "--experiment", folder.name])


def stop_when(monkeypatch: pytest.MonkeyPatch, reached: Callable[[Saver], bool], number: int = signal.SIGTERM) -> None:
    """Send this process a real signal when ``reached`` first says so; the saver asks between any two steps."""
    ask = Saver._agreed
    sent: list[int] = []

    def agreed(saver: Saver) -> Any:
        if not sent and reached(saver):
            sent.append(number)
            os.kill(os.getpid(), number)
        return ask(saver)

    monkeypatch.setattr(Saver, "_agreed", agreed)


def after_updates(updates: int) -> Callable[[Saver], bool]:
    return lambda saver: saver.trainer.progress.updates == updates


def in_validation(epoch: int) -> Callable[[Saver], bool]:
    def reached(saver: Saver) -> bool:
        validating = any(frame.function == Saver.watched.__name__ for frame in inspect.stack(0))
        return validating and saver.trainer.progress.epoch == epoch

    return reached


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "train_images_per_second"} for row in csv.DictReader(file)]


def assert_same_end(first: Path, second: Path) -> None:
    for name in ("model.safetensors", "best/model.safetensors"):
        one, two = load_file(first / name), load_file(second / name)
        assert one.keys() == two.keys()
        assert [key for key in one if not torch.equal(one[key], two[key])] == []
    assert rows(first) == rows(second)
    for name in ("config.json", "best/config.json"):
        assert json.loads((first / name).read_text()) == json.loads((second / name).read_text())


CASES: dict[str, tuple[Sequence[str], list[Callable[[Saver], bool]]]] = {
    "standard, in the middle of an epoch": (DENSE, [after_updates(7)]),
    "standard, at an epoch's last step": (DENSE, [after_updates(5)]),
    "standard, in a validation": (DENSE, [in_validation(1)]),
    "average, accumulation, mixup, dropout": ([*DENSE, *AVERAGED], [after_updates(2), after_updates(5)]),
    "workers, policies, cutmix, steps": ([*DENSE, *BY_WORKERS], [after_updates(8), in_validation(2)]),
    "MoCSE": ([*MOCSE, *AVERAGED], [after_updates(1), in_validation(0), after_updates(8)]),
    "AdvMoE": ([*ADVMOE, "--epochs", "2"], [after_updates(3), after_updates(5)]),
}


@pytest.mark.parametrize(("flags", "stops"), CASES.values(), ids=CASES.keys())
def test_a_stopped_training_goes_on_to_the_same_bits(
    flags: Sequence[str], stops: list[Callable[[Saver], bool]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(whole, *flags) == 0
    for number, stop in enumerate(stops):
        with pytest.MonkeyPatch.context() as patch:
            stop_when(patch, stop)
            code = run.main(["--resume", str(broken)]) if number else train(broken, *flags)
        assert code == 143
        error = capfd.readouterr().err
        assert error.count(f"continue with: python train.py --resume {broken}") == 1
        assert "Traceback" not in error
    assert run.main(["--resume", str(broken)]) == 0
    assert_same_end(whole, broken)


def test_ctrl_c_saves_and_ends_with_130(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_when(patch, after_updates(3), signal.SIGINT)
        assert train(folder, *DENSE) == 130
    assert [state.name for state in RunFolder(folder).states.states()] == ["epoch-0000-step-000003"]
    assert "a second signal stops at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_states_are_saved_every_few_steps_and_the_last_few_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    saved: list[str] = []

    class Noting(StateFiles):
        def complete(self, unfinished: Path) -> Path:
            saved.append(super().complete(unfinished).name)
            return self.folder / saved[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mocse_timm.training.run_folder.StateFiles", Noting)
        assert train(folder, *DENSE, "--epochs", "2", "--save-every", "3", "steps", "--checkpoint-hist", "3") == 0
    assert saved == [
        *("epoch-0000-step-000003", "epoch-0001-step-000000"),
        *("epoch-0001-step-000001", "epoch-0001-step-000004", "epoch-0002-step-000000"),
    ]
    assert sorted(path.name for path in (folder / "states").iterdir()) == saved[-3:]


def test_minutes_count_from_the_last_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves 40 seconds a look: every second step is a minute later."""
    folder, now = tmp_path / "run", [0.0]

    def clock() -> float:
        now[0] += 40.0
        return now[0]

    monkeypatch.setattr("mocse_timm.training.saver.time.monotonic", clock)
    assert train(folder, *DENSE, "--epochs", "1", "--save-every", "1.5", "minutes", "--checkpoint-hist", "9") == 0
    names = sorted(path.name for path in (folder / "states").iterdir())
    assert names == ["epoch-0000-step-000003", "epoch-0001-step-000000"]


def test_auto_begins_a_run_and_then_continues_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(whole, *DENSE) == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_when(patch, after_updates(7))
        assert train(broken, *DENSE, "--resume", "auto") == 143
    assert train(broken, *DENSE, "--resume", "auto") == 0
    assert_same_end(whole, broken)
    assert "continuing from" in capfd.readouterr().out
    assert train(broken, *DENSE, "--resume", "auto") == 0
    assert "nothing left to train" in capfd.readouterr().out


def test_auto_without_a_name_takes_the_newest_unfinished_run_of_the_same_model(tmp_path: Path) -> None:
    flags = [*SMALL, *DENSE, "--output", str(tmp_path)]
    assert run.main([*flags, "--experiment", "finished"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_when(patch, after_updates(7))
        assert run.main([*flags, "--experiment", "unfinished"]) == 143
    assert run.main([*SMALL, *MOCSE, "--output", str(tmp_path), "--epochs", "1", "--resume", "auto"]) == 0
    assert len(list(tmp_path.iterdir())) == 3, "another model is another run"
    assert run.main([*flags, "--resume", "auto"]) == 0
    assert len(list(tmp_path.iterdir())) == 3
    assert len(rows(tmp_path / "unfinished")) == 3


def test_what_does_not_fit_a_state_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_when(patch, after_updates(7))
        assert train(folder, *DENSE) == 143
    capsys.readouterr()
    for flags, message in (
        (
            ["--batch-size", "128"],
            "in the middle of epoch 2, which was begun with --batch-size 256: continue with that",
        ),
        (["--opt", "adamw"], "epoch-0001-step-000002 is a state of --opt sgd: continue with that"),
        (["--layer-decay", "0.5"], "epoch-0001-step-000002 is a state of --layer-decay None: continue with that"),
        (["--model", "cifar_resnet18"], "that run has --model cifar_preact18, not cifar_resnet18"),
        (["--save-every", "0", "minutes"], "--save-every is 0 minutes: give a number above 0"),
    ):
        assert run.main(["--resume", str(folder), *flags]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert run.main(["--resume", str(folder)]) == 0
