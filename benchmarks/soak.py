"""Half an hour of training, watched from outside: memory, open files and speed must stay as they are.

``python benchmarks/soak.py`` runs train.py on digits, with validation and a saved state every epoch, and samples the
process and its children. The time after the first epoch is divided into windows: in each, memory must stay within 2 %
of the first window's, throughput within 5 %, and open files may not grow. The exit code is 1 if one of them does not
hold. ``--minutes 2 --windows 3`` is a trial.

A processor that is cool, or shared with others, does not keep its own speed for half an hour. So the training is halted
(SIGSTOP) four times in every window while a yardstick runs, a fixed number of steps of a dense network: throughput is
judged relative to the yardstick's. Printed beside are throughput and yardstick as they are, and by how much the
straight line that fits throughput best changes, which tells a training that slows from windows that stray.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import timm
import torch

import mocse_timm  # noqa: F401  (registers the yardstick's network)

ROOT = Path(__file__).parents[1]
TRAINING = (
    "--model mocse_preact18_shared --model-kwargs width=0.25 expert_width=0.125 --dataset digits --img-size 16 "
    "--batch-size 64 --epochs 1000000 --lr 0.01 --sched none --model-ema"
).split()


@dataclass(frozen=True)
class Sample:
    """What the training held at one moment."""

    seconds: float
    epoch: int  # complete epochs
    mib: float  # resident memory of the process and its children
    files: int  # open file descriptors of the same


@dataclass(frozen=True)
class Reading:
    """What the yardstick said at one moment, the training halted."""

    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Window:
    """What was seen in one stretch of epochs."""

    first: int
    last: int
    mib: float  # median
    files: int  # smallest: while a state is written there are more for a moment
    images_per_second: float  # median over the epochs
    yardstick: float  # images per second, median of its readings


class Yardstick:
    """Steps of a small dense network, always the same work: what the machine can do now."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = timm.create_model("cifar_preact18", width=0.25)
        self.images = torch.rand(64, 3, 16, 16)
        self.read(steps=5)  # warms up

    def read(self, steps: int = 25) -> float:
        """Return the images per second of ``steps`` steps, by the median."""
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            self.model(self.images).square().mean().backward()
            seconds.append(time.perf_counter() - start)
        return len(self.images) / statistics.median(seconds)


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


def sample(process: psutil.Process, start: float, summary: Path) -> Sample | None:
    """Return what ``process`` holds now, or None if it is ending."""
    try:
        family = [process, *process.children(recursive=True)]
        mib = sum(member.memory_info().rss for member in family) / 2**20
        files = sum(member.num_fds() for member in family)
    except psutil.NoSuchProcess:
        return None
    return Sample(time.monotonic() - start, len(throughputs(summary)), mib, files)


def throughputs(summary: Path) -> list[float]:
    """Return the images per second of every epoch in summary.csv so far."""
    if not summary.exists():
        return []
    with summary.open(newline="") as file:
        return [float(row["train_images_per_second"]) for row in csv.DictReader(file)]


def watch(folder: Path, seconds: float, every: float, pause: float) -> tuple[list[Sample], list[Reading], list[float]]:
    """Train in ``folder`` for ``seconds``; return the samples, the yardstick's readings, the epochs' images per second.

    A sample is taken ``every`` so many seconds; between two readings there are ``pause`` seconds.
    """
    command = [sys.executable, str(ROOT / "train.py"), *TRAINING, "--output", str(folder), "--experiment", "soak"]
    samples: list[Sample] = []
    readings: list[Reading] = []
    yardstick = Yardstick()
    summary = folder / "soak" / "summary.csv"
    with (folder / "output.txt").open("w") as output:
        training = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        process, start = psutil.Process(training.pid), time.monotonic()
        try:
            while training.poll() is None and time.monotonic() - start < seconds:
                if found := sample(process, start, summary):
                    samples.append(found)
                now = time.monotonic() - start
                if found and found.epoch >= 1 and (not readings or now >= readings[-1].seconds + pause):
                    with halted(process):
                        readings.append(Reading(now, yardstick.read()))
                time.sleep(every)
        finally:
            training.terminate()
            code = training.wait(timeout=60)
    if code != 143:
        sys.exit(f"the training ended with exit code {code}:\n{(folder / 'output.txt').read_text()[-2000:]}")
    return samples, readings, throughputs(summary)


