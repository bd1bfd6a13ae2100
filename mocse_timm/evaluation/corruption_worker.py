"""Corruptions made in another process while the model works on the ones before."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.corrupt import corrupt
from mocse_timm.corruptions.processes import one_core_processes

__all__ = ["Task", "corrupted"]

AHEAD = 4  # batches that wait for the model; a batch of 256 images of 32x32 is 0.8 MB


@dataclass(frozen=True, eq=False)
class Task:
    """One batch to corrupt: images (B, H, W, 3) uint8, and the place of each in its data set, (B,)."""

    images: NDArray[np.uint8]
    indices: NDArray[np.int64]
    name: str
    severity: int
    tag: Any = None
    """For whoever asked; it stays in this process."""


def _in_workers(tasks: Iterable[Task], workers: int, options: dict[str, Any]) -> Generator[tuple[Task, Any]]:
    try:
        with one_core_processes(workers) as pool:
            waiting: deque[tuple[Task, Future[Any]]] = deque()
            for task in tasks:
                waiting.append((task, pool.submit(corrupt, *_call(task), indices=task.indices, **options)))
                if len(waiting) >= AHEAD * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for task, future in waiting:
                yield task, future.result()
    except BrokenProcessPool:
        raise BadInput(
            "the process that makes the corrupted images was stopped (was there enough memory?); "
            "try a smaller --batch-size, or --corruption-workers 0 to make them in the main process"
        ) from None


def _call(task: Task) -> tuple[NDArray[np.uint8], str, int]:
    return task.images, task.name, task.severity


def corrupted(
    tasks: Iterable[Task], *, workers: int, seed: int, frost_dir: str | Path | None
) -> Generator[tuple[Task, NDArray[np.uint8]]]:
    """Yield every task with its corrupted images (B, H, W, 3) uint8, in order.

    Close the iterator, or let it run out, to end the processes.

    Args:
        tasks: taken a few at a time, ahead of what is yielded.
        workers: processes; 0 to corrupt in this one. Their number does not change the images.
        seed: of all draws.
        frost_dir: the folder of frost pictures.

    Raises:
        BadInput: what corrupting raises, or if a process was killed.
    """
    options = {"seed": seed, "frost_dir": frost_dir}
    if workers:
        yield from _in_workers(tasks, workers, options)
        return
    for task in tasks:
        yield task, corrupt(*_call(task), indices=task.indices, **options)
