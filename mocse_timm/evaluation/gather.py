"""Rows of a tensor from all processes, where each may hold another number of them."""

from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

__all__ = ["gather_in_order", "gather_rows"]


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


def gather_in_order(tensor: Tensor, accelerator: Accelerator) -> Tensor:
    """Return the rows of all processes in the order of the set they were dealt out from.

    Args:
        tensor: (N_here, ...), what this process has for images p, p + P, p + 2P, ... of the set, where p is its number
            among P, as every validation loader of ours deals them out.
        accelerator: knows the processes.
    """
    rows = gather_rows(tensor, accelerator)
    processes = accelerator.num_processes
    dealt = torch.cat([torch.arange(first, len(rows), processes) for first in range(processes)])
    return rows[dealt.argsort().to(rows.device)]
