"""Two processes that train to the end, that lose one of them, or that are stopped; and two machines.

By default what takes three launches; with MOCSE_TIMM_FAULT_CASES set, as ``make faults`` does, the rest too.
"""

import csv
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
import torch
from processes_launch import PLAIN, ROOT, end_within, finish, launch, ranks, start, wait_for
from safetensors.torch import load_file

from mocse_timm.data import build_loader, load_data
from mocse_timm.evaluation.metrics import score
from mocse_timm.evaluation.predictions import predict

MOCSE = "--model mocse_preact18 --model-kwargs expert_width=0.125 num_experts=3".split()
ADVMOE = "--model advmoe_resnet18 --model-kwargs width=0.125 num_experts=3 --recipe advmoe".split()
SHORT = (
    "--img-size 8 --epochs 2 -b 128 -vb 1 --save-every 2 steps --seed 3".split()
)  # -vb 1: seconds in which to stop it
AVERAGED = "--model-ema --model-ema-decay 0.9 --no-model-ema-warmup".split()
FIRST_STATE = "states/epoch-0000-step-000002"
pytestmark = pytest.mark.timeout(900)  # launches are slow where machines are busy
in_full = pytest.mark.skipif("MOCSE_TIMM_FAULT_CASES" not in os.environ, reason="more launches: run make faults")


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_run(one: Path, two: Path) -> None:
    """Weights equal bit for bit, and all that is logged but the speed."""
    weights = load_file(two / "model.safetensors")
    for name, value in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0, msg=name)
    speed = {"train_images_per_second": ""}
    assert [row | speed for row in rows(one)] == [row | speed for row in rows(two)]


def assert_scores_are_those_of_the_saved_weights(run: Path) -> None:
    """Score what was saved in this one process; a process with other batch norms would have scored another half."""
    data = load_data("digits", model_size=32, image_size=8)
    loader = build_loader(data.validation, training=False, batch_size=256, image_size=8)
    model = timm.create_model(f"local-dir:{run}", pretrained=True)
    mine = score(predict(model, loader, device="cpu"), data.class_names)
    theirs = json.loads((run / "config.json").read_text())["mocse_timm"]["validation"]
    assert theirs["num_images"] == mine.num_images == 355
    assert theirs["top1"] == pytest.approx(mine.top1)
    assert theirs["top5"] == pytest.approx(mine.top5)
    assert theirs["loss"] == pytest.approx(mine.loss, rel=1e-5)


@dataclass(frozen=True)
class Whole:
    """A training of two processes that came to its end."""

    flags: list[str]
    folder: Path
    """Holds each process's working directory."""

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "process0" / "runs" / "run"


