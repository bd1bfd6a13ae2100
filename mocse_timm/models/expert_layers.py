"""Layers that hold several experts and run, for each image, the one its path names.

Each has all experts' weights in one parameter, stacked along the output axis: an expert that no image takes gets a
zero gradient and not none, memory formats apply, and the layout is that of the AdvMoE authors' checkpoints.
Letters: E experts, R rows of the input, see :mod:`mocse_timm.models.routing`.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, conv2d_same
from torch import Tensor, nn

from mocse_timm.models.routing import Dispatch, RoutingSlot

__all__ = ["ExpertConv2d", "ExpertLayer", "ExpertLinear", "straight_through"]


class _StraightThrough(torch.autograd.Function):
    """Multiplication by a gate whose value counts as 1, with the gradient a product has for its factors."""

    @staticmethod
    def forward(output: Tensor, gate: Tensor) -> Tensor:
        return output.view_as(output)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]  (torch's takes any)
        output, gate = ctx.saved_tensors
        if not len(gate):
            return gradient, gate.new_zeros(0)
        products = (gradient * output).unflatten(0, (len(gate), -1))  # a view in every memory format
        wide = torch.promote_types(gate.dtype, products.dtype)
        return gradient, products.sum(dim=tuple(range(1, products.ndim)), dtype=wide).to(gate.dtype)


def straight_through(output: Tensor, gate: Tensor) -> Tensor:
    """Return ``output`` unchanged; in the backward pass the gate gets ``sum(output * gradient)`` of its image.

    Args:
        output: (R, ...), of the chosen expert.
        gate: (B,), of the chosen expert; R is a multiple of B, an image's rows side by side.
    """
    return cast(Tensor, _StraightThrough.apply(output, gate))


class ExpertLayer:
    """What both kinds of layer share: running the right bank on the right rows. Mixed into torch's layers.

    Attributes:
        num_experts: E.
        slot: where the network leaves the paths.
        overwritten: whether the network writes into this layer's output, which the gate's gradient needs as it was;
            then the network gets a copy.

    Raises:
        ValueError: if ``num_experts`` is below 1.
    """

    num_experts: int
    slot: RoutingSlot
    overwritten: bool = False

    def _hold_banks(self, num_experts: int, slot: RoutingSlot) -> None:
        """Stack fresh parameters of ``num_experts`` banks where torch's layer has those of one."""
        if num_experts < 1:
            raise ValueError(f"num_experts must be at least 1, got {num_experts}")
        own: Any = self
        self.num_experts, self.slot = num_experts, slot
        for name in ("weight", "bias"):
            if getattr(own, name) is not None:
                one = getattr(own, name)
                stacked = torch.empty(num_experts * len(one), *one.shape[1:], device=one.device, dtype=one.dtype)
                own.register_parameter(name, nn.Parameter(stacked))
        own.reset_parameters()  # by the fan-in, which stacking does not change

    def _copy_into_banks(self, layer: nn.Conv2d | nn.Linear) -> None:
        """Start every bank from the weights of ``layer``."""
        own: Any = self
        with torch.no_grad():
            for name in ("weight", "bias"):
                value = getattr(layer, name)
                if value is not None:
                    getattr(own, name).copy_(value.repeat(self.num_experts, *[1] * (value.ndim - 1)))
                    getattr(own, name).requires_grad_(value.requires_grad)
        own.training = layer.training

    def banks(self) -> list[tuple[Tensor, Tensor | None]]:
        """Return each expert's weight and bias, as views of the parameters."""
        own: Any = self
        # one unbind: its gradient is one stack, where slices would add up E gradients of the parameter's whole size
        weights = own.weight.unflatten(0, (self.num_experts, -1)).unbind(0)
        biases = (
            [None] * self.num_experts if own.bias is None else own.bias.unflatten(0, (self.num_experts, -1)).unbind(0)
        )
        return [(weights[expert], biases[expert]) for expert in range(self.num_experts)]  # tracers cannot iterate

    def run_bank(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output of one expert with these weights."""
        raise NotImplementedError

    def as_column(self, values: Tensor, output: Tensor) -> Tensor:
        """Return ``values`` (R,) shaped to be combined with ``output`` (R, ...)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (R, ...) to the outputs of the experts their images were sent to."""
        dispatch = self.slot.read()
        return self._run_masked(x, dispatch) if dispatch.counts is None else self._run_sorted(x, dispatch)

    def _run_sorted(self, x: Tensor, dispatch: Dispatch) -> Tensor:
        images = len(dispatch.chosen)
        if images and len(x) % images:
            raise RuntimeError(
                f"an expert layer got {len(x)} rows for {images} images: its network mixes images, so leave it dense"
            )
        times = len(x) // images if images else 1
        assert dispatch.counts is not None
        if len(dispatch.counts) != self.num_experts:
            raise RuntimeError(f"a path among {len(dispatch.counts)} experts, for a layer of {self.num_experts}")
        parts = x.split([count * times for count in dispatch.counts])
        taken = [(part, *bank) for part, bank in zip(parts, self.banks(), strict=True) if len(part)]
        if len(taken) > 1:
            output = torch.cat([self.run_bank(*each) for each in taken])
        else:
            output = self.run_bank(x, *(taken[0][1:] if taken else self.banks()[0]))
        if dispatch.gate is None:
            return output
        gated = straight_through(output, dispatch.gate)
        return gated.clone() if self.overwritten else gated

    def _run_masked(self, x: Tensor, dispatch: Dispatch) -> Tensor:
        """The same in operations that tracers follow: every expert on every row, one output kept."""
        output, *others = [self.run_bank(x, weight, bias) for weight, bias in self.banks()]
        chosen = self.as_column(dispatch.per_row(dispatch.chosen, x.shape[0]), output)
        for expert, candidate in enumerate(others, start=1):
            output = torch.where(chosen == expert, candidate, output)
        if dispatch.gate is None:
            return output
        gate = self.as_column(dispatch.per_row(dispatch.gate, x.shape[0]), output)
        return output + output.detach() * (gate - gate.detach()).to(output.dtype)  # adds 0: a gradient and no value


class ExpertConv2d(ExpertLayer, nn.Conv2d):
    """A convolution whose weights depend on the path of the image.

    Args:
        in_channels, out_channels, kernel_size, kwargs: torch's, of one expert.
        num_experts: E.
        slot: where the network leaves the paths.
        same_padding: pad at run time as TensorFlow does, for networks that came from there.

    Attributes:
        weight: (E * out_channels, in_channels / groups, height, width), expert after expert.
        bias: (E * out_channels,) or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        *,
        num_experts: int,
        slot: RoutingSlot,
        same_padding: bool = False,
        **kwargs: Any,
    ):
        super().__init__(in_channels, out_channels, kernel_size, **kwargs)
        self.same_padding = same_padding
        self._hold_banks(num_experts, slot)

    @classmethod
    def from_layer(cls, layer: nn.Conv2d, num_experts: int, slot: RoutingSlot) -> "ExpertConv2d":
        """Return a layer each of whose experts is ``layer``."""
        bank = cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            num_experts=num_experts,
            slot=slot,
            same_padding=isinstance(layer, Conv2dSame),
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
            device=layer.weight.device,
            dtype=layer.weight.dtype,
        )
        bank._copy_into_banks(layer)
        return bank

    def run_bank(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution of (R, in_channels, h, w) with one expert's weights."""
        if self.same_padding:
            return conv2d_same(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)  # pyright: ignore[reportArgumentType]  (timm's stubs want lists)
        return self._conv_forward(x, weight, bias)

    def as_column(self, values: Tensor, output: Tensor) -> Tensor:
        """Return ``values`` as (R, 1, 1, 1)."""
        return values[:, None, None, None]

    def extra_repr(self) -> str:
        """Return torch's description and the number of experts."""
        return f"{super().extra_repr()}, num_experts={self.num_experts}"


class ExpertLinear(ExpertLayer, nn.Linear):
    """A linear layer whose weights depend on the path of the image.

    Args:
        in_features, out_features, kwargs: torch's, of one expert.
        num_experts: E.
        slot: where the network leaves the paths.

    Attributes:
        weight: (E * out_features, in_features), expert after expert.
        bias: (E * out_features,) or None.
    """

    def __init__(self, in_features: int, out_features: int, *, num_experts: int, slot: RoutingSlot, **kwargs: Any):
        super().__init__(in_features, out_features, **kwargs)
        self._hold_banks(num_experts, slot)

    @classmethod
    def from_layer(cls, layer: nn.Linear, num_experts: int, slot: RoutingSlot) -> "ExpertLinear":
        """Return a layer each of whose experts is ``layer``."""
        placement: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        bank = cls(
            layer.in_features,
            layer.out_features,
            num_experts=num_experts,
            slot=slot,
            bias=layer.bias is not None,
            **placement,
        )
        bank._copy_into_banks(layer)
        return bank

    def run_bank(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return (R, ..., in_features) times one expert's weights."""
        return F.linear(x, weight, bias)

    def as_column(self, values: Tensor, output: Tensor) -> Tensor:
        """Return ``values`` as (R, 1, ...), of as many dimensions as ``output``."""
        return values.reshape(-1, *[1] * (output.ndim - 1))

    def extra_repr(self) -> str:
        """Return torch's description and the number of experts."""
        return f"{super().extra_repr()}, num_experts={self.num_experts}"
