"""What sorting images by expert saves, as ratios measured in one run: ``python benchmarks/dispatch.py``.

ResNet-18 at ratio 0.5, fp32: an AdvMoE against itself with every expert run and masked, in the AdvMoE authors' way (one
convolution of all experts, times the chosen ones, summed) and in ours for tracers; against the thin dense network with
the same router beside it; its training memory against the thin network's; and evaluation under attack against the bare
loops of others. What is compared runs in turns, so a drifting machine hurts all alike.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import timm
import torch
import torch.nn.functional as F
from timing import alternate, at_least_one, device
from torch import Tensor, nn

import mocse_timm  # noqa: F401  (registers the models)
from mocse_timm.attacks import autoattack, pgd_linf
from mocse_timm.models import routing
from mocse_timm.models.expert_layers import ExpertConv2d
from mocse_timm.models.routers import Router

EPSILON = 8 / 255


class Even(nn.Module):
    """A router whose work is done and whose answer is replaced: the first ``used`` experts take turns."""

    def __init__(self, num_experts: int, used: int):
        super().__init__()
        self.router, self.used = Router(num_experts), used

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (B, E) that spread the batch evenly."""
        scores = self.router(x)
        chosen = F.one_hot(torch.arange(len(x), device=x.device) % self.used, scores.shape[1])
        return scores * 0 + chosen.to(scores.dtype)


class ThinAndRouter(nn.Module):
    """The dense network of one expert's size, and the router's work beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.thin: Any = timm.create_model("cifar_resnet18", width=0.5, stem_width=1.0)
        self.router = Router(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; the scores add 0 to them."""
        return self.thin(x) + 0 * self.router(x).sum()


def advmoe(num_experts: int, used: int | None = None) -> Any:
    """Return an AdvMoE whose experts, or the first ``used`` of them, get equally many images."""
    model: Any = timm.create_model("advmoe_resnet18", num_experts=num_experts)
    model.router = Even(num_experts, used or num_experts)
    return model


def all_in_one(layer: Any, x: Tensor) -> Tensor:
    """What an expert convolution gives, as the AdvMoE authors compute it; the gate's gradient as there."""
    dispatch = layer.slot.read()
    gate = F.one_hot(dispatch.chosen, layer.num_experts).to(x.dtype)
    if dispatch.gate is not None:
        gate = gate * (1 + dispatch.gate - dispatch.gate.detach())[:, None]
    every = layer._conv_forward(x, layer.weight, layer.bias).unflatten(1, (layer.num_experts, -1))
    return (every * gate[:, :, None, None, None]).sum(1)


def as_images(model: Any, images: Tensor) -> Any:
    """Return ``model`` on the device and in the memory format of ``images``."""
    layout = torch.contiguous_format if images.is_contiguous() else torch.channels_last
    return model.to(images.device, memory_format=layout)


@contextmanager
def masked(authors: bool) -> Iterator[None]:
    """Run every expert on every image inside the block."""
    with patch.object(routing, "runs_masked", lambda _: True):
        if authors:
            with patch.object(ExpertConv2d, "forward", all_in_one):
                yield
        else:
            yield


def inference(model: nn.Module, images: Tensor) -> Callable[[], None]:
    """Return a function that runs the model without gradients."""
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            model(images)

    return run


def training(model: nn.Module, images: Tensor) -> Callable[[], None]:
    """Return a function that does one step of plain gradient descent."""
    model.train()
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
    labels = torch.arange(len(images), device=images.device) % 10

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return run


def under_mask(run: Callable[[], None], authors: bool) -> Callable[[], None]:
    """Return ``run`` with every expert run on every image."""

    def masked_run() -> None:
        with masked(authors):
            run()

    return masked_run


def against_masked(images: Tensor, repeats: int) -> None:
    """Print how much faster sorting is than masking."""
    goals = {
        ("inference", 2): 1.8,
        ("inference", 8): 5.0,
        ("training, router fixed", 2): 2.0,
        ("training, router fixed", 8): 5.0,
        ("training, all", 2): 2.0,
        ("training, all", 8): 5.0,
    }
    for (kind, experts), goal in goals.items():
        model = as_images(advmoe(experts), images)
        model.router.requires_grad_(kind == "training, all")
        run = (inference if kind == "inference" else training)(model, images)
        runs = {"sorted": run, "authors": under_mask(run, True), "where": under_mask(run, False)}
        times = alternate(runs, repeats)
        ratio, other = times["authors"] / times["sorted"], times["where"] / times["sorted"]
        seconds = f"sorted {times['sorted']:.3f} s, masked {times['authors']:.3f} s"
        print(f"  {kind}, E = {experts}: {seconds}: {ratio:.2f} (goal {goal}); against our own masked form {other:.2f}")


