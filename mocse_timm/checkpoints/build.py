"""Building the model a checked config.json describes: first without memory, at a price its weights can justify."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mocse_timm.checkpoints.header import Stored
from mocse_timm.checks import BadInput

__all__ = ["Budget", "build", "build_without_memory", "give_memory"]

CALLS_PER_TENSOR = 200  # models of this package and of timm take 4 to 30, with all that is built and thrown away
CALLS_ANYHOW = 2_000
UNWINDING = 100  # calls left to put back what was set for a while, such as that no gradients are wanted
MOST_CALLS = 1_500_000  # 0.8 GB of modules without weights; mocse_wrn28_10 with 1,000 experts takes two thirds of it


# first values of weights: tensors without memory have none, but being told of them takes two thirds of the time
DRAWS = {nn.init.kaiming_normal_, nn.init.normal_, nn.init.uniform_, Tensor.normal_, Tensor.uniform_}
SWITCHES = {torch._C._set_grad_enabled}  # ended there, the switch would stay as it is for the whole process


class Budget(TorchFunctionMode):
    """Ends a construction without memory, in this thread, after so many calls into torch."""

    def __init__(self, calls: int):
        super().__init__()
        self.left = calls

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SWITCHES:
            return func(*args, **(kwargs or {}))
        self.left -= 1
        if self.left < 0:
            self.left = UNWINDING
            raise BadInput("it has more layers than the weights beside it fill")
        if func in DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def build(name: str, **options: Any) -> nn.Module:
    """Call ``timm.create_model``; whatever it says against the options becomes one sentence.

    Raises:
        BadInput: if the model cannot be built.
    """
    try:
        return timm.create_model(name, **options)
    except Exception as error:  # of any class: these are other people's constructors, with a stranger's arguments
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"cannot build the model {name!r}: {reason:.500}") from error


def build_without_memory(folder: Path, stored: Mapping[str, Stored], **options: Any) -> nn.Module:
    """Return the model of ``folder`` on the meta device, where tensors have a shape and no memory.

    Args:
        folder: its config.json was checked.
        stored: the tensors of its weights. They bound the work: a model that takes far more steps to build than so
            many tensors need is given up.
        options: of ``timm.create_model``.

    Raises:
        BadInput: if the model cannot be built, or is larger than its weights.
    """
    calls = min(CALLS_PER_TENSOR * len(stored) + CALLS_ANYHOW, MOST_CALLS)
    with torch.device("meta"), Budget(calls):
        return build(f"local-dir:{folder}", **options)


def _tied(model: nn.Module) -> bool:
    return sum(1 for _ in model.parameters()) < sum(1 for _ in model.named_parameters(remove_duplicate=False))


def give_memory(model: nn.Module) -> bool:
    """Move a model from the meta device to the CPU, with parameters still to be loaded; False if that loses something.

    Tied weights would come apart, and tensors that are not saved must be made again: timm's layers can, by a method
    of the name used here.
    """
    unsaved: list[Any] = [module for module in model.modules() if module._non_persistent_buffers_set]
    loose = any(isinstance(value, Tensor) for module in model.modules() for value in vars(module).values())
    if _tied(model) or loose or not all(hasattr(module, "init_non_persistent_buffers") for module in unsaved):
        return False
    model.to_empty(device="cpu")
    for module in unsaved:
        module.init_non_persistent_buffers()
    return True
