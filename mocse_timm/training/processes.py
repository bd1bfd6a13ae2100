"""The processes of one training: how they are launched, and what they have to agree on to train one model.

Each process holds the whole model and takes its share of every batch; gradients are averaged by torch's
``DistributedDataParallel``. Everything else that could differ between them is settled here.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from timm.utils import distribute_bn
from torch import Tensor, nn

from mocse_timm.checks import BadInput
from mocse_timm.training.config import TrainConfig

__all__ = ["agreed", "check_launch", "check_same_folder", "launcher", "precision", "use_main_statistics"]

Value = TypeVar("Value")

# how Accelerate's launcher hands on what was asked for, by its flags or its config file
SPLITTING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
# what it would do beside us, the value that means nothing, and our own flag for it
DOUBLED = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("gradient accumulation of", "1", "--grad-accum-steps"),
    "ACCELERATE_DYNAMO_BACKEND": ("torch.compile by", "no", "--torchcompile"),
}


def precision(config: TrainConfig) -> str:
    """Return Accelerate's name for the precision that ``--amp`` and ``--amp-dtype`` ask for: no, bf16 or fp16."""
    return {"bfloat16": "bf16", "float16": "fp16"}[config.amp_dtype] if config.amp else "no"


def check_launch(config: TrainConfig) -> None:
    """Refuse to be launched for what is not done here, or what the flags decide otherwise.

    Without GPUs Accelerate would not split a model either, and not say so; nor would it say that a precision of the
    launch gives way to the flags'. To be called before the Accelerator is made.

    Raises:
        BadInput: if ``accelerate launch`` was told to use FSDP, DeepSpeed or Megatron-LM, a precision that ``config``
            does not have, accumulated gradients or a compiler.
    """
    for variable, name in SPLITTING.items():
        if parse_flag_from_env(variable):
            raise BadInput(
                f"accelerate launch asks for {name}, which splits the model over the processes, but here each process "
                "holds all of it: launch with --multi_gpu instead, or answer no to it in 'accelerate config'"
            )
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION") or "no"
    if asked.lower() not in ("no", precision(config)):
        raise BadInput(
            f"accelerate launch asks for {asked} precision, but here the flags decide: give --amp (with --amp-dtype "
            "float16 for fp16), or launch with --mixed_precision no"
        )
    for variable, (name, nothing, flag) in DOUBLED.items():
        asked = os.environ.get(variable) or nothing
        if asked.lower() != nothing:
            raise BadInput(f"accelerate launch asks for {name} {asked}, but here {flag} does: give that instead")


def launcher(accelerator: Accelerator, *, public: bool = False) -> str:
    """Return the words that start these processes again, before ``train.py`` and its flags.

    Args:
        accelerator: knows the processes.
        public: leave out which of several machines this is, and where the others are.
    """
    if accelerator.num_processes == 1:
        return "python"
    words = ["accelerate", "launch", "--multi_gpu", "--num_processes", str(accelerator.num_processes)]
    machines = os.environ.get("GROUP_WORLD_SIZE", "1")  # torch's launcher, which Accelerate's uses, says so
    if machines != "1" and not public:
        words += ["--num_machines", machines, "--machine_rank", os.environ.get("GROUP_RANK", "0")]
        words += ["--main_process_ip", os.environ.get("MASTER_ADDR", "127.0.0.1")]
        words += ["--main_process_port", os.environ.get("MASTER_PORT", "29500")]
    return " ".join(["ACCELERATE_USE_CPU=true"] * (accelerator.device.type == "cpu") + words)


def agreed(decide: Callable[[], Value], accelerator: Accelerator) -> Value:
    """Return what ``decide`` returns in the main process; all processes must call this, and only that one decides.

    For what depends on the clock, or on files that the main process is about to change.

    Args:
        decide: returns anything that pickles.
        accelerator: knows the processes.

    Raises:
        BadInput: in every process, if ``decide`` raises it.
    """
    outcome: Any = None
    if accelerator.is_main_process:
        try:
            outcome = decide()
        except BadInput as refusal:
            outcome = refusal
    if accelerator.num_processes > 1:
        (outcome,) = broadcast_object_list([outcome])
    if isinstance(outcome, BadInput):
        raise outcome
    return outcome


def use_main_statistics(model: nn.Module, accelerator: Accelerator) -> None:
    """Give the batch norms of every process the running means and variances of the main one, in place.

    Each process has seen other images since they were last handed out, at the start of the last step. The main
    process's are the ones that are saved, so only with them are the weights that are scored those that are saved.

    Args:
        model: the bare model, or the average of its weights.
        accelerator: knows the processes.
    """
    if accelerator.num_processes > 1:
        distribute_bn(model, accelerator.num_processes)


def check_same_folder(folder: Path, accelerator: Accelerator) -> None:
    """Check that the run's folder, which the main process has made, is there for every process; all must call this.

    Each process writes its random states there. Scattered over the disks of several machines they could not be read
    again, and that would be noticed only when a training is to be continued.

    Raises:
        BadInput: in every process, if one does not find it.
    """
    found = torch.tensor([folder.is_dir()], dtype=torch.int64, device=accelerator.device)
    missing = accelerator.num_processes - int(cast(Tensor, accelerator.reduce(found, "sum")))
    if missing:
        raise BadInput(
            f"{folder} is not there for {missing} of {accelerator.num_processes} processes: on several machines "
            "give an --output that all of them share, as an absolute path"
        )
