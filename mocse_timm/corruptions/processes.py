"""Worker processes that take one core each, load little, and never outlive their parent."""

import os
import runpy
import signal
import sys
import types
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

__all__ = ["one_core_processes"]

START = Path(__file__).with_name("worker_start.py")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def _surroundings_of_workers() -> Iterator[None]:
    """Inside the block, processes that start see one thread, no Ctrl-C, and nothing of the main program.

    Without that last, each would run the main program's file once more, with all that it imports.
    """
    environment = {name: os.environ.get(name) for name in ONE_THREAD}
    main = sys.modules["__main__"]
    can_block = hasattr(signal, "pthread_sigmask")  # not on Windows
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if can_block else None
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def one_core_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Give an executor with ``count`` processes; what has not begun when the block is left is dropped.

    They are started afresh and not forked: a copy of a process whose OpenCV or torch has threads would wait for ever
    for threads that were not copied. Functions given to them may use this room and what lies on floors below, without
    torch.
    """
    pool = ProcessPoolExecutor(
        count, mp_context=get_context("spawn"), initializer=runpy.run_path, initargs=(str(START),)
    )
    try:
        with _surroundings_of_workers():
            for _ in range(count):  # each call starts one process, as none is idle yet
                pool.submit(os.getpid)
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
