"""Experts side by side on a GPU: one network of all their channels, in as many groups, instead of one after the other.

Layers of a narrow expert are too small to keep a GPU busy, and launching each costs more than running it. Ten
convolutions of one shape are one grouped convolution, ten batch norms one of all their channels. Letters: B images,
E experts, C outputs of one expert.
"""

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from timm.layers import (
    BatchNormAct2d,
    ClassifierHead,
    ConvNormAct,
    FrozenBatchNormAct2d,
    SelectAdaptivePool2d,
    SyncBatchNormAct,
)
from timm.layers.adaptive_avgmax_pool import AdaptiveAvgMaxPool2d
from timm.models.resnet import BasicBlock
from timm.models.resnetv2 import DownsampleConv, PreActBasic
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from mocse_timm.models.cifar_net import CifarNet
from mocse_timm.models.hooks import hooks_everywhere, layers_have_hooks
from mocse_timm.models.parallel_experts import follows_one_thread

__all__ = ["GroupedExperts", "grouped"]

DEVICES = ("cuda",)  # where a grouped convolution is faster than its parts
NORMS = (nn.BatchNorm2d, BatchNormAct2d, nn.SyncBatchNorm, SyncBatchNormAct, FrozenBatchNorm2d, FrozenBatchNormAct2d)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, AdaptiveAvgMaxPool2d)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish)
LAYERS = (nn.Conv2d, *NORMS, *POOLS, *ACTIVATIONS, nn.Identity, nn.Flatten, nn.Dropout)
SETTINGS = {kind: (*getattr(kind, "__constants__", ()), "eps") for kind in LAYERS}
"""Layers of which several side by side are one layer with the channels of all, if convolutions are in groups; with what
they compute by beside their tensors."""
HOLDERS = frozenset(
    {nn.Sequential, BasicBlock, PreActBasic, DownsampleConv, ConvNormAct, ClassifierHead, SelectAdaptivePool2d}
)
"""Modules that only run their layers, and add what these give."""


def grouped(experts: nn.ModuleList, x: Tensor) -> "GroupedExperts | None":
    """Return the experts as one network for inputs like ``x``; None if they have to run one by one.

    They have to where their shapes or modes differ or something wants to see each: tracing and compiling, hooks,
    activation checkpointing, dropout. So do networks with layers not known to mix channels by convolutions alone.
    """
    if follows_one_thread(x) or len(experts) < 2 or x.device.type not in DEVICES:
        return None
    if not all(isinstance(expert, CifarNet) and _can_be_widened(expert) for expert in experts):
        return None
    layers = [list(expert.modules()) for expert in experts]
    if hooks_everywhere() or layers_have_hooks(layer for each in layers for layer in each):
        return None
    shapes = {_shape(each) for each in layers}
    modes = {tuple(layer.training for layer in each) for each in layers}
    return GroupedExperts(_twin(experts, shapes.pop()), layers) if len(shapes) == len(modes) == 1 else None


def _can_be_widened(expert: CifarNet) -> bool:
    dropout = expert.training and expert.head.drop.p > 0
    layers = list(expert.modules())
    if any(getattr(layer, "momentum", 1) is None for layer in layers):  # averages by each norm's own count of batches
        return False
    compiled = expert._compiled_call_impl is not None
    if dropout or compiled or expert.grad_checkpointing or not expert.channels_stay_apart:
        return False
    classifier = expert.head.fc
    return type(classifier) is nn.Linear and all(
        type(layer) in SETTINGS or type(layer) in HOLDERS or layer is classifier or layer is expert for layer in layers
    )


def _shape(layers: Sequence[nn.Module]) -> tuple[object, ...]:
    """Return each layer's kind, sizes of parameters and settings: equal for experts that can be one network."""
    return tuple(
        (type(layer), *map(_size, layer._parameters.values()), *map(vars(layer).get, SETTINGS.get(type(layer), ())))
        for layer in layers
    )


def _size(parameter: Tensor | None) -> torch.Size | None:
    return None if parameter is None else parameter.shape


@dataclass(frozen=True, eq=False)
class _Twin:
    """A network of one expert's layers with E times the channels; weights and modes it has only while it runs."""

    network: CifarNet
    layers: list[nn.Module]
    """In the order of ``modules()``, the classifier left out."""
    classifier: int
    """The classifier's place among an expert's layers."""


