"""What scoring a model costs, and where and by which command its scores were made."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mocse_timm.checkpoints.tensors import sha256
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.scorer import Scorer
from mocse_timm.flags import changed_flags
from mocse_timm.models.normalized import image_channels
from mocse_timm.modes import evaluating
from mocse_timm.provenance import hardware, versions

__all__ = ["Computation", "count_macs", "describe_computation"]

WHERE = ("model", "data_dir", "corruptions_dir", "frost_dir", "baseline", "results_file", "heatmap")
WHERE += ("corruption_table", "robustbench_json", "checkpoint", "workers")


@dataclass(frozen=True)
class Computation:
    """The cost of a model, and what its speed and scores were measured with."""

    parameters: int
    macs: int
    """Multiply-accumulates for one image, in convolutions, linear layers and attention."""
    images_per_second: float
    """On clean images, loading included."""
    batch_size: int
    precision: str
    """float32, bfloat16 or float16; attacks are always made in float32."""
    channels_last: bool
    num_processes: int
    threads: int
    """Of one process."""
    hardware: str
    command: str
    """Without the paths, which are private: RUN stands for the model."""
    weights_sha256: str | None
    """Of the safetensors file that was scored; None where the model came by name or from the Hub."""
    versions: dict[str, str]


def count_macs(model: nn.Module, image_size: int) -> int:
    """Return the multiply-accumulates that ``model`` does on one image of ``image_size`` pixels a side.

    Counted while the model runs on a black image, so an expert that is not run does not count.
    """
    first = next(model.parameters())
    image = torch.zeros(1, image_channels(model), image_size, image_size, device=first.device, dtype=first.dtype)
    counter = FlopCounterMode(display=False)  # it does not know the CPU's fused attention, only the plain products
    with evaluating(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(image)
    return counter.get_total_flops() // 2


def _command(typed: ValidateConfig, dataset: str) -> str:
    public = typed if typed.dataset is None else replace(typed, dataset=dataset)
    flags = changed_flags(public, leave_out=WHERE)
    return " ".join(part for part in ("python validate.py RUN", flags) if part)


def describe_computation(
    scorer: Scorer, typed: ValidateConfig, *, dataset: str, macs: int, images_per_second: float, weights: Path | None
) -> Computation:
    """Return the facts on the model of ``scorer`` where it is.

    Args:
        scorer: whose model is on its device.
        typed: the flags as they were given.
        dataset: its public name.
        macs: see :func:`count_macs`.
        images_per_second: of all processes together.
        weights: the safetensors file that was scored, if it is known.
    """
    config, num_processes = scorer.config, scorer.accelerator.num_processes
    return Computation(
        parameters=sum(parameter.numel() for parameter in scorer.model.parameters()),
        macs=macs,
        images_per_second=round(images_per_second, 2),
        batch_size=config.batch_size,
        precision=config.amp_dtype if config.amp else "float32",
        channels_last=config.channels_last,
        num_processes=num_processes,
        threads=torch.get_num_threads(),
        hardware=hardware(scorer.device, num_processes),
        command=_command(typed, dataset),
        weights_sha256=None if weights is None else sha256(weights),
        versions=versions(),
    )
