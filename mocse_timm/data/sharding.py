"""Which image goes where: the order of an epoch and each process's share of it.

Letters: N = images, B = images per batch in one process, P = processes.
"""

import torch
from torch import Tensor

from mocse_timm.checks import BadInput
from mocse_timm.data.seeds import make_generator

__all__ = ["check_pairs", "check_sharding", "training_batches", "validation_batches"]


def check_sharding(num_images: int, batch_size: int, process_index: int, num_processes: int) -> None:
    """Refuse numbers that cannot be shared out.

    Raises:
        BadInput: if there are no images, fewer images than processes, or an index or size out of range.
    """
    if batch_size < 1:
        raise BadInput(f"--batch-size is {batch_size}: give at least 1")
    if not 0 <= process_index < num_processes:
        raise BadInput(f"process {process_index} of {num_processes} does not exist: processes are numbered from 0")
    if num_images < num_processes:
        raise BadInput(f"{num_images} image(s) cannot be shared among {num_processes} processes: use fewer processes")


def check_pairs(num_images: int, batch_size: int, num_processes: int) -> None:
    """Refuse training batches that do not fall into pairs of images, as mixup needs them.

    Raises:
        BadInput: if a batch of :func:`training_batches` has an odd number of images.
    """
    share = num_images // num_processes
    size = min(batch_size, share)
    if size % 2 == 0:
        return
    if share == 1:
        raise BadInput(f"mixup pairs images, and {num_images} are one a process: leave out --mixup and --cutmix")
    of = f" of {num_processes} processes" if num_processes > 1 else ""
    cause = f", since the set's {num_images} images are one batch{of}" if share < batch_size else ""
    raise BadInput(
        f"mixup pairs images, so batches must be even, got {size}{cause}: give --batch-size {max(size - 1, 2)}"
    )


def training_batches(
    num_images: int, batch_size: int, *, seed: int, epoch: int, process_index: int = 0, num_processes: int = 1
) -> list[Tensor]:
    """Return this process's batches of image indices for one epoch, each (B,) int64.

    All processes draw the same permutation, a function of ``seed`` and ``epoch`` only, cut it into global batches
    of B * P, and take their own B of each. What is left at the end is dropped. A set smaller than one global batch
    is one batch: N // P images for each process.
    """
    order = torch.randperm(num_images, generator=make_generator("order", seed, epoch))
    batch_size = min(batch_size, num_images // num_processes)
    num_batches = num_images // (batch_size * num_processes)
    used = order[: num_batches * num_processes * batch_size]
    return list(used.view(num_batches, num_processes, batch_size)[:, process_index])


def validation_batches(
    num_images: int, batch_size: int, *, process_index: int = 0, num_processes: int = 1
) -> list[Tensor]:
    """Return this process's batches: images ``process_index``, ``process_index + P``, ... in order, none dropped.

    Over all processes every image comes exactly once, so processes may have one image more or fewer.
    """
    return list(torch.arange(process_index, num_images, num_processes).split(batch_size))
