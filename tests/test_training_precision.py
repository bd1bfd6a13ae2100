"""Ways to train faster or in less memory: each does what it says, and the digits are learned as well as without it.

Plain training ends at 99 % or more, the last epochs within a third of a point, and one of the 355 validation images
is 0.28 points. MOCSE_TIMM_FAULT_CASES adds AdvMoE, whose gradients tests/test_models_advmoe*.py compare in every way,
and compiles by inductor, which needs a C++ compiler; without it the same graphs are captured and run by torch itself.
"""

import csv
import functools
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

import mocse_timm.training.run as run
from mocse_timm.modes import held
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.precision import bfloat16_is_emulated
from mocse_timm.training.recipes import build_recipe

THREE_BLOCKS = "backbone=cifar_preact18 backbone_args={'depths':(1,1,1),'channels':(64,128,256)}"
MODELS = {
    "mocse": f"--model mocse --model-kwargs {THREE_BLOCKS} num_experts=2 expert_width=0.25",
    "advmoe": f"--model advmoe --model-kwargs {THREE_BLOCKS} width=0.5",
}
DIGITS = "--img-size 8 --padding 1 --hflip 0 --batch-size 64"
LEARNING = {  # until AdvMoE's router settles, which it does not under AdamW, rounding alone changes routes
    "mocse": "--epochs 8 --opt adamw --lr 0.01 --val-interval 8",
    "advmoe": "--epochs 20 --opt sgd --lr 0.05 --val-interval 20",
}
FULL = "MOCSE_TIMM_FAULT_CASES" in os.environ
CPU_INFO = Path("/proc/cpuinfo")
CPU_FLAGS = set(CPU_INFO.read_text().split()) if CPU_INFO.exists() and platform.machine() == "x86_64" else set()
BACKEND = "inductor" if FULL else "aot_eager"
WAYS = {
    "bf16": "--amp",
    "compile": f"--torchcompile {BACKEND}",
    "channels_last": "--channels-last",
    "accumulation": "--batch-size 32 --grad-accum-steps 2",
    "checkpointing": "--grad-checkpointing",
}


@functools.cache
def learned(folder: Path, model: str, flags: str) -> tuple[float, dict[str, Tensor]]:
    """Train in ``folder`` and return the accuracy in percent and the weights."""
    AcceleratorState._reset_state(reset_partial_state=True)
    given = f"{MODELS[model]} {DIGITS} {LEARNING[model]} {flags}".split()
    assert run.main([*given, "--output", str(folder), "--experiment", f"{model}{flags}"]) == 0
    with (folder / f"{model}{flags}" / "summary.csv").open() as file:
        accuracy = float(list(csv.DictReader(file))[-1]["eval_top1"])
    return accuracy, load_file(folder / f"{model}{flags}" / "model.safetensors")


@pytest.fixture(autouse=True)
def forget_the_precision():
    """Accelerate keeps the precision of a process's first training for all later ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("precision")


def assert_learned_as_well(folder: Path, model: str, flags: str) -> None:
    plain, plain_weights = learned(folder, model, "")
    accuracy, weights = learned(folder, model, flags)
    print(f"{model} {flags}: {accuracy:.2f} %, plain {plain:.2f} %")
    assert plain > 97
    assert abs(accuracy - plain) <= 1
    if "--torchcompile" not in flags:  # which may give the same bits; its graphs are counted instead
        assert any(not torch.equal(weights[name], plain_weights[name]) for name in weights), f"{flags} changed nothing"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", MODELS)
def test_digits_are_learned_within_a_point_of_plain_training(model: str, way: str, folder: Path) -> None:
    if model == "advmoe" and not FULL:
        pytest.skip("AdvMoE takes minutes: make faults")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert_learned_as_well(folder, model, WAYS[way])
    counters = torch._dynamo.utils.counters
    assert (counters["stats"]["unique_graphs"] > 0) == (way == "compile")
    assert not counters["graph_break"], "the step is not one graph any more"


@pytest.mark.parametrize("model", MODELS)
def test_float16_learns_the_digits_within_a_point_on_a_gpu(model: str, folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("Accelerate has float16 on GPUs only; make faults runs our part of it on the CPU")
    assert_learned_as_well(folder, model, "--amp --amp-dtype float16")


@pytest.mark.parametrize("model", MODELS)
def test_float16_learns_the_digits_within_a_point_where_the_scaler_is_put_in_by_hand(
    model: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CPU torch has what float16 needs, and only Accelerate leaves it out."""
    if not FULL:
        pytest.skip("emulated float16 takes minutes: make faults")

    def accelerator(config: TrainConfig) -> Accelerator:
        made = Accelerator(cpu=True, mixed_precision="fp16", project_dir=config.output)
        made.native_amp, made.scaler = True, torch.amp.GradScaler("cpu")
        return made

    monkeypatch.setattr(run, "_accelerator", accelerator)
    assert_learned_as_well(folder, model, "--amp --amp-dtype float16")


