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

__all__ = ["can_run_in_parallel", "follows_one_thread", "run_in_parallel"]

Result = TypeVar("Result")


def can_run_in_parallel(experts: Sequence[nn.Module] | nn.ModuleList, x: Tensor) -> bool:
    """Return whether threads are worth while, and nothing is at work that only sees its own thread.

    Tracing, compiling, functional transforms and dispatch modes (counters of operations, say) follow one thread.
    So does the order of random draws: experts with active dropout, or of other families than ours, take turns.
    """
    if follows_one_thread(x) or len(experts) < 2 or x.device.type != "cpu" or torch.get_num_threads() < 2:
        return False
    return all(isinstance(expert, CifarNet) and not _draws(expert) for expert in experts)


def follows_one_thread(x: Tensor) -> bool:
    """Return whether a tracer, compiler, functional transform or dispatch mode is at work on ``x``."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) is not Tensor:
        return True
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return True
    return torch._C._are_functorch_transforms_active()


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


class _Experts(torch.autograd.Function):
    """All experts as one operation: each builds a graph of its own in forward and differentiates it in backward."""

    @staticmethod
    def forward(ctx: Any, experts: Sequence[nn.Module], x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        def run(index: int) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                start = x.detach().requires_grad_(x.requires_grad)
                return start, experts[index](start)

        ctx.graphs = _map(run, len(experts))
        ctx.experts = experts
        return tuple(output.detach() for _, output in ctx.graphs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: what follows would pass for a constant
            raise RuntimeError(
                "experts that run in threads can be differentiated once only: for second derivatives call "
                "torch.set_num_threads(1), which makes them run one after the other"
            )
        wants_x = ctx.needs_input_grad[1]

        def differentiate(index: int) -> list[Tensor | None]:
            start, output = ctx.graphs[index]
            inputs = [start] if wants_x else []
            inputs += [p for p in ctx.experts[index].parameters() if p.requires_grad]
            return list(torch.autograd.grad(output, inputs, gradients[index], allow_unused=True))

        of_experts = _map(differentiate, len(ctx.experts))
        of_x = None
        if wants_x:
            of_each = [gradient for of_expert in of_experts if (gradient := of_expert.pop(0)) is not None]
            of_x = torch.stack(of_each).sum(dim=0)
        return None, of_x, *(gradient for of_expert in of_experts for gradient in of_expert)


def run_in_parallel(experts: Sequence[nn.Module] | nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Return every expert's output for the same ``x``, and gradients as if they had run one after the other.

    The graph can be differentiated once, to parameters and to ``x``.

    Args:
        experts: E networks that share no parameters.
        x: (B, channels, H, W) on the CPU.

    Returns:
        E tensors.

    Raises:
        RuntimeError: from the backward pass, if it is asked for a second derivative.
    """
    networks = list(experts)
    parameters = [p for expert in networks for p in expert.parameters() if p.requires_grad]
    if torch.is_grad_enabled() and (parameters or x.requires_grad):
        return list(_Experts.apply(networks, x, *parameters))  # pyright: ignore[reportArgumentType]  (apply is typed as giving nothing)
    return _map(lambda index: networks[index](x), len(networks))