@pytest.fixture(scope="module", params=[MOCSE, pytest.param(ADVMOE, marks=in_full)], ids=["mocse", "advmoe"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    flags = [*request.param, *SHORT, *AVERAGED]
    folder = tmp_path_factory.mktemp("whole")
    script = ROOT / "tests" / "processes_own_folder.py"
    said = launch(script, folder, *flags, "--log-with", "tensorboard")
    assert said.count("2 process(es)") == said.count("epoch 2/2") == 1, said
    return Whole(flags, folder)


def test_only_the_main_process_writes(whole: Whole) -> None:
    """Random states excepted: Accelerate saves those of each process."""
    written = [
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for folder in (whole.folder / "process0" / "runs", whole.folder / "process1" / "runs")
    ]
    assert written[1]
    for path in written[1]:
        assert re.fullmatch(r"run/states/epoch-\d+-step-\d+(\.new)?/random_states_1\.pkl", path), path
    assert not any(path.endswith("random_states_1.pkl") for path in written[0])
    assert {"run/config.yaml", "run/summary.csv", "run/log.txt", "run/model.safetensors"} <= written[0]
    assert any("tfevents" in path for path in written[0])


def test_scores_are_of_every_image_by_the_saved_weights(whole: Whole) -> None:
    assert_scores_are_those_of_the_saved_weights(whole.run)


def test_the_command_in_config_json_starts_as_many_processes(whole: Whole) -> None:
    command = json.loads((whole.run / "config.json").read_text())["mocse_timm"]["command"]
    two = "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2"
    assert command.startswith(f"{two} train.py --")


@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=in_full)])
def test_one_killed_process_ends_the_others_and_the_run_goes_on(killed: int, whole: Whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launched = start("train.py", *whole.flags, "--output", tmp_path, "--experiment", "run")
    wait_for(run / FIRST_STATE, launched)
    ranks(launched)[killed].kill()
    done = end_within(launched, 60)
    assert done.returncode != 0
    assert re.search(rf"rank\s*: {killed} .*\n.*exitcode\s*: -9", done.stderr), done.stderr
    assert len(rows(run) if (run / "summary.csv").exists() else []) < 2
    said = launch("train.py", "--resume", run)
    assert said.count("continuing from") == 1
    assert_same_run(whole.run, run)


@in_full
@pytest.mark.parametrize("to_all", [True, False], ids=["to all", "to the launcher"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_one_state_that_both_go_on_from(
    number: signal.Signals, to_all: bool, whole: Whole, tmp_path: Path
) -> None:
    """A terminal sends Ctrl-C to all processes in front, and the launcher sends them another one."""
    run = tmp_path / "run"
    rarely = ["--save-every", "10", "minutes"]  # so that it is the signal that saves
    launched = start("train.py", *whole.flags, *rarely, "--output", tmp_path, "--experiment", "run")
    wait_for(run / "config.yaml", launched)
    time.sleep(0.5)
    assert launched.poll() is None
    (os.killpg if to_all else os.kill)(launched.pid, number)
    done = end_within(launched, 40)
    assert done.returncode != 0
    (printed,) = re.findall("^stopped; continue with: (.*)$", done.stdout + done.stderr, flags=re.MULTILINE)
    assert shlex.split(printed)[-3:] == ["train.py", "--resume", str(run)], printed
    state = max((run / "states").iterdir())
    assert {"checksums.json", "random_states_0.pkl", "random_states_1.pkl"} <= {path.name for path in state.iterdir()}
    assert not list((run / "states").glob("*.new"))
    launch("train.py", "--resume", run)
    assert_same_run(whole.run, run)


@in_full
def test_batch_norms_of_the_weights_themselves_are_shared(tmp_path: Path) -> None:
    """Without an average of the weights it is the trained model that is scored."""
    launch("train.py", *MOCSE, *SHORT, "--output", tmp_path, "--experiment", "run")
    assert_scores_are_those_of_the_saved_weights(tmp_path / "run")


def two_machines(*command: str | Path, timeout: float = 300) -> list[subprocess.CompletedProcess[str]]:
    """Run ``command`` on two machines of one process each, both of them this one, and return what each printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = [
        *PLAIN,
        *"--num_machines 2 --num_processes 2 --main_process_ip 127.0.0.1 --main_process_port".split(),
        port,
    ]
    machines = [start(*command, options=[*options, "--machine_rank", rank]) for rank in ("0", "1")]
    return [finish(machine, timeout) for machine in machines]


@in_full
def test_two_machines_train_as_two_processes_do_and_validate(whole: Whole, tmp_path: Path) -> None:
    run, table = tmp_path / "run", tmp_path / "results.json"
    first, second = two_machines("train.py", *whole.flags, "--output", tmp_path, "--experiment", "run")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "2 process(es)" in first.stdout and not second.stdout.strip()
    assert_same_run(whole.run, run)
    for machine in two_machines("train.py", "--resume", run, "--epochs", "3"):
        assert machine.returncode == 0, machine.stderr
    assert [row["epoch"] for row in rows(run)] == ["0", "1", "2"]
    first, second = two_machines("validate.py", run, "--results-file", table)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "top-1" in first.stdout and not second.stdout.strip()
    assert re.search(r"images +355\b", first.stdout), first.stdout
    assert_scores_are_those_of_the_saved_weights(run)


@in_full
def test_machines_that_share_no_folder_are_refused(tmp_path: Path) -> None:
    script = "import os, sys; os.chdir(sys.argv[1] + os.environ['RANK']); from mocse_timm.training.run import main; "
    (tmp_path / "a0").mkdir()
    (tmp_path / "a1").mkdir()
    (tmp_path / "train.py").write_text(script + "sys.exit(main(sys.argv[2:]))\n")
    first, second = two_machines(tmp_path / "train.py", tmp_path / "a", *MOCSE, *SHORT, "--experiment", "run")
    assert first.returncode != 0 and second.returncode != 0
    for machine in (first, second):
        assert "is not there for 1 of 2 processes" in machine.stderr, machine.stderr


@in_full
@pytest.mark.parametrize("version", ["1", "2"])
def test_a_launch_with_fsdp_is_refused(version: str, tmp_path: Path) -> None:
    options = [*"--use_fsdp --num_processes 2 --num_machines 1 --main_process_port 0 --fsdp_version".split(), version]
    options += "--mixed_precision no --dynamo_backend no".split()
    done = finish(start("train.py", *MOCSE, *SHORT, "--output", tmp_path, options=options))
    assert done.returncode != 0 and not list(tmp_path.iterdir())
    assert "error: accelerate launch asks for FSDP" in done.stderr
    assert re.search(r"exitcode\s*: 2 ", done.stderr), done.stderr
