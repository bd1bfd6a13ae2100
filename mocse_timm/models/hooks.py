"""Whether somebody looks into a network by hooks on its layers, who then expects to see what an ordinary pass shows."""

from collections.abc import Iterable

from torch import nn

__all__ = ["hooks_everywhere", "layers_have_hooks"]

KINDS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def layers_have_hooks(layers: Iterable[nn.Module]) -> bool:
    """Return whether one of ``layers`` has a hook of its own, on its forward or backward pass."""
    return any(getattr(layer, kind) for layer in layers for kind in KINDS)


def hooks_everywhere() -> bool:
    """Return whether there is a hook on all modules of the process."""
    return any(getattr(nn.modules.module, f"_global{kind}") for kind in KINDS)
