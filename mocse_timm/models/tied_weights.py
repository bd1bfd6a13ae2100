"""Weights a network uses in several places are saved once: safetensors refuses tensors that share memory."""

from itertools import chain
from typing import Any

from torch import nn

__all__ = ["save_tied_weights_once"]


def _aliases(model: nn.Module) -> dict[str, str]:
    """Return the first name of each tensor that ``model`` holds under several, by its other names."""
    first: dict[int, str] = {}
    aliases: dict[str, str] = {}
    tensors = chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    for name, tensor in tensors:
        if first.setdefault(id(tensor), name) != name:
            aliases[name] = first[id(tensor)]
    return aliases


def _drop_aliases(model: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in _aliases(model):
        state.pop(prefix + name, None)


def _restore_aliases(model: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    for name, original in _aliases(model).items():
        if prefix + original in state:
            state.setdefault(prefix + name, state[prefix + original])


def save_tied_weights_once(model: nn.Module) -> None:
    """Leave the second names of tied weights out of ``model``'s state dict; loading finds them by the first."""
    model.register_state_dict_post_hook(_drop_aliases)
    model.register_load_state_dict_pre_hook(_restore_aliases)
