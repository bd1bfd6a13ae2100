"""Turning the layers of a finished network into expert layers, by name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from mocse_timm.models.expert_layers import ExpertConv2d, ExpertLayer, ExpertLinear
from mocse_timm.models.routing import RoutingSlot
from mocse_timm.modes import evaluating

__all__ = ["convert", "convertible_layers", "set_bank", "trial_network"]

CONVERTIBLE = (nn.Conv2d, Conv2dSame, nn.Linear)  # these types and no others: a subclass may use its weights otherwise
STEM = r"^(?:stem|patch_embed|conv_stem)(?:\.|$)"
SHORTCUT = r"(?:^|\.)(?:downsample|shortcut|skip|identity)(?:\.|$)"


def _names(value: Any) -> set[str]:
    return set() if not value else {value} if isinstance(value, str) else set(value)


@dataclass
class _Seen:
    """What one layer did in a trial run."""

    rows: int = 0  # of its input; 0 if it was not called, called twice, or called by keyword
    overwritten: bool = False  # whether a later operation wrote into its output


def _try_out(network: Any, names: Sequence[str], shape: Sequence[int], batch: int) -> dict[str, _Seen]:
    """Return what each named layer does when ``network`` computes features of ``batch`` images."""
    seen: dict[str, _Seen] = {}
    outputs: dict[str, tuple[Tensor, int]] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            seen[name] = _Seen(0 if name in seen or not inputs else inputs[0].shape[0])
            outputs[name] = output, output._version

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(note(name)) for name in names]
    parameter = next(network.parameters())
    try:
        # in inference mode tensors do not count what writes into them
        with evaluating(network), torch.inference_mode(False), torch.no_grad():
            network.forward_features(torch.zeros(batch, *shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    for name, (output, version) in outputs.items():
        seen[name].overwritten = output._version > version
    return seen


def convertible_layers(network: nn.Module, *, input_size: Sequence[int], cfg: Any = None) -> dict[str, bool]:
    """Return the names of the layers of ``network`` that can become expert layers, each with whether the network
    writes into its output (an activation in place, say), for :func:`convert`.

    These are its convolutions and linear layers except the stem, the shortcuts, the classifier and what
    runs after the features; and except those that do not see the images of a batch one by one: layers whose weights
    are used without calling them, or twice, or on tables and not on images. A trial run tells, best with a copy of
    the network on the meta device, where it costs nothing.

    Args:
        network: a timm model.
        input_size: channels, height and width of its images.
        cfg: timm's facts on it, with the names of stem and classifier.
    """
    excluded = _names(getattr(cfg, "first_conv", None)) | _names(getattr(cfg, "classifier", None))
    several = [module for _, module in network.named_modules(remove_duplicate=False)]
    owners: dict[int, int] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    names = [
        name
        for name, module in network.named_modules()
        if type(module) in CONVERTIBLE
        and name not in excluded
        and not re.search(STEM, name)
        and not re.search(SHORTCUT, name)
        and sum(other is module for other in several) == 1
        and all(owners[id(parameter)] == 1 for parameter in module.parameters())
    ]
    two, three = (_try_out(network, names, input_size, batch) for batch in (2, 3))
    return {
        name: two[name].overwritten
        for name in names
        if name in two and two[name].rows and two[name].rows * 3 == three[name].rows * 2
    }


def convert(network: nn.Module, layers: Mapping[str, bool], num_experts: int, slot: RoutingSlot) -> None:
    """Turn the named layers of ``network`` into expert layers that read ``slot``; every expert starts as the layer was.

    Args:
        network: changed in place.
        layers: names of layers, and whether the network writes into their outputs.
        num_experts: E.
        slot: where the network leaves the paths.

    Raises:
        ValueError: if ``layers`` is empty, names no layer, or a layer that is neither Conv2d nor Linear.
    """
    if not layers:
        raise ValueError(
            f"{type(network).__name__} has no layer that can hold several experts: choose another backbone"
        )
    for name, overwritten in layers.items():
        parent_name, _, own_name = name.rpartition(".")
        try:
            parent = network.get_submodule(parent_name)
            layer = parent.get_submodule(own_name)
        except AttributeError:
            raise ValueError(f"{type(network).__name__} has no layer {name!r}") from None
        if type(layer) not in CONVERTIBLE:
            raise ValueError(f"{name!r} is a {type(layer).__name__}: only Conv2d and Linear can hold several experts")
        if isinstance(layer, nn.Linear):
            bank: ExpertLinear | ExpertConv2d = ExpertLinear.from_layer(layer, num_experts, slot)
        else:
            assert isinstance(layer, nn.Conv2d)
            bank = ExpertConv2d.from_layer(layer, num_experts, slot)
        bank.overwritten = overwritten
        setattr(parent, own_name, bank)


def set_bank(network: nn.Module, names: Iterable[str], expert: int, source: nn.Module) -> None:
    """Copy the named layers of ``source``, a network before conversion, into bank ``expert`` of a converted one."""
    with torch.no_grad():
        for name in names:
            layer, dense = network.get_submodule(name), source.get_submodule(name)
            assert isinstance(layer, ExpertLayer) and isinstance(dense, nn.Conv2d | nn.Linear)
            weight, bias = layer.banks()[expert]
            weight.copy_(dense.weight)
            if bias is not None and dense.bias is not None:
                bias.copy_(dense.bias)


def trial_network(backbone: str, arguments: dict[str, Any]) -> nn.Module | None:
    """Return the backbone on the meta device for :func:`convertible_layers`, or None where it cannot live there."""
    try:
        options: dict[str, Any] = arguments | {"device": "meta"}
        return timm.create_model(backbone, **options)
    except (TypeError, RuntimeError, NotImplementedError):
        return None
