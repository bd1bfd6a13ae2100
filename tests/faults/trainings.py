"""Trainings as processes of their own that a test can watch, stop, starve and start again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Training", "Trainings", "trainings_in", "wait_until"]

ROOT = Path(__file__).parents[2]
PATIENCE = 200  # seconds for what takes seconds on a quiet machine


def wait_until(happened: Callable[[], Any], what: str, *, seconds: float = PATIENCE, pause: float = 0.002) -> Any:
    """Return what ``happened`` returns as soon as it is true; fail, naming ``what``, if it is not in time."""
    end = time.monotonic() + seconds
    while not (result := happened()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(pause)
    return result


@dataclass
class Training:
    """One process that trains, or trained."""

    pid: int
    poll: Callable[[], int | None]  # the exit code, minus the signal's number if one ended it; None while it runs
    out: Path
    err: Path
    code: int | None = None

    def ended(self) -> bool:
        """Return True once the process is gone."""
        if self.code is None:
            self.code = self.poll()
        return self.code is not None

    def wait(self, seconds: float = PATIENCE) -> int:
        """Return the exit code, as soon as there is one."""
        wait_until(self.ended, f"end of the training (so far: {self.said})", seconds=seconds)
        assert self.code is not None
        return self.code

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or as a terminal does to it and its workers."""
        (os.killpg if group else os.kill)(self.pid, number)

    def left_nothing(self) -> bool:
        """Return True if no process of its group is left, no worker either."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    @property
    def said(self) -> str:
        """Everything that was printed."""
        return self.out.read_text() + self.err.read_text()

    @property
    def complaint(self) -> str:
        """The error, which is one line that starts with "error: "."""
        error = self.err.read_text()
        assert error.startswith("error: ") and error.count("\n") == 1, self.said
        return error


class Trainings:
    """Starts trainings, by a fork in a moment or by ``python train.py`` in seconds.

    Where the tests run as root, trainings lack root's right to write what is read-only.

    Args:
        folder: for what they print.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Training] = []
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        as_root = hasattr(os, "geteuid") and os.geteuid() == 0
        self.without_rights = ["setpriv", "--bounding-set=-dac_override"] if as_root and shutil.which("setpriv") else []
        self.bound_by_modes = not as_root or bool(self.without_rights)
        self.server = subprocess.Popen(
            [*self.without_rights, sys.executable, Path(__file__).with_name("fork_server.py")],
            cwd=ROOT,
            env={**self.environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._answer()  # its imports are done

    def _answer(self) -> dict[str, Any]:
        assert self.server.stdout
        return json.loads(self.server.stdout.readline())

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.server.stdin
        self.server.stdin.write(json.dumps(order).encode() + b"\n")
        self.server.stdin.flush()
        return self._answer()

    def start(self, *flags: str, **faults: int | None) -> Training:
        """Start a training with ``flags`` and one of the fork server's ``faults``."""
        out, err = self._prints()
        pid = self._order({"start": flags, "out": str(out), "err": str(err), **faults})["pid"]
        self.started.append(Training(pid, lambda: self._order({"poll": pid})["code"], out, err))
        return self.started[-1]

    def start_command(self, *command: str) -> Training:
        """Start ``command`` in the repository, as a user types it; ``python`` is the one that runs the tests."""
        out, err = self._prints()
        words = [sys.executable if word == "python" else word for word in command]
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                [*self.without_rights, *words],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self.started.append(Training(process.pid, process.poll, out, err))
        return self.started[-1]

    def run(self, *flags: str, **faults: int | None) -> Training:
        """Start a training and wait for its end."""
        training = self.start(*flags, **faults)
        training.wait()
        return training

    def changes(self, training: Training) -> int:
        """Return how often the ended ``training`` changed files, as ``kill_at_change`` counts."""
        return int(Path(f"{training.out}.changes").read_text())

    def _prints(self) -> tuple[Path, Path]:
        number = len(list(self.folder.glob("*.out")))
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        out.touch()
        err.touch()
        return out, err

    def close(self) -> None:
        """End whatever still runs."""
        for training in self.started:
            if not training.ended():
                with suppress(ProcessLookupError):
                    training.send(signal.SIGKILL, group=True)
                training.wait()
        assert self.server.stdin and self.server.stdout
        self.server.stdin.close()
        self.server.wait(60)
        self.server.stdout.close()


@contextmanager
def trainings_in(folder: Path) -> Iterator[Trainings]:
    """Make :class:`Trainings` for a block, and end them with it."""
    trainings = Trainings(folder)
    try:
        yield trainings
    finally:
        trainings.close()
