"""Rows of a tensor from all processes, where each may hold another number of them."""

from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

__all__ = ["gather_rows"]


def gather_rows(tensor: Tensor, accelerator: Accelerator) -> Tensor:
    """Return the rows of all processes, process after process, each row once.

    Args:
        tensor: (N_here, ...), on the accelerator's device; N_here may differ between processes.
        accelerator: knows the processes.
    """
    if accelerator.num_processes == 1:
        return tensor
    counts = cast(Tensor, accelerator.gather(torch.tensor([len(tensor)], device=tensor.device))).tolist()
    padded = cast(Tensor, accelerator.gather(accelerator.pad_across_processes(tensor, dim=0)))
    return torch.cat([part[:count] for part, count in zip(padded.chunk(len(counts)), counts, strict=True)])
