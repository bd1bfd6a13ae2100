"""Experts side by side on CPU cores: a core for each expert in turn, instead of all cores for each small layer.

Layers of a narrow expert are too small to be worth splitting: with two threads each, ten experts of 8 channels take
as long as with one. Whole experts split well. For a GPU see :mod:`mocse_timm.models.grouped_experts`.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mocse_timm.models.cifar_net import CifarNet
from mocse_timm.models.expert_layers import ExpertLayer
from mocse_timm.models.hooks import hooks_everywhere, layers_have_hooks

__all__ = ["can_run_in_parallel", "follows_one_thread", "run_in_parallel"]

Result = TypeVar("Result")


def can_run_in_parallel(experts: Sequence[nn.Module] | nn.ModuleList, x: Tensor) -> bool:
    """Return whether threads are worth while, and nothing is at work that only sees its own thread.

    Tracing, compiling, functional transforms and dispatch modes (counters of operations, say) follow one thread.
    So does the order of random draws: experts with active dropout, or of other families than ours, take turns. With
    hooks they do, too: what a hook sees may be asked for its gradient, and here each expert has a graph of its own.
    """
    if follows_one_thread(x) or len(experts) < 2 or x.device.type != "cpu" or torch.get_num_threads() < 2:
        return False
    if not all(isinstance(expert, CifarNet) and not _draws(expert) for expert in experts):
        return False
    layers = [layer for expert in experts for layer in expert.modules()]
    if any(isinstance(layer, ExpertLayer) for layer in layers):  # they find their images' paths by the thread
        return False
    return not (hooks_everywhere() or layers_have_hooks(layers))


def follows_one_thread(x: Tensor) -> bool:
    """Return whether a tracer, compiler, transform, forward derivative or dispatch mode is at work on ``x``."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) is not Tensor:
        return True
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return True
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _draws(expert: CifarNet) -> bool:
    return expert.training and expert.head.drop.p > 0


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return ``threads`` threads that give each operation one core; after a fork a process needs its own."""
    ready = Barrier(threads)

    def one_core() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread takes its setting over at its first use; later it would be another's
        ready.wait()  # so that every thread comes into being now

    pool = ThreadPoolExecutor(threads, thread_name_prefix="experts")
    for started in [pool.submit(one_core) for _ in range(threads)]:
        started.result()
    torch.set_num_threads(threads)  # the setting above is also what threads of others would start with
    return pool


def _map(function: Callable[[int], Result], count: int) -> list[Result]:
    """Return ``function(0), ..., function(count - 1)``, run in threads that see this thread's torch settings."""
    autocast = {
        "device_type": "cpu",
        "dtype": torch.get_autocast_dtype("cpu"),
        "enabled": torch.is_autocast_enabled("cpu"),
        "cache_enabled": False,  # the cache is one for all threads, and no expert uses a weight twice
    }
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def run(index: int) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients), torch.autocast(**autocast):
            return function(index)

    return list(_pool(torch.get_num_threads(), os.getpid()).map(run, range(count)))


def _learning(experts: Sequence[nn.Module]) -> list[list[Tensor]]:
    return [[p for p in expert.parameters() if p.requires_grad] for expert in experts]


def _is_asked_for(node: Any) -> bool:
    """Return whether the backward pass under way takes a gradient to ``node``; to be called in its own thread."""
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # it does not tell of a tensor that torch.autograd.grad was given
        return True


class _Experts(torch.autograd.Function):
    """All experts as one operation: each builds a graph of its own in forward and differentiates it in backward."""

    @staticmethod
    def forward(ctx: Any, experts: Sequence[nn.Module], x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        def run(index: int) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                start = x.detach().requires_grad_(x.requires_grad)
                return start, experts[index](start)

        ctx.graphs = _map(run, len(experts))
        # not those of the backward pass: torch.func.functional_call lends parameters for the forward pass alone
        ctx.parameters = _learning(experts)
        return tuple(output.detach() for _, output in ctx.graphs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: what follows would pass for a constant
            raise RuntimeError(
                "experts that run in threads can be differentiated once only: for second derivatives call "
                "torch.set_num_threads(1), which makes them run one after the other"
            )
        wants_x = ctx.needs_input_grad[1]
        keeps = torch._C._autograd._get_current_graph_task_keep_graph()  # pyright: ignore[reportAttributeAccessIssue]  (no stub has it)
        # an attack asks for the images' gradient alone; needs_input_grad does not tell
        asked_for = map(_is_asked_for, (node for node, _ in ctx.next_functions[1:]))
        parameters = [[p if next(asked_for) else None for p in of_expert] for of_expert in ctx.parameters]

        def differentiate(index: int) -> list[Tensor | None]:
            start, output = ctx.graphs[index]
            inputs = [start if wants_x else None, *parameters[index]]
            asked = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]  # some froze since
            options = {"allow_unused": True, "retain_graph": keeps}
            found = iter(torch.autograd.grad(output, asked, gradients[index], **options) if asked else ())
            return [next(found) if tensor is not None and tensor.requires_grad else None for tensor in inputs]

        of_experts = _map(differentiate, len(ctx.graphs))
        of_each = [of_expert[0] for of_expert in of_experts if of_expert[0] is not None]
        of_x = torch.stack(of_each).sum(dim=0) if wants_x else None
        return None, of_x, *(gradient for of_expert in of_experts for gradient in of_expert[1:])


def run_in_parallel(experts: Sequence[nn.Module] | nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Return every expert's output for the same ``x``, and gradients as if they had run one after the other.

    The graph has first derivatives only, to parameters and to ``x``.

    Args:
        experts: E networks that share no parameters.
        x: (B, channels, H, W) on the CPU.

    Returns:
        E tensors.

    Raises:
        RuntimeError: from the backward pass, if it is asked for a second derivative.
    """
    networks = list(experts)
    parameters = [p for of_expert in _learning(networks) for p in of_expert]
    if torch.is_grad_enabled() and (parameters or x.requires_grad):
        return list(_Experts.apply(networks, x, *parameters))  # pyright: ignore[reportArgumentType]  (apply is typed as giving nothing)
    return _map(lambda index: networks[index](x), len(networks))
