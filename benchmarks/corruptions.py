"""How fast images of 32 x 32 are corrupted, against the slow twin of the tests: ``python benchmarks/corruptions.py``.

Prints images a second on one core, by corruption: the mean over the five severities and the slowest of them, beside the
twin's (one image, mostly one pixel at a time); then the seconds that all severities of all corruptions take in several
processes of one core each, and the memory that one of them needs at its peak; and how much longer validate.py takes for
all cells, made by a process beside the model, than the model alone for as many images.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from accelerate import Accelerator
from timing import alternate, at_least_one

from mocse_timm.corruptions.corrupt import available, corrupt, corruption
from mocse_timm.corruptions.extra import import_cv2
from mocse_timm.corruptions.frost import SCALES, find_frost_textures, missing_frost
from mocse_timm.corruptions.names import CORRUPTIONS, SEVERITIES
from mocse_timm.data import MemoryImages, build_loader
from mocse_timm.evaluation.corruption_scoring import answer_cells
from mocse_timm.evaluation.corruption_source import GeneratedSource, Share, choose_images

FULL = 10_000
"""Images of a test set of CIFAR-10 or CIFAR-100."""

BATCH = 1000


class Speeds(NamedTuple):
    """Images a second: ours, mean over severities and at the slowest of them, and the twin's mean."""

    mean: float
    slowest: float
    twin: float