def test_float16_without_a_gpu_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    AcceleratorState._reset_state(reset_partial_state=True)
    flags = "--model cifar_preact18 --img-size 8 --epochs 1 --amp --amp-dtype float16".split()
    assert run.main([*flags, "--output", str(tmp_path / "out")]) == 2
    assert "--amp-dtype float16 needs a GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("flags", "emulated", "warned"), [("--amp", True, 1), ("--amp", False, 0), ("", True, 0)])
def test_bfloat16_that_the_processor_emulates_is_said_to_be_slow(
    flags: str, emulated: bool, warned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "bfloat16_is_emulated", lambda device: emulated)
    tiny = f"--model cifar_preact18 --model-kwargs width=0.125 --img-size 8 -b 256 --epochs 1 {flags}".split()
    assert run.main([*tiny, "--output", str(tmp_path), "--experiment", "run"]) == 0
    assert (tmp_path / "run" / "log.txt").read_text().count("only emulates bfloat16") == warned


@pytest.mark.skipif(not CPU_FLAGS, reason="Linux on x86 tells what its processor has")
def test_x86_emulates_bfloat16_where_it_has_no_avx512() -> None:
    assert bfloat16_is_emulated(torch.device("cpu")) == ("avx512bw" not in CPU_FLAGS)
    assert not bfloat16_is_emulated(torch.device("meta"))


@pytest.mark.parametrize(
    ("recipe", "model", "options"),
    [
        ("standard", "mocse_preact18_shared", {"width": 0.125, "expert_width": 0.125, "num_experts": 2}),
        ("pgd", "cifar_preact18", {"width": 0.125}),
        ("trades", "cifar_preact18", {"width": 0.125}),
        ("trades", "mocse_preact18_shared", {"width": 0.125, "expert_width": 0.125, "num_experts": 2}),
        ("advmoe", "advmoe_resnet18", {"width": 0.125}),
    ],
)
def test_in_16_bits_the_same_parameters_get_a_gradient(recipe: Any, model: str, options: dict[str, Any]) -> None:
    """Autocast keeps 16-bit copies of weights: those made for an attack, without gradients, must not serve the loss."""
    torch.manual_seed(0)
    network = timm.create_model(model, **options).train()
    images, labels = torch.rand(8, 3, 8, 8), torch.arange(8)
    for phase in build_recipe(TrainConfig(recipe=recipe, attack_steps=1), network):
        names = [learning(network, phase.loss, phase.held, images, labels, amp) for amp in (False, True)]
        assert names[0] == names[1]


def learning(
    network, loss, held_parts: Sequence[torch.nn.Module], images: Tensor, labels: Tensor, amp: bool
) -> set[str]:
    """Return the names of the parameters that a step gives a gradient other than zero."""
    network.zero_grad(set_to_none=True)
    with held(tuple(held_parts)), torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        total = loss(network, images, labels).loss
    total.backward()
    return {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
