"""Train and eval mode, and which parameters learn: changed for a while and put back exactly."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["evaluating", "held", "without_gradients"]


@contextmanager
def evaluating(model: Any) -> Iterator[Any]:
    """Put ``model`` in eval mode inside the block; afterwards every submodule has its own flag back.

    A plain function has no mode and passes through.

    ``model.train(was_training)`` would not do: it sets one flag on all submodules and so thaws
    batch norms that were frozen on purpose.
    """
    flags = {module: module.training for module in model.modules()} if isinstance(model, nn.Module) else {}
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield model
    finally:
        for module, training in flags.items():
            module.training = training


@contextmanager
def without_gradients(images: Tensor) -> Iterator[None]:
    """torch.no_grad for passes of ``images``, in the midst of a pass with gradients.

    Autocast keeps its 16-bit copies of weights; in torch 2.6 those made without gradients serve the passes after, too,
    whose weights then learn nothing. So none are kept in here.
    """
    device = images.device.type
    available = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if not available:
        with torch.no_grad():
            yield
        return
    with torch.no_grad(), torch.autocast(device, dtype=torch.get_autocast_dtype(device), cache_enabled=False):
        yield


@contextmanager
def held(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Keep ``modules`` bit for bit as they are inside the block: no gradients, and eval mode for their batch norms.

    A backward pass belongs into the block too: activation checkpointing runs modules again during it.
    """
    learning = {p: p.requires_grad for module in modules for p in module.parameters()}
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(evaluating(module))
        for parameter in learning:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter, learns in learning.items():
                parameter.requires_grad_(learns)
