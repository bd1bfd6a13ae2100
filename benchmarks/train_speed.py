#!/usr/bin/env python3
"""Where a training step's time goes, as ratios measured in one run.

    python benchmarks/train_speed.py             # all of it, some minutes on 2 cores
    python benchmarks/train_speed.py --steps 3   # quicker, noisier

Prints the data pipeline's share of a step of the smallest model; the throughput of train.py's loop over a bare loop;
the throughput of MoCSE over that of the dense network with the same MACs, for each precision and memory layout and at
each network's own fastest; and what ``import mocse_timm`` adds to ``import timm``. What is compared runs in turns, so a
drifting machine hurts all alike.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Callable

import timm
import torch
from accelerate import Accelerator
from timing import alternate, at_least_one
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mocse_timm  # noqa: F401  (registers the models)
from mocse_timm.data import MemoryImages, MemoryLoader
from mocse_timm.training.build import build_trainer
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import train_epoch
from mocse_timm.training.recipes import build_recipe

SETTINGS = {
    "fp32": (False, torch.contiguous_format),
    "fp32 channels_last": (False, torch.channels_last),
    "bf16": (True, torch.contiguous_format),
    "bf16 channels_last": (True, torch.channels_last),
}


def million_macs(model: nn.Module) -> float:
    """Return the multiply-accumulates of one 32x32 image, in millions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.rand(1, 3, 32, 32))
    return counter.get_total_flops() / 2e6


def dense_twin(macs: float) -> tuple[list[float], float]:
    """Return stage widths of a dense PreAct-18, in channels that are multiples of 8, whose MACs come nearest."""
    candidates = []
    for widths in itertools.product([w / 8 for w in range(1, 9)], repeat=4):
        if list(widths) == sorted(widths) and widths[-1] - widths[0] <= 0.125:
            candidates.append(list(widths))
    costs = [(million_macs(timm.create_model("cifar_preact18", width=widths)), widths) for widths in candidates]
    found, widths = min(costs, key=lambda cost: abs(cost[0] - macs))
    return widths, found


def training_step(model: nn.Module, images: Tensor, labels: Tensor, amp: bool) -> Callable[[], None]:
    """Return a function that does one optimiser step by the recipe train.py would use."""
    (phase,) = build_recipe(TrainConfig(), model.train())

    def step() -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=amp):
            loss = phase.loss(model, images, labels).loss
        loss.backward()
        phase.optimizer.step()
        phase.optimizer.zero_grad()

    return step


def expert_throughput(images: Tensor, labels: Tensor, repeats: int, with_bf16: bool) -> None:
    """Print MoCSE's training throughput over the dense network's of the same MACs."""
    torch.manual_seed(0)
    macs = million_macs(timm.create_model("mocse_preact18"))
    widths, twin_macs = dense_twin(macs)
    print(f"mocse_preact18, {macs:.0f} MMACs, against cifar_preact18 width={widths}, {twin_macs:.0f} MMACs:")
    best: dict[str, float] = {}
    for name, (amp, layout) in SETTINGS.items():
        if amp and not with_bf16:
            continue
        batch = images.to(memory_format=layout)
        experts = timm.create_model("mocse_preact18").to(memory_format=layout)  # pyright: ignore[reportCallIssue]  (not in torch's stubs)
        dense = timm.create_model("cifar_preact18", width=widths).to(memory_format=layout)  # pyright: ignore[reportCallIssue]  (not in torch's stubs)
        times = alternate(
            {
                "experts": training_step(experts, batch, labels, amp),
                "dense": training_step(dense, batch, labels, amp),
            },
            repeats,
        )
        ratio = times["dense"] / times["experts"]
        print(f"  {name:20} experts {times['experts']:.3f} s, dense {times['dense']:.3f} s a step: {ratio:.2f}")
        for network, seconds in times.items():
            best[network] = min(seconds, best.get(network, seconds))
    print(f"  each at its fastest: {best['dense'] / best['experts']:.2f} of the dense throughput (goal 0.80)")


def data_share(images: Tensor, labels: Tensor, repeats: int) -> None:
    """Print the data pipeline's share of a step of the smallest model."""
    small = timm.create_model("cifar_preact18", width=0.125)
    stored = MemoryImages(torch.randint(0, 256, (20 * len(images), 3, 32, 32), dtype=torch.uint8), labels.repeat(20))
    loader = MemoryLoader(stored, batch_size=len(images), training=True)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    step = training_step(small, images, labels, amp=True)
    times = alternate({"data": lambda: next(batches), "step": step}, 5 * repeats)
    share = times["data"] / (times["data"] + times["step"])
    print(
        f"data pipeline: {1000 * times['data']:.1f} ms a batch beside {1000 * times['step']:.0f} ms of the smallest "
        f"model: {100 * share:.1f} % (goal under 5 %)"
    )


def loop_throughput(images: Tensor, labels: Tensor, repeats: int) -> None:
    """Print the throughput of train.py's loop over that of the barest loop, both on the smallest model."""
    batches = 8
    stored = MemoryImages(
        torch.randint(0, 256, (batches * len(images), 3, 32, 32), dtype=torch.uint8), labels.repeat(batches)
    )
    loader = MemoryLoader(stored, batch_size=len(images), training=True)
    config = TrainConfig(model="cifar_preact18", log_interval=1)
    model = timm.create_model("cifar_preact18", width=0.125)
    trainer = build_trainer(config, model, Accelerator(cpu=True), batches)
    twin = timm.create_model("cifar_preact18", width=0.125)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def bare() -> None:
        for pictures, targets in loader:
            loss = nn.functional.cross_entropy(twin(pictures), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def ours() -> None:
        train_epoch(trainer, loader)
        trainer.progress.complete_epoch()

    times = alternate({"ours": ours, "bare": bare}, repeats)
    print(f"train.py's loop: {times['bare'] / times['ours']:.2f} of the throughput of a bare loop, smallest model")


def import_cost(repeats: int) -> None:
    """Print what ``import mocse_timm`` takes after ``import timm``, in fresh processes."""
    code = "import timm, time; start = time.perf_counter(); import mocse_timm; print(time.perf_counter() - start)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(repeats)]
    print(f"import mocse_timm adds {statistics.median(seconds):.3f} s to import timm (goal under 0.3 s)")


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=at_least_one, default=256)
    parser.add_argument("--steps", type=at_least_one, default=7, help="timed steps of each network and setting")
    parser.add_argument("--no-bf16", action="store_true", help="for CPUs without AMX, where bf16 takes very long")
    arguments = parser.parse_args()
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    print(f"batch {arguments.batch_size}, {threads}, torch {torch.__version__}")
    images = torch.rand(arguments.batch_size, 3, 32, 32)
    labels = torch.randint(0, 10, (arguments.batch_size,))
    data_share(images, labels, arguments.steps)
    loop_throughput(images, labels, arguments.steps)
    expert_throughput(images, labels, arguments.steps, not arguments.no_bf16)
    import_cost(min(5, arguments.steps))


if __name__ == "__main__":
    main()
