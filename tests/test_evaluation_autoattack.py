"""AutoAttack as validate.py runs it: told while it runs, kept in a file, continued by the same command."""

import json
import logging
from pathlib import Path
from typing import Any

import pyautoattack
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mocse_timm.evaluation import autoattack_run
from mocse_timm.evaluation.autoattack_run import run_autoattack
from mocse_timm.evaluation.robustness import score_robustness
from mocse_timm.evaluation.run import main
from mocse_timm.models.saving import save_model

OPTIONS: dict[str, Any] = {"epsilon": 0.1, "norm": "linf", "batch_size": 4, "seed": 0}


def work(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A model, and eight images that it names right."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    images = torch.rand(8, 3, 2, 2)
    return model, images, model(images).argmax(dim=1)


class Counted:
    """Stands for pyautoattack's work on a batch, hundreds of steps: tries one random corner for each attack.

    It counts the batches, and is interrupted in the one that it is told.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done, self.interrupted_in = 0, 0
        monkeypatch.setattr(pyautoattack.AutoAttack, "run_standard_evaluation", lambda *a, **_: self.run(*a))

    def run(self, adversary: Any, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.done += 1
        if self.done == self.interrupted_in:
            raise KeyboardInterrupt
        (name,) = adversary.attacks_to_run
        generator = torch.Generator().manual_seed(adversary.seed + len(name))
        noise = torch.randn(images.shape, generator=generator).sign()
        attacked = (images + adversary.epsilon * noise).clamp(0, 1)
        answers = adversary.model(attacked).argmax(dim=1)
        attacked[answers == labels] = images[answers == labels]
        return attacked, answers


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setattr(autoattack_run, "SECONDS_BETWEEN", 0)
    return Counted(monkeypatch)


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("autoattack: ")]


def test_it_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Four attacks, an hour together on a real network; the last number told is the one reported."""
    model, images, labels = work()
    scores = score_robustness(model, images, labels, ["autoattack"], epsilon=0.05)
    lines = told(capsys)
    assert lines[0] == "autoattack: initial accuracy: 100.00%"
    assert [line.split()[4] for line in lines[1:]] == ["APGD-CE:", "APGD-T:", "FAB-T:", "SQUARE:"]
    accuracy = float(lines[-1].split(": ")[2].split("%")[0])
    assert 0 < accuracy == scores.robust_top1["autoattack"] < 100
    logger = logging.getLogger("auto-attack")
    assert logger.level == logging.NOTSET and logger.propagate and not logger.handlers


class Coarse(nn.Module):
    """Steps without slopes: only Square, which needs none, gets anywhere."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x * 40).round() / 40)


def test_what_warns_of_hidden_gradients_is_told_once_and_becomes_a_check(capsys: pytest.CaptureFixture[str]) -> None:
    model, images, labels = work()
    _, passed = run_autoattack(model, images, labels, **OPTIONS)
    assert [(check.passed, check.found) for check in passed] == [
        (True, "Square, the last, broke another 0.0 % of the images")
    ]
    capsys.readouterr()
    model = Coarse(model)
    scores = score_robustness(model, images, model(images).argmax(dim=1), ["autoattack"], epsilon=0.2, batch_size=4)
    lines, check = told(capsys), scores.checks[-1]
    before, after = (float(line.split(": ")[2].rstrip("%")) for line in lines[-2:])  # FAB-T and Square
    assert (check.name, check.passed) == ("an attack without gradients finds no more", False)
    assert check.found == f"Square, the last, broke another {before - after:.1f} % of the images"
    zero = [line for line in lines if "points with zero gradient" in line]
    assert zero and len(zero) == len(set(zero)), lines


def test_stopped_it_is_continued_where_it_was(
    counted: Counted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, images, labels = work()
    expected, _ = run_autoattack(model, images, labels, **OPTIONS)
    batches, file = counted.done, tmp_path / "state.safetensors"
    assert batches > 4 and not torch.equal(expected, images)
    capsys.readouterr()
    for interrupted_in in (2, 3):  # it counts on: after one batch, and after another
        counted.done, counted.interrupted_in = 0, interrupted_in
        with pytest.raises(KeyboardInterrupt):
            run_autoattack(model, images, labels, **OPTIONS, file=file)
    counted.done, counted.interrupted_in = 0, 0
    assert torch.equal(run_autoattack(model, images, labels, **OPTIONS, file=file)[0], expected)
    assert counted.done == batches - 3
    lines = told(capsys)
    assert lines[0] == f"autoattack: what is found is kept in {file}; the same command continues it"
    assert lines.count(f"autoattack: continues from {file}") == 2
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    counted.done = 0
    assert torch.equal(run_autoattack(model, images, labels, **OPTIONS, file=file)[0], expected)
    assert counted.done == 0, "all is known"


@pytest.mark.parametrize("other", ["answers", "weights", "images", "labels", "epsilon", "damaged", "lacks a tensor"])
def test_what_another_work_left_is_not_used(
    other: str, counted: Counted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, images, labels = work()
    file = tmp_path / "state.safetensors"
    counted.interrupted_in = 3
    with pytest.raises(KeyboardInterrupt):
        run_autoattack(model, images, labels, **OPTIONS, file=file)
    options: dict[str, Any] = dict(OPTIONS)
    reason = f"it is of other {'weights' if other == 'weights' else 'images'}"
    if other == "answers":
        model, reason = nn.Sequential(*model.children(), nn.Softmax(dim=1)), "it is of another model"
    elif other == "weights":  # so little that answers are near
        with torch.no_grad():
            model.get_parameter("1.weight").mul_(1.0001)
    elif other == "images":
        images = images.clone()
        images[-1, 0, 0, 0] = 1 - images[-1, 0, 0, 0]
    elif other == "labels":
        labels = labels.roll(1)
    elif other == "epsilon":
        options["epsilon"], reason = 0.05, "it was begun with {'epsilon': 0.1"
    elif other == "damaged":
        file.write_bytes(file.read_bytes()[:-5])
        reason = "Error while deserializing header"
    else:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata()
        save_file({"robust": torch.ones(8, dtype=torch.bool)}, file, metadata)
        reason = "it lacks 'attacked'"
    counted.interrupted_in = 0
    expected, _ = run_autoattack(model, images, labels, **options)
    capsys.readouterr()
    assert torch.equal(run_autoattack(model, images, labels, **options, file=file)[0], expected)
    assert told(capsys)[0].startswith(f"autoattack: begins anew, for {file} is not used: {reason}")


def test_a_state_of_before_digests_were_kept_is_continued(
    counted: Counted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, images, labels = work()
    file = tmp_path / "state.safetensors"
    expected, _ = run_autoattack(model, images, labels, **OPTIONS, file=file)
    with safe_open(file, framework="pt") as stored:
        tensors, metadata = {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata()
    assert len(metadata.pop("weights")) == 64
    save_file(tensors, file, metadata)
    capsys.readouterr()
    assert torch.equal(run_autoattack(model, images, labels, **OPTIONS, file=file)[0], expected)
    assert told(capsys)[0] == f"autoattack: continues from {file}"


def test_validate_continues_and_clears_up(counted: Counted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_model(timm.create_model("cifar_preact18", width=0.125), tmp_path)
    flags = [str(tmp_path), "--dataset", "digits", "--img-size", "8", "--device", "cpu", "--attack-images", "60"]
    attacked = [*flags, "--batch-size", "2", "--attack", "autoattack", "--epsilon", "0.02"]
    assert main([*attacked, "--results-file", str(tmp_path / "whole.json")]) == 0
    expected, batches = json.loads((tmp_path / "whole.json").read_text())["robustness"], counted.done
    assert batches > 2
    results, state = tmp_path / "results.json", tmp_path / "results-autoattack.safetensors"
    counted.done, counted.interrupted_in = 0, 2
    assert main([*attacked, "--results-file", str(results)]) == 130
    assert state.is_file() and not results.exists()
    before = state.read_bytes()
    assert main([*flags, "--attack", "pgd1", "--results-file", str(results)]) == 0
    assert state.read_bytes() == before, "it belongs to another command"
    counted.done, counted.interrupted_in = 0, 0
    assert main([*attacked, "--results-file", str(results)]) == 0
    assert json.loads(results.read_text())["robustness"] == expected
    assert counted.done == batches - 1
    assert not [path for path in tmp_path.iterdir() if "-autoattack" in path.name or "-without-" in path.name]
