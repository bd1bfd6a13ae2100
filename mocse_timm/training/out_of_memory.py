"""Memory that ran out, answered with the flags that need less and change the training least."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from mocse_timm.checks import BadInput
from mocse_timm.evaluation.out_of_memory import is_out_of_memory
from mocse_timm.training.config import TrainConfig

__all__ = ["out_of_memory_advice"]


@contextmanager
def out_of_memory_advice(config: TrainConfig, model: nn.Module, *, validating: bool = False) -> Iterator[None]:
    """Turn memory that runs out inside the block into one sentence with what to do; other errors pass.

    Args:
        config: of the training, whose batch sizes are named.
        model: the bare model; it is asked whether it can recompute activations.
        validating: whether the block scores images instead of training on them.

    Raises:
        BadInput: if memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        wanted = re.search(r"tried to allocate (\d[\d.]* ?\w+)", str(error), re.IGNORECASE)
        what = f"memory ran out{f' when {wanted[1]} more were needed' if wanted else ''}"
        advice = _for_validation(config) if validating else _for_training(config, model)
        raise BadInput(f"{what} {advice}") from error


def _for_training(config: TrainConfig, model: nn.Module) -> str:
    size, groups = config.batch_size, config.grad_accum_steps
    savers = [] if config.grad_checkpointing or not _can_checkpoint(model) else ["--grad-checkpointing"]
    savers += [] if config.amp else ["--amp"]
    if size == 1:
        remedies = [*savers, "a smaller --img-size", "a smaller model"]
        return f"in training on one image at a time: use {' or '.join(remedies)}"
    parts = next((parts for parts in (2, 3, 5, 7) if size % parts == 0), 2)
    kept = "the same" if size % parts == 0 else "nearly the same"
    other = f"; {' and '.join(savers)} need{'s' if len(savers) == 1 else ''} less, too" if savers else ""
    return (
        f"in training, {size} images a batch: --batch-size {size // parts} --grad-accum-steps {groups * parts} makes "
        f"{kept} steps of {size * groups} images in less memory{other}"
    )


def _for_validation(config: TrainConfig) -> str:
    size = config.validation_batch_size or 2 * config.batch_size
    if size == 1:
        return "in validation of one image at a time: use a smaller --img-size, or a smaller model"
    smaller = f"--validation-batch-size {size // 2}"
    return f"in validation, {size} images a batch: {smaller} gives the same scores in less memory"


def _can_checkpoint(model: Any) -> bool:
    """Return whether ``model`` can recompute activations, as timm's models say by not refusing."""
    try:
        model.set_grad_checkpointing()
        model.set_grad_checkpointing(False)
    except (AssertionError, AttributeError, NotImplementedError):
        return False
    return True