class _Twins(threading.local):
    """Each thread's own, by the experts they stand for."""

    def __init__(self) -> None:
        self.known: WeakKeyDictionary[nn.ModuleList, tuple[object, _Twin]] = WeakKeyDictionary()


_twins = _Twins()


def _twin(experts: nn.ModuleList, shape: tuple[object, ...]) -> _Twin:
    made_for = (len(experts), shape)
    known = _twins.known.get(experts)
    if known is None or known[0] != made_for:
        known = _twins.known[experts] = (made_for, _widened(experts[0], len(experts)))
    return known[1]


def _widened(expert: Any, times: int) -> _Twin:
    """Return ``expert`` without weights and classifier, with ``times`` the channels in as many groups."""
    everything = list(expert.modules())
    tensors = [tensor for layer in everything for tensor in (*layer._parameters.values(), *layer._buffers.values())]
    weightless = dict.fromkeys(map(id, tensors))  # what deepcopy finds here it takes for copied already, as None
    network = copy.deepcopy(expert, weightless)
    reads_images = next((layer for layer in network.stem.modules() if isinstance(layer, nn.Conv2d)), None)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer is not reads_images:  # that one has all experts' filters on one input
            layer.groups *= times
    layers = [layer for layer in network.modules() if layer is not network.head.fc]
    network.head.fc = nn.Identity()
    return _Twin(network, layers, everything.index(expert.head.fc))


@dataclass(frozen=True, eq=False)
class GroupedExperts:
    """Experts of one shape as one network; made by :func:`grouped` for one pass."""

    twin: _Twin
    experts: list[list[nn.Module]]
    """Each expert's layers, in the order of ``modules()``."""

    def run(self, x: Tensor) -> list[Tensor]:
        """Return every expert's output for the same ``x``, as if they had run one after the other.

        Values and gradients differ by rounding. Batch norms in train mode update the experts' running statistics.

        Args:
            x: (B, channels, H, W).

        Returns:
            E tensors (B, C).
        """
        twin, count = self.twin, len(self.experts)
        rows: list[tuple[Any, ...]] = list(zip(*self.experts, strict=True))  # the same layer of all experts
        classifiers = rows.pop(twin.classifier)
        try:
            for layer, parts in zip(twin.layers, rows, strict=True):
                _fill(layer, parts)
            shared = isinstance(twin.network.stem, nn.Identity)
            features = twin.network(torch.cat([x] * count, dim=1) if shared else x)
            if any(layer.training for layer in twin.layers):  # the batch norms alone, perhaps
                _keep_statistics(twin.layers, rows)
        finally:
            for layer in twin.layers:
                _empty(layer)
        weights = torch.stack([layer.weight for layer in classifiers])
        outputs = features.unflatten(1, (count, -1)).transpose(0, 1) @ weights.transpose(1, 2)  # (E, B, C)
        if classifiers[0].bias is not None:
            outputs = outputs + torch.stack([layer.bias for layer in classifiers]).unsqueeze(1)
        return list(outputs.unbind(0))


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts[0].ndim else parts[0].clone()  # how many batches a norm has seen stays one number


def _fill(layer: nn.Module, parts: Sequence[nn.Module]) -> None:
    """Give ``layer`` the experts' mode, and the tensors of all of them side by side."""
    layer.training = parts[0].training
    for kind in ("_parameters", "_buffers"):
        place: dict[str, Tensor | None] = getattr(layer, kind)
        for name in place:
            tensors = [getattr(part, kind)[name] for part in parts]
            place[name] = None if tensors[0] is None else _joined(tensors)


def _empty(layer: nn.Module) -> None:
    for place in (layer._parameters, layer._buffers):
        place.update(dict.fromkeys(place))


def _keep_statistics(layers: Sequence[nn.Module], rows: Sequence[Sequence[Any]]) -> None:
    """Copy what the twin's batch norms have seen to the experts'."""
    targets: list[Tensor] = []
    sources: list[Tensor] = []
    counters: list[Tensor] = []
    for layer, parts in zip(layers, rows, strict=True):
        for name, value in layer._buffers.items():
            if value is None:
                continue
            owned = [part._buffers[name] for part in parts]
            if value.ndim:
                targets += owned
                sources += value.chunk(len(parts))
            elif layer.training and layer.track_running_stats:
                counters += owned  # of batches seen: each expert's own
    with torch.no_grad():
        if targets:
            torch._foreach_copy_(targets, sources)
        if counters:
            torch._foreach_add_(counters, 1)