def from_tests(module: str) -> Any:
    """Return a helper module of the tests."""
    tests = str(Path(__file__).resolve().parents[1] / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    return import_module(module)


def one_core_processes(count: int) -> ProcessPoolExecutor:
    """Return new processes in which neither NumPy nor OpenCV has more than one thread."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # read by the new processes when they import NumPy
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=begin_worker)


def begin_worker() -> None:
    """Give OpenCV one thread in this process."""
    import_cv2().setNumThreads(1)


def slowly(images: np.ndarray, name: str, severity: int, folder: Path | None) -> None:
    """Corrupt images by the twin, as a loop over images would."""
    slow_corruption = from_tests("slow_corruptions").slow_corruption
    sample = corruption(name, folder).sample
    options = {"folder": folder, "scale": SCALES[32]} if name == "frost" else {}
    for index, image in enumerate(images):
        draws = sample(np.random.default_rng(index), 1, 32, severity) if sample else ()
        slow_corruption(image, name, severity, tuple(array[0] for array in draws), **options)


def measure(name: str, images: np.ndarray, few: np.ndarray, repeats: int, folder: Path | None) -> Speeds:
    """Return the speeds of one corruption, ours on ``images`` and the twin's on ``few``, called in turns."""
    ours, twins = [], []
    for severity in SEVERITIES:
        steps = {
            "ours": partial(corrupt, images, name, severity, frost_dir=folder),
            "twin": partial(slowly, few, name, severity, folder),
        }
        seconds = alternate(steps, repeats)
        ours.append(seconds["ours"] / len(images))
        twins.append(seconds["twin"] / len(few))
    return Speeds(len(ours) / sum(ours), 1 / max(ours), len(twins) / sum(twins))


def print_speeds(
    names: tuple[str, ...], images: np.ndarray, few: np.ndarray, repeats: int, folder: Path | None
) -> None:
    """Print one line a corruption, and the slowest of all."""
    slowest = (float("inf"), "")
    print(f"{'images/s on one core':20} {'mean':>8} {'slowest':>8} {'twin':>8} {'faster':>8}")
    with one_core_processes(1) as pool:
        for name in names:
            speeds = pool.submit(measure, name, images, few, repeats, folder).result()
            slowest = min(slowest, (speeds.slowest, name))
            faster = f"{speeds.mean / speeds.twin:.1f}x"
            print(f"{name:20} {speeds.mean:8.0f} {speeds.slowest:8.0f} {speeds.twin:8.0f} {faster:>8}", flush=True)
    print(f"slowest: {slowest[1]}, {slowest[0]:.0f} images/s (goal 3000)")


def resident_peak() -> int:
    """Return the most bytes this process has held so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class Work(NamedTuple):
    """What one batch took: the process's peak of bytes before and after, and seconds of its core."""

    before: int
    after: int
    seconds: float


def work(images: np.ndarray, name: str, severity: int, start: int, folder: Path | None) -> Work:
    """Corrupt one batch and return what it took."""
    before, began = resident_peak(), time.process_time()
    corrupt(images, name, severity, indices=range(start, start + len(images)), frost_dir=folder)
    return Work(before, resident_peak(), time.process_time() - began)


def print_total(names: tuple[str, ...], images: np.ndarray, processes: int, folder: Path | None) -> None:
    """Print what all cells take in ``processes`` processes, once these have started, and their memory."""
    with one_core_processes(processes) as pool:
        first = [pool.submit(work, images[:50], "fog", 1, 0, folder) for _ in range(8 * processes)]
        idle = min(future.result().before for future in first)
        began = time.perf_counter()
        futures = [
            pool.submit(work, images[start : start + BATCH], name, severity, start, folder)
            for name in names
            for severity in SEVERITIES
            for start in range(0, len(images), BATCH)
        ]
        done = [future.result() for future in futures]
        seconds = time.perf_counter() - began
    peak, busy = max(batch.after for batch in done), sum(batch.seconds for batch in done)
    whole = f"{seconds:.1f} s in {processes} processes ({busy:.1f} s of a core; goal 65 for 19 x 5 x {FULL})"
    if len(images) != FULL or len(names) != len(CORRUPTIONS):
        scaled = seconds * FULL * len(CORRUPTIONS) / (len(images) * len(names))
        whole += f"; in proportion, 19 x 5 x {FULL}: {scaled:.1f} s"
    print(f"{len(names)} x 5 x {len(images)} images: {whole}")
    print(
        f"memory of a process: {(peak - idle) / 2**20:.0f} MiB beyond the {idle / 2**20:.0f} of its imports (goal 1024)"
    )


def print_validation(names: tuple[str, ...], images: np.ndarray, repeats: int, frost_dir: str | None) -> None:
    """Print the seconds of scoring all cells over those of the bare network on as many images."""
    device = torch.device("cpu")
    split = MemoryImages(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.zeros(len(images)).long())
    model = timm.create_model("cifar_preact18", width=0.375).to(memory_format=torch.channels_last).eval()
    loader = partial(build_loader, training=False, batch_size=256, image_size=32)
    everything = choose_images(len(images), None)
    options: Any = {"side": 32, "resizing": split.resizing, "frost_dir": frost_dir}
    source = GeneratedSource(split, names, SEVERITIES, everything, Share(), loader, device, **options)
    batches = list(loader(split))

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(len(names) * len(SEVERITIES)):
                for batch, _ in batches:
                    model(batch.to(memory_format=torch.channels_last)).softmax(dim=1).max(dim=1)

    def validate() -> None:
        answer_cells(model, source, device=device, accelerator=Accelerator(), channels_last=True)

    seconds = alternate({"bare": bare, "validate": validate}, repeats)
    found = f"{seconds['validate']:.1f} s over {seconds['bare']:.1f} s, {seconds['validate'] / seconds['bare']:.2f}"
    cells = f"{len(names)} x 5 x {len(images)} images"
    print(f"validate.py over cifar_preact18 of width 0.375 alone, {cells}: {found} (goal 1.25)")


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=at_least_one, default=FULL, help="images in each cell of the total")
    parser.add_argument(
        "--timed-images", type=at_least_one, default=500, help="images in each timed call by corruption"
    )
    parser.add_argument("--twin-images", type=at_least_one, default=2, help="images in each timed call of the twin")
    parser.add_argument("--repeats", type=at_least_one, default=3, help="timed calls of each; the median counts")
    parser.add_argument(
        "--scored-images", type=at_least_one, default=256, help="images in each cell that a model scores"
    )
    parser.add_argument("--processes", type=at_least_one, default=2)
    parser.add_argument("--frost-dir", help="folder of the photographs that frost needs")
    flags = parser.parse_args()
    names, folder = available(flags.frost_dir), find_frost_textures(flags.frost_dir)
    if folder is None:
        print(f"{len(names)} of {len(CORRUPTIONS)} corruptions: {missing_frost(flags.frost_dir)}")
    pictures = from_tests("corruption_images").natural_spectra(200)
    images, timed = (np.resize(pictures, (count, 32, 32, 3)) for count in (flags.images, flags.timed_images))
    print_speeds(names, timed, pictures[: flags.twin_images], flags.repeats, folder)
    print_total(names, images, flags.processes, folder)
    print_validation(names, images[: flags.scored_images], flags.repeats, flags.frost_dir)


if __name__ == "__main__":
    main()
