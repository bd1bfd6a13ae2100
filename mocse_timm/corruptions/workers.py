"""Corrupting images in several processes, each writing its rows into the file itself.

Rows travel through the file, not through a pipe, and are written with plain writes: on a full disk these fail with an
error, where writing to mapped memory would kill the process.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.corrupt import corrupt
from mocse_timm.corruptions.processes import one_core_processes

__all__ = ["Rows", "corrupt_rows", "workers"]


class Rows(NamedTuple):
    """Images ``start`` to ``stop`` of the clean file under one corruption, and where they go.

    ``offset`` is the byte of ``target`` at which the first of them begins.
    """

    clean: Path
    target: Path
    offset: int
    name: str
    severity: int
    start: int
    stop: int
    seed: int
    frost_dir: str | None


def corrupt_rows(rows: Rows) -> int:
    """Corrupt the images and write them; return how many.

    Raises:
        OSError: if they cannot be written, for example because the disk is full.
    """
    clean = np.load(rows.clean, mmap_mode="r")[rows.start : rows.stop]
    pixels = corrupt(
        np.array(clean),
        rows.name,
        rows.severity,
        seed=rows.seed,
        indices=np.arange(rows.start, rows.stop),
        frost_dir=rows.frost_dir,
    )
    with rows.target.open("r+b") as file:
        file.seek(rows.offset)
        file.write(pixels.data)
    return len(pixels)


@contextmanager
def workers(num_processes: int) -> Iterator[Callable[[Iterable[Rows]], Iterator[int]]]:
    """Give a function that has rows made in ``num_processes`` processes and gives how many are ready, in order.

    The processes begin with the rows at once. With one process there is no other: rows are made here, as their
    numbers are asked for. What has not begun when the block is left is dropped.

    Raises:
        BadInput: if a process was killed.
        OSError: while asking, if rows cannot be written.
    """
    if num_processes == 1:
        yield lambda all_rows: map(corrupt_rows, all_rows)
        return
    try:
        with one_core_processes(num_processes) as pool:

            def begin(all_rows: Iterable[Rows]) -> Iterator[int]:
                futures = [pool.submit(corrupt_rows, rows) for rows in all_rows]
                return (future.result() for future in futures)

            yield begin
    except BrokenProcessPool:
        raise BadInput(
            "a worker process was killed, perhaps for want of memory: run the command again with fewer --processes, "
            "and it goes on where it stopped"
        ) from None
