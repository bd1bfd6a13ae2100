"""The device that a flag names."""

import torch

from mocse_timm.checks import BadInput

__all__ = ["usable_device"]


def usable_device(name: str) -> torch.device:
    """Return the device called ``name``, as ``cpu`` or ``cuda:1``.

    Raises:
        BadInput: if it is not there, or holds no numbers as ``meta``.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # meta has no numbers
    except (RuntimeError, AssertionError, NotImplementedError):  # torch has no one class for what is not there
        raise BadInput(f"--device {name} cannot be used here; try cpu, or leave the flag out") from None
    return device