def windows(samples: list[Sample], readings: list[Reading], speeds: list[float], count: int) -> list[Window]:
    """Divide the time after the first epoch into ``count`` windows of as many samples."""
    settled = [s for s in samples if s.epoch >= 1]
    size = len(settled) // count
    found = []
    for start in range(0, size * count, size):
        part = settled[start : start + size]
        first, last = part[0].epoch, max(part[-1].epoch, part[0].epoch + 1)
        speed = statistics.median(speeds[first:last])
        inside = [r.images_per_second for r in readings if part[0].seconds <= r.seconds <= part[-1].seconds]
        memory, files = statistics.median(s.mib for s in part), min(s.files for s in part)
        found.append(Window(first, last, memory, files, speed, statistics.median(inside)))
    return found


def drift(values: list[float]) -> float:
    """Return the largest distance of any of ``values`` from the first, in percent."""
    return max(abs(value - values[0]) for value in values) / values[0] * 100


def trend(values: list[float]) -> tuple[float, float]:
    """Return by how much a straight line through ``values`` changes from first to last, and the standard error of that.

    Both in percent of the line's start, by least squares; the error takes the distances from the line for chance.
    """
    steps = np.arange(len(values))
    (slope, start), covariance = np.polyfit(steps, values, 1, cov=True)
    return tuple(100 * steps[-1] * change / start for change in (slope, covariance[0, 0] ** 0.5))


def judge(found: list[Window]) -> bool:
    """Print the windows and the verdicts; return whether all hold."""
    print(f"{'epochs':>14} {'memory, MiB':>12} {'open files':>11} {'images/s':>9} {'yardstick':>10}")
    for window in found:
        print(
            f"{window.first:>6} to {window.last:<5} {window.mib:>11.1f} {window.files:>11} "
            f"{window.images_per_second:>9.0f} {window.yardstick:>10.0f}"
        )
    memory = drift([w.mib for w in found])
    speed = drift([w.images_per_second / w.yardstick for w in found])
    change, error = trend([w.images_per_second for w in found])
    print(
        f"by itself, throughput is within {drift([w.images_per_second for w in found]):.1f} %, "
        f"the yardstick's within {drift([w.yardstick for w in found]):.1f} %; "
        f"by its line, throughput changes by {change:+.1f} ± {error:.1f} %"
    )
    files = max(w.files for w in found) - found[0].files
    verdicts = {
        f"memory within {memory:.2f} % (goal 2)": memory <= 2,
        f"open files: {files:+d} (goal 0)": files <= 0,
        f"throughput over the yardstick's within {speed:.1f} % (goal 5)": speed <= 5,
    }
    for sentence, holds in verdicts.items():
        print(f"{'holds' if holds else 'FAILS'}: {sentence}")
    return all(verdicts.values())


def draw(samples: list[Sample], readings: list[Reading], speeds: list[float], path: Path) -> None:
    """Draw memory, open files and images per second over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = figure.subplots(4, 1)
    minutes = [s.seconds / 60 for s in samples]
    axes[0].plot(minutes, [s.mib for s in samples])
    axes[0].set(ylabel="memory, MiB", ylim=(0, None))
    axes[1].plot(minutes, [s.files for s in samples])
    axes[1].set(ylabel="open files", xlabel="minutes", ylim=(0, None))
    axes[2].plot(range(1, len(speeds) + 1), speeds)
    axes[2].set(ylabel="images/s", xlabel="epoch", ylim=(0, None))
    axes[3].plot([r.seconds / 60 for r in readings], [r.images_per_second for r in readings])
    axes[3].set(ylabel="yardstick, images/s", xlabel="minutes", ylim=(0, None))
    figure.savefig(path)


def main() -> None:
    """Train, print the table and end with exit code 1 if anything moved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between samples")
    parser.add_argument("--windows", type=int, default=9, help="rows of the table")
    parser.add_argument("--plot", type=Path, help="picture of all samples, such as soak.png")
    arguments = parser.parse_args()
    if arguments.windows < 3:
        parser.error(f"--windows is {arguments.windows}: give at least 3, for a line through them and its error")
    seconds = 60 * arguments.minutes
    print(f"{' '.join(TRAINING)}, {arguments.minutes:g} minutes, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        pause = seconds / arguments.windows / 4
        samples, readings, speeds = watch(Path(folder), seconds, arguments.every, pause)
    if arguments.plot:
        draw(samples, readings, speeds, arguments.plot)
    if len(speeds) < 3 * arguments.windows:
        sys.exit(f"{len(speeds)} epochs are too few for {arguments.windows} windows: give more --minutes")
    sys.exit(0 if judge(windows(samples, readings, speeds, arguments.windows)) else 1)


if __name__ == "__main__":
    main()
