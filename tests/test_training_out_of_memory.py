"""Memory that runs out: by torch's own allocators where there are some here, by their texts where there are not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import mocse_timm.training.run as run
import mocse_timm.training.teacher as teacher
from mocse_timm.checks import BadInput
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.out_of_memory import out_of_memory_advice

MODEL = timm.create_model("cifar_preact18", width=0.125)
TOO_MUCH = 1 << 50  # bytes; more than any address space holds
MPS = (
    "MPS backend out of memory (MPS allocated: 17.97 GiB, other allocations: 1.81 MiB, max allowed: 18.13 GiB). "
    "Tried to allocate 256.00 MiB on private pool."
)


def advice(error: Exception, model: torch.nn.Module = MODEL, validating: bool = False, **flags) -> str:
    with (
        pytest.raises(BadInput) as caught,
        out_of_memory_advice(TrainConfig(**flags), model, validating=validating),
    ):
        raise error
    assert caught.value.__cause__ is error and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(TOO_MUCH), lambda: np.empty(TOO_MUCH), lambda: bytes(1 << 62)]
)
def test_what_the_allocators_of_the_cpu_say_becomes_advice(allocate) -> None:
    with (
        pytest.raises(BadInput, match="memory ran out.* in training, 128 images a batch"),
        out_of_memory_advice(TrainConfig(), MODEL),
    ):
        allocate()


def test_what_a_gpu_says_becomes_advice() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU to fill")
    with (
        pytest.raises(BadInput, match="memory ran out when .*GiB more were needed"),
        out_of_memory_advice(TrainConfig(), MODEL),
    ):
        torch.empty(TOO_MUCH, dtype=torch.uint8, device="cuda")


@pytest.mark.parametrize(
    ("error", "size"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ..."),
            " when 2.50 GiB more",
        ),
        (RuntimeError(MPS), " when 256.00 MiB more"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), ""),
        (RuntimeError("std::bad_alloc"), ""),
        (MemoryError(), ""),
    ],
)
def test_texts_of_other_devices_become_advice(error: Exception, size: str) -> None:
    assert advice(error).startswith(f"memory ran out{size}")


def test_the_advised_flags_keep_the_images_of_a_step() -> None:
    sentence = advice(MemoryError(), batch_size=96, grad_accum_steps=3)
    assert "--batch-size 48 --grad-accum-steps 6 makes the same steps of 288 images" in sentence
    assert "--grad-checkpointing and --amp need less, too" in sentence
    assert "--batch-size 15 --grad-accum-steps 3 makes the same" in advice(MemoryError(), batch_size=45)
    assert "--batch-size 5 --grad-accum-steps 2 makes nearly the same" in advice(MemoryError(), batch_size=11)
    assert "--batch-size" not in advice(MemoryError(), batch_size=1)


def test_only_what_is_not_in_use_and_possible_is_advised() -> None:
    assert advice(MemoryError(), grad_checkpointing=True, amp=True).endswith("in less memory")
    cannot = timm.create_model("dla46_c", num_classes=10)
    assert advice(MemoryError(), cannot).endswith("; --amp needs less, too")


def test_in_validation_its_own_batch_size_is_advised() -> None:
    assert "256 images a batch: --validation-batch-size 128" in advice(MemoryError(), validating=True)
    assert "--validation-batch-size 32" in advice(MemoryError(), validating=True, validation_batch_size=64)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyboardInterrupt()]
)
def test_other_errors_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, out_of_memory_advice(TrainConfig(), MODEL):
        raise error
    assert caught.value is error


LIMITED = """
import resource, sys
import torch, mocse_timm.training.run as run
torch.set_num_threads(1)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 700 * 2**20,) * 2)
sys.exit(run.main(sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the address space is limited by Linux's means")
def test_a_training_in_too_little_memory_ends_with_advice(tmp_path: Path) -> None:
    flags = ["--model", "cifar_preact18", "--batch-size", "1442", "--output", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", LIMITED, *flags], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr[-3000:]
    assert "in training, 1442 images a batch: --batch-size 721 --grad-accum-steps 2" in done.stderr


def test_a_validation_in_too_little_memory_ends_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "evaluate", lambda *arguments: torch.empty(TOO_MUCH))
    flags = "--model cifar_preact18 --model-kwargs width=0.125 --img-size 8 --batch-size 512 --epochs 1".split()
    assert run.main([*flags, "--output", str(tmp_path)]) == 2
    assert "in validation, 1024 images a batch: --validation-batch-size 512" in capsys.readouterr().err


def test_a_teacher_in_too_little_memory_is_not_told_to_read_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = timm.create_model("cifar_preact18", width=0.125)
    monkeypatch.setattr(model, "forward", lambda images: torch.empty(TOO_MUCH))
    monkeypatch.setattr(teacher, "load_model", lambda name, pretrained: model)
    flags = "--model cifar_preact18 --img-size 8 --kd-model-name large --output".split()
    assert run.main([*flags, str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "--kd-model-name large: memory ran out at its first image of 8x8" in said and "cannot read" not in said
    assert not list(tmp_path.iterdir())
