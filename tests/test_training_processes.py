"""Two processes do together what one does on the same global batches; see tests/processes_training.py."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from processes_launch import ROOT, launch
from processes_training import CASES, Numbered, train_case
from safetensors.torch import load_file

import mocse_timm.training.run as run
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.processes import check_launch, launcher


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes wrote down."""
    folder = tmp_path_factory.mktemp("together")
    launch(ROOT / "tests" / "processes_training.py", folder)
    return folder


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_losses_and_weights_are_those_of_one_process(name: str, together: Path) -> None:
    """Losses are computed in 32 bits, weights held in 64."""
    one, two = train_case(CASES[name]), results(together)["cases"][name]
    assert [epoch.keys() for epoch in one["curve"]] == [epoch.keys() for epoch in two["curve"]]
    for mine, theirs in zip(one["curve"], two["curve"], strict=True):
        assert theirs == pytest.approx(mine, rel=1e-6, abs=1e-9)
    weights = load_file(together / f"{name}.safetensors")
    assert weights.keys() == one["weights"].keys()
    for parameter, value in one["weights"].items():
        torch.testing.assert_close(weights[parameter], value, rtol=1e-9, atol=1e-9, msg=parameter)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("advmoe")])
def test_experts_were_unused_by_one_process_and_by_both(name: str, together: Path) -> None:
    """What the comparison above is to cover: the last expert has one image, the one before none."""
    first, second = results(together)["cases"][name]["experts"]
    assert first != second and first[0] and second[0]
    assert first[3] == second[3] == 0
    assert sorted((first[4], second[4])) == [0, 1]


def test_every_image_comes_once(together: Path) -> None:
    images = results(together)["images"]
    assert len(images) == 8
    for name, seen in images.items():
        if "validation" in name:
            assert seen == list(range(len(Numbered()))), name  # none twice to fill a batch
        else:
            assert len(seen) == len(set(seen)) == 32, name  # whole batches of 8


def test_the_main_process_decides_and_all_refuse_together(together: Path) -> None:
    heard = results(together)
    assert heard["agreed"] == [0, 0]
    for decided, missing in heard["refusals"]:
        assert decided == "the main process refuses"
        assert "not there for 1 of 2 processes" in missing


def test_all_end_together_when_the_loss_of_one_is_not_a_number(together: Path) -> None:
    heard = results(together)["divergence"]
    assert len(heard) == 2 and len(set(heard)) == 1
    assert heard[0].startswith("the loss is nan in epoch 1, at step 4: ")


def test_the_words_that_launch_again(together: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2"
    assert results(together)["launcher"] == two
    assert launcher(Accelerator(cpu=True)) == "python"
    for name, value in {"GROUP_WORLD_SIZE": "2", "GROUP_RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "7"}.items():
        monkeypatch.setenv(name, value)
    of_two: Any = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    assert launcher(of_two, public=True) == two
    assert launcher(of_two) == f"{two} --num_machines 2 --machine_rank 1 --main_process_ip host --main_process_port 7"


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_a_launch_that_splits_the_model_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    assert run.main(["--output", str(tmp_path)]) == 2
    assert "each process holds all of it: launch with --multi_gpu instead" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MIXED_PRECISION", "bf16", "asks for bf16 precision, but here the flags decide: give --amp"),
        ("MIXED_PRECISION", "fp8", "or launch with --mixed_precision no"),
        ("GRADIENT_ACCUMULATION_STEPS", "4", "gradient accumulation of 4, but here --grad-accum-steps does"),
        ("DYNAMO_BACKEND", "INDUCTOR", "torch.compile by INDUCTOR, but here --torchcompile does"),
    ],
)
def test_a_launch_that_decides_what_flags_decide_is_refused(
    variable: str,
    value: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    assert run.main(["--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_launch_that_agrees_with_the_flags_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (
        ("MIXED_PRECISION", "bf16"),
        ("GRADIENT_ACCUMULATION_STEPS", "1"),
        ("DYNAMO_BACKEND", "NO"),
    ):
        monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    check_launch(TrainConfig(amp=True))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # what the launcher says unless it is told otherwise
    check_launch(TrainConfig(amp=True))
    check_launch(TrainConfig())
