"""Half an hour of training, watched from outside: memory, open files and speed must stay as they are.

``python benchmarks/soak.py`` runs train.py on digits, with validation and a saved state every epoch, and samples the
process and its children. The time after the first epoch is divided into nine windows: in each, memory must stay within
2 % of the first window's, and open files may not grow. Throughput must stay within 5 % from third to third. The exit
code is 1 if one of them does not hold. ``--minutes 3`` is a trial.

A processor that is cool, or shared with others, does not keep its own speed for half an hour, nor for a few seconds. So
the training is halted (SIGSTOP) after every epoch while a yardstick runs, a fixed number of steps of a dense network;
an epoch's speed is the yardstick's time, by the mean of before and after it, over the epoch's. A third of half an hour
has about a hundred epochs, a window a third of them: standard errors are printed, and what the windows differ by, too.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
import timm
import torch

import mocse_timm  # noqa: F401  (registers the yardstick's network)

ROOT = Path(__file__).parents[1]
TRAINING = (
    "--model mocse_preact18_shared --model-kwargs width=0.25 expert_width=0.125 --dataset digits --img-size 16 "
    "--batch-size 64 --epochs 1000000 --lr 0.01 --sched none --model-ema"
).split()
WINDOWS, THIRDS = 9, 3
MEASURED = ("seconds", "yardstick", "speed")  # of an epoch
T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """What the training held at one moment."""

    seconds: float
    mib: float  # resident memory of the process and its children
    files: int  # open file descriptors of the same


@dataclass(frozen=True)
class Epoch:
    """One epoch after the first, with its validation and its saved state."""

    end: float  # seconds since the start
    seconds: float  # what it took, halts left out
    yardstick: float  # seconds, the mean of the readings before and after it

    @property
    def speed(self) -> float:
        """Its speed in yardsticks per epoch."""
        return self.yardstick / self.seconds


@dataclass
class Watched:
    """All that was seen of one training."""

    samples: list[Sample] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)


class Yardstick:
    """Steps of a small dense network, always the same work: what the machine can do now."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = timm.create_model("cifar_preact18", width=0.25)
        self.images = torch.rand(64, 3, 16, 16)
        self.read()  # warms up

    def read(self, steps: int = 20) -> float:
        """Return the seconds that ``steps`` steps take."""
        start = time.perf_counter()
        for _ in range(steps):
            self.model(self.images).square().mean().backward()
        return time.perf_counter() - start


@contextmanager
def halted(process: psutil.Process) -> Iterator[None]:
    """Stop ``process`` and its children for the time of the block."""
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.suspend()
    try:
        yield
    finally:
        for member in family:
            member.resume()


def sample(process: psutil.Process, start: float) -> Sample | None:
    """Return what ``process`` holds now, or None if it is ending."""
    try:
        family = [process, *process.children(recursive=True)]
        mib = sum(member.memory_info().rss for member in family) / 2**20
        files = sum(member.num_fds() for member in family)
    except psutil.NoSuchProcess:
        return None
    return Sample(time.monotonic() - start, mib, files)


def complete(summary: Path) -> int:
    """Return how many epochs summary.csv has."""
    return max(0, summary.read_bytes().count(b"\n") - 1) if summary.exists() else 0


def watch(folder: Path, seconds: float, every: float) -> Watched:
    """Train in ``folder`` for ``seconds``, looked at ``every`` so many seconds; return what was seen."""
    command = [sys.executable, str(ROOT / "train.py"), *TRAINING, "--output", str(folder), "--experiment", "soak"]
    found, yardstick, summary = Watched(), Yardstick(), folder / "soak" / "summary.csv"
    with (folder / "output.txt").open("w") as output:
        training = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        process, start = psutil.Process(training.pid), time.monotonic()
        count, begin, before = 0, start, 0.0
        try:
            while training.poll() is None and time.monotonic() - start < seconds:
                if (now := complete(summary)) > count:
                    end = time.monotonic()
                    with halted(process):
                        after = yardstick.read()
                    if count >= 1:
                        each = (end - begin) / (now - count)
                        found.epochs.append(Epoch(end - start, each, (before + after) / 2))
                    count, begin, before = now, time.monotonic(), after
                if count >= 1 and (held := sample(process, start)):
                    found.samples.append(held)
                time.sleep(every)
        finally:
            training.terminate()
            code = training.wait(timeout=60)
    if code != 143:
        sys.exit(f"the training ended with exit code {code}:\n{(folder / 'output.txt').read_text()[-2000:]}")
    return found


