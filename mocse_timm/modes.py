"""Train and eval mode, changed for a while and put back exactly."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` in eval mode inside the block; afterwards every submodule has its own flag back.

    ``model.train(was_training)`` would not do: it sets one flag on all submodules and so thaws
    batch norms that were frozen on purpose.
    """
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield model
    finally:
        for module, training in flags.items():
            module.training = training