def against_thin(images: Tensor, large: Tensor, repeats: int) -> None:
    """Print the speed of AdvMoE over the thin network and router, and how its cost grows with the experts in use."""
    for batch, counts in ((images, (1, 2, 4, 8)), (large, (1, 16))):
        runs = {f"E = {count}": inference(as_images(advmoe(count), batch), batch) for count in counts}
        if batch is images:
            runs["thin + router"] = inference(as_images(ThinAndRouter(), batch), batch)
            runs["E = 8, two in use"] = inference(as_images(advmoe(8, 2), batch), batch)
        times = alternate(runs, repeats)
        print(f"  batch {len(batch)}: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in times.items()))
        if batch is images:
            print(f"  speed of E = 2 over thin + router: {times['thin + router'] / times['E = 2']:.2f} (goal 0.90)")
        most = f"E = {counts[-1]}"
        print(f"  cost of {most} over E = 1: {times[most] / times['E = 1']:.2f} (goal 1.15)")


def resident(which: str) -> int:
    """Return this process's resident bytes: VmRSS now, VmHWM at their peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


def peak_memory(which: str, batch: int) -> int:
    """Return the bytes that a training step adds to this process at its peak, the model's own included."""
    before = resident("VmRSS")
    images = torch.rand(batch, 3, 32, 32)
    training(advmoe(8) if which == "advmoe" else ThinAndRouter(), images)()
    return resident("VmHWM") - before


def memory(batch: int) -> None:
    """Print the peak memory of a training step at E = 8 against the thin network's and the banks' size."""
    peaks = {}
    for which in ("advmoe", "thin"):
        command = [sys.executable, __file__, "--peak", which, "--batch-size", str(batch)]
        peaks[which] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    model = advmoe(8)
    banks = sum(model.body.get_submodule(name).weight.nbytes for name in model.expert_layers)
    ratio = peaks["advmoe"] / (peaks["thin"] + banks)
    sizes = f"E = 8 {peaks['advmoe'] / 2**20:.0f} MiB, thin {peaks['thin'] / 2**20:.0f}, banks {banks / 2**20:.0f}"
    print(f"  {sizes}: {ratio:.2f} (goal below 1.5)")


def bare_pgd(model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    """The shortest loop that is PGD, for comparison."""
    attacked = (images + EPSILON * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    for _ in range(steps):
        attacked.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(attacked), labels), attacked)
        attacked = attacked.detach() + 2 / 255 * slope.sign()
        attacked = images + (attacked - images).clamp(-EPSILON, EPSILON)
        attacked = attacked.clamp(0, 1)
    return attacked


def attacks(images: Tensor, repeats: int) -> None:
    """Print the speed of our PGD and AutoAttack over a bare loop's and pyautoattack's."""
    from pyautoattack import AutoAttack

    model = as_images(advmoe(2), images).eval()
    labels = torch.arange(len(images), device=images.device) % 10

    def theirs() -> None:
        adversary = AutoAttack(model, norm="Linf", eps=EPSILON, device=images.device, seed=0)
        adversary.run_standard_evaluation(images, labels, batch_size=len(images))

    options = {"epsilon": EPSILON, "steps": 20, "step_size": 2 / 255}
    times = alternate(
        {
            "bare PGD-20": lambda: bare_pgd(model, images, labels, 20),
            "our PGD-20": lambda: pgd_linf(model, images, labels, **options),
            "pyautoattack": theirs,
            "our AutoAttack": lambda: autoattack(model, images, labels, epsilon=EPSILON),
        },
        repeats,
    )
    print(f"  PGD-20: {times['bare PGD-20'] / times['our PGD-20']:.2f} of a bare loop's speed (goal 0.95)")
    print(f"  AutoAttack: {times['pyautoattack'] / times['our AutoAttack']:.2f} of pyautoattack's (goal 0.95)")


def main() -> None:
    """Measure all of it and print one line a ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=at_least_one, default=128)
    parser.add_argument(
        "--repeats", type=at_least_one, default=5, help="timed calls of each function; the median counts"
    )
    parser.add_argument("--device", type=device, default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument(
        "--no-attacks", action="store_true", help="leave out the evaluation under attack, the longest part"
    )
    parser.add_argument("--peak", choices=["advmoe", "thin"], help=argparse.SUPPRESS)
    flags = parser.parse_args()
    torch.manual_seed(0)
    if flags.peak:
        print(peak_memory(flags.peak, flags.batch_size))
        return
    layout = torch.channels_last if flags.channels_last else torch.contiguous_format
    sizes = (flags.batch_size, 4 * flags.batch_size)
    images, large = (torch.rand(n, 3, 32, 32, device=flags.device).to(memory_format=layout) for n in sizes)
    where = f"{flags.device}, {torch.get_num_threads()} threads, {str(layout).removeprefix('torch.')}"
    print(f"ResNet-18, ratio 0.5, batch {flags.batch_size}, fp32, {where}")
    print("sorted against masked:")
    against_masked(images, flags.repeats)
    print("against the thin dense network with the router:")
    against_thin(images, large, flags.repeats)
    if flags.device == "cpu":
        print("peak memory of a training step:")
        memory(flags.batch_size)
    if not flags.no_attacks:
        print("attacks:")
        attacks(images, max(1, flags.repeats // 3))


if __name__ == "__main__":
    main()