def parts(values: list[T], count: int) -> list[list[T]]:
    """Divide ``values`` into ``count`` parts in their order, as equal as they can be."""
    return [values[len(values) * k // count : len(values) * (k + 1) // count] for k in range(count)]


def drift(values: list[float]) -> float:
    """Return the largest distance of any of ``values`` from the first, in percent."""
    return max(abs(value - values[0]) for value in values) / values[0] * 100


def standard_error(values: list[float]) -> float:
    """Return the standard error of the median of ``values``, in percent of it; outliers do not count for more."""
    low, middle, high = statistics.quantiles(values, n=4)
    return 100 * 1.2533 * (high - low) / 1.349 / len(values) ** 0.5 / middle


def judge(found: Watched) -> bool:
    """Print the windows and the verdicts; return whether all hold."""
    print("       minutes  memory, MiB  open files  epochs  s/epoch  yardstick  speed")
    rows = []
    for held, epochs in zip(parts(found.samples, WINDOWS), parts(found.epochs, WINDOWS), strict=True):
        # the fewest files: while a state is written there are more for a moment
        memory, files = statistics.median(s.mib for s in held), min(s.files for s in held)
        seconds, yardstick, speed = (statistics.median(getattr(e, of) for e in epochs) for of in MEASURED)
        rows.append((memory, files, seconds, yardstick, speed))
        print(
            f"{held[0].seconds / 60:>6.1f} to {held[-1].seconds / 60:<4.1f} {memory:>12.1f} {files:>11} "
            f"{len(epochs):>7} {seconds:>8.2f} {yardstick:>10.2f} {speed:>6.3f}"
        )
    memory, files, seconds, yardstick, speed = (list(column) for column in zip(*rows, strict=True))
    thirds = [[epoch.speed for epoch in part] for part in parts(found.epochs, THIRDS)]
    speeds = [statistics.median(third) for third in thirds]
    print(
        f"over the windows, seconds per epoch are within {drift(seconds):.1f} %, "
        f"the yardstick's {drift(yardstick):.1f} %, speed {drift(speed):.1f} %"
    )
    changes = ", ".join(f"{100 * (later / speeds[0] - 1):+.1f} %" for later in speeds[1:])
    errors = ", ".join(f"{standard_error(third):.1f} %" for third in thirds)
    print(f"the later thirds' speed changes by {changes}; standard errors of the thirds {errors}")
    more = max(files) - files[0]
    verdicts = {
        f"memory within {drift(memory):.2f} % (goal 2)": drift(memory) <= 2,
        f"open files: {more:+d} (goal 0)": more <= 0,
        f"speed over the yardstick's within {drift(speeds):.1f} % from third to third (goal 5)": drift(speeds) <= 5,
    }
    for sentence, holds in verdicts.items():
        print(f"{'holds' if holds else 'FAILS'}: {sentence}")
    return all(verdicts.values())


def draw(found: Watched, path: Path) -> None:
    """Draw memory, open files and speeds over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    at, ends = [s.seconds / 60 for s in found.samples], [epoch.end / 60 for epoch in found.epochs]
    axes[0].plot(at, [s.mib for s in found.samples])
    axes[0].set(ylabel="memory, MiB", ylim=(0, None))
    axes[1].plot(at, [s.files for s in found.samples])
    axes[1].set(ylabel="open files", ylim=(0, None))
    axes[2].plot(ends, [epoch.seconds for epoch in found.epochs], label="epoch")
    axes[2].plot(ends, [epoch.yardstick for epoch in found.epochs], label="yardstick")
    axes[2].set(ylabel="seconds", ylim=(0, None))
    axes[2].legend()
    axes[3].plot(ends, [epoch.speed for epoch in found.epochs])
    axes[3].set(ylabel="yardstick / epoch", xlabel="minutes", ylim=(0, None))
    figure.savefig(path)


def main() -> None:
    """Train, print the table and end with exit code 1 if anything moved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=0.1, help="seconds between looks")
    parser.add_argument("--plot", type=Path, help="picture of all samples, such as soak.png")
    arguments = parser.parse_args()
    print(f"{' '.join(TRAINING)}, {arguments.minutes:g} minutes, {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = watch(Path(folder), 60 * arguments.minutes, arguments.every)
    if arguments.plot:
        draw(found, arguments.plot)
    if len(found.epochs) < 2 * WINDOWS:
        sys.exit(f"{len(found.epochs)} epochs are too few for {WINDOWS} windows: give more --minutes")
    sys.exit(0 if judge(found) else 1)


if __name__ == "__main__":
    main()
