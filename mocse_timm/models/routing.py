"""From a router's scores to which expert each image takes, and how layers deep in a network learn of it.

Letters: B images, E experts, R rows of a layer's input; R is B, or a multiple where a layer sees windows of images.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map_only

from mocse_timm.checks import BadInput

__all__ = ["Dispatch", "RoutingSlot", "route_batch", "runs_masked"]


@dataclass(frozen=True, eq=False)
class Dispatch:
    """The path of each image of one batch.

    Args:
        chosen: (B,) int64, the expert each image takes.
        gate: (B,), the router's probability of that expert where gradients flow back to the router; None where none do.
        counts: images of each expert, E numbers, for a batch sorted by expert; None for a batch in its own order,
            whose layers run every expert and keep the chosen one's output.
    """

    chosen: Tensor
    gate: Tensor | None
    counts: tuple[int, ...] | None

    @staticmethod
    def per_row(values: Tensor, rows: Any) -> Tensor:
        """Repeat ``values`` (B,) for the ``rows`` of a layer's input, which keeps an image's rows together."""
        if isinstance(rows, int) and rows == 0:
            return values
        times = rows // values.shape[0]
        return values[:, None].expand(-1, times).reshape(-1)


class RoutingSlot:
    """Where the layers of a network find the dispatch of the forward pass they are part of.

    One slot is shared by all layers of a network and filled by a ``with`` block around their run. Each thread has its
    own content, blocks may be nested, and copies of a network get an empty slot of their own. Reading it empty is an
    error: a layer that runs outside its network would otherwise use some earlier batch's paths.
    """

    def __init__(self) -> None:
        self._by_thread = threading.local()
        self._traced: Dispatch | None = None  # torch.compile follows attributes, not threads

    def __reduce__(self) -> tuple[type, tuple]:
        return RoutingSlot, ()

    def read(self) -> Dispatch:
        """Return the dispatch of the running forward pass.

        Raises:
            RuntimeError: if there is none.
        """
        found = self._traced if torch.compiler.is_compiling() else getattr(self._by_thread, "dispatch", None)
        if found is None:
            raise RuntimeError("an expert layer ran outside its network, which chooses the experts: call the network")
        return found

    def swap(self, dispatch: Dispatch | None) -> Dispatch | None:
        """Hold ``dispatch`` from now on, in this thread, and return what was there before."""
        if torch.compiler.is_compiling():
            before, self._traced = self._traced, dispatch
        else:
            before, self._by_thread.dispatch = getattr(self._by_thread, "dispatch", None), dispatch
        return before

    def filled(self, dispatch: Dispatch) -> "_Filled":
        """Return a ``with`` block that holds ``dispatch``; afterwards what was there before is there again."""
        return _Filled(self, dispatch)

    def recall_in_backward(self, output: Tensor, dispatch: Dispatch) -> None:
        """Hold ``dispatch`` again while gradients flow back from ``output``.

        Layers under activation checkpointing run a second time then, long after their ``with`` block. Gradients
        leave a network at its output, and the passes of one batch go back one after the other, the last one first, so
        each pass finds its own dispatch.
        """
        if not output.requires_grad:
            return

        def recall(_: Tensor) -> None:
            content = vars(self._by_thread)  # of the thread that runs the backward pass
            content["dispatch"] = dispatch
            torch.autograd.Variable._execution_engine.queue_callback(lambda: content.pop("dispatch", None))

        output.register_hook(recall)


class _Filled:
    """The block of :meth:`RoutingSlot.filled`: a class, since torch.compile before 2.7 cannot follow generators."""

    def __init__(self, slot: RoutingSlot, dispatch: Dispatch) -> None:
        self.slot, self.dispatch = slot, dispatch
        self.before: Dispatch | None = None

    def __enter__(self) -> None:
        self.before = self.slot.swap(self.dispatch)

    def __exit__(self, *_: object) -> None:
        self.slot.swap(self.before)


def runs_masked(x: Any) -> bool:
    """Return whether ``x`` is only a stand-in for images: under tracers, compilers, transforms, or without values."""
    return (
        isinstance(x, fx.Proxy)
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or x.is_meta
        or isinstance(x, torch._subclasses.FakeTensor)
        or torch._C._are_functorch_transforms_active()
    )


def _probabilities(scores: Any) -> Any:
    if isinstance(scores, fx.Proxy):  # has no type yet
        return scores.softmax(dim=1)
    return scores.softmax(dim=1, dtype=torch.promote_types(scores.dtype, torch.float32))


def _counted(scores: Tensor, chosen: Tensor) -> tuple[int, ...]:
    """Return the images of each expert; raise BadInput if a score is not finite. The device is waited for once."""
    broken = (~scores.isfinite()).any(dim=1).sum()
    *counts, broken = torch.cat([torch.bincount(chosen, minlength=scores.shape[1]), broken[None]]).tolist()
    if broken:
        raise BadInput(
            f"the router's scores are NaN or infinite for {broken} of {len(scores)} images: its training has diverged "
            "(lower --router-lr or --router-clip-grad), or its weights are broken"
        )
    return tuple(counts)


def route_batch(
    slot: RoutingSlot,
    scores: Tensor,
    x: Tensor,
    run: Callable[[Tensor], Any],
    *,
    gated: bool = True,
    in_order: bool = False,
) -> Any:
    """Return ``run(x)``, each image on the path of the expert with the largest score.

    The batch is sorted by expert once, so that every layer finds an expert's images side by side, and what comes out
    is put back in order. Where no values are at hand (:func:`runs_masked`), or somebody looks at what is inside, the
    batch stays as it is, and layers run all experts.

    Args:
        slot: shared by the layers that ``run`` uses.
        scores: (B, E).
        x: (B, ...), the batch.
        run: maps the batch to a tensor, or a structure of tensors, of B rows.
        gated: give the scores a gradient, straight through every layer: that of outputs multiplied by the probability
            softmax(scores) of the path taken. That is how a router learns, and not the gradient of what is computed,
            in which a path is a constant. A probability and not the score, since the gradient of a score as the gate
            never ends: it grows with the score, and the router leaves the finite numbers.
        in_order: leave the batch as it is, at the cost of all experts.

    Raises:
        ValueError: if ``scores`` are not one row an image.
        BadInput: if a score is not finite; the largest of such scores would mean nothing.
    """
    if runs_masked(x):
        chosen = scores.argmax(dim=1)
        gated = gated and (isinstance(x, fx.Proxy) or scores.requires_grad)
        gate = _probabilities(scores).gather(1, chosen[:, None]).squeeze(1) if gated else None
        with slot.filled(Dispatch(chosen, gate, None)):
            return run(x)
    if scores.ndim != 2 or len(scores) != len(x) or not scores.shape[1]:
        raise ValueError(
            f"a router must give scores ({len(x)}, experts) for {len(x)} images, this one gave {tuple(scores.shape)}"
        )
    chosen = scores.argmax(dim=1)
    counts = _counted(scores, chosen)
    gate = _probabilities(scores).gather(1, chosen[:, None]).squeeze(1) if gated and scores.requires_grad else None
    if in_order:
        dispatch, back = Dispatch(chosen, gate, None), None
    else:
        order = chosen.argsort(stable=True)
        dispatch, back = Dispatch(chosen[order], None if gate is None else gate[order], counts), order.argsort()
        x = x[order]
    with slot.filled(dispatch):
        outputs = run(x)

    def put_back(output: Tensor) -> Tensor:
        slot.recall_in_backward(output, dispatch)
        return output if back is None else output[back]

    return tree_map_only(Tensor, put_back, outputs)
