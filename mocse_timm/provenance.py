"""Where a number comes from: the machine it was made on and the versions of the software."""

import os
import platform
from importlib import metadata
from pathlib import Path

import timm
import torch

__all__ = ["hardware", "versions"]


def versions() -> dict[str, str]:
    """Return the versions by package of what trains and scores our models."""
    return {"mocse_timm": metadata.version("mocse_timm"), "timm": timm.__version__, "torch": torch.__version__}


def _processor() -> str:
    """Return the processor's name; on Linux Python itself does not know it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(errors="replace").splitlines() if facts.is_file() else []
    name = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
    return " ".join(name.split()) or platform.processor() or platform.machine()


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware(device: torch.device, num_processes: int = 1) -> str:
    """Name what ``device`` is, for people: ``2 cores of AMD EPYC``, ``NVIDIA H100``, ``4 x NVIDIA H100``.

    Cores are those that PyTorch uses: with ``OMP_NUM_THREADS=1`` one a process.

    Args:
        device: that computes.
        num_processes: which share the work; on accelerators each has its own, on a CPU all share its cores.
    """
    if device.type == "cpu":
        cores = min(_cores(), num_processes * torch.get_num_threads())
        return f"{cores} core{'s' if cores > 1 else ''} of {_processor()}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{num_processes} x {name}" if num_processes > 1 else name
