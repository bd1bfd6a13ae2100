"""Several processes on this machine, started as a user would start them: by ``accelerate launch``, talking by gloo."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
LAUNCHER = [sys.executable, "-m", "accelerate.commands.launch"]
# accelerate's --multi_gpu means "several processes"; without GPUs they talk by gloo
PLAIN = "--multi_gpu --mixed_precision no --dynamo_backend no".split()
ONE_MACHINE = "--num_processes 2 --num_machines 1 --main_process_port 0".split()
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "ACCELERATE_USE_CPU": "true",
    "PYTHONUNBUFFERED": "1",
    "PYTHONPATH": str(ROOT),  # scripts in tests/ use the package beside them, wherever another one is installed
}


def start(*command: str | Path, options: list[str] | None = None, **keywords: Any) -> subprocess.Popen[str]:
    """Start ``command`` in two processes, in a process group of its own, as a terminal does."""
    launch = [*LAUNCHER, *(PLAIN + ONE_MACHINE if options is None else options), *map(str, command)]
    return subprocess.Popen(
        launch,
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **keywords,
    )


def finish(launched: subprocess.Popen[str], timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Wait for a launch to end; one that takes longer is ended with all its processes, and fails the test."""
    try:
        out, err = launched.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for process in [*psutil.Process(launched.pid).children(recursive=True), launched]:
            process.kill()
        out, err = launched.communicate()
        raise AssertionError(f"still running after {timeout:g} s:\n{out}\n{err}") from None
    return subprocess.CompletedProcess(launched.args, launched.returncode, out, err)


def launch(*command: str | Path, options: list[str] | None = None, timeout: float = 240) -> str:
    """Run ``command`` in two processes to its good end and return what it printed."""
    done = finish(start(*command, options=options), timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ranks(launched: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    """Return the training processes of a launch by their number."""
    found = {}
    for child in psutil.Process(launched.pid).children():
        environment = child.environ()
        if "RANK" in environment:
            found[int(environment["RANK"])] = child
    return found


def end_within(launched: subprocess.Popen[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Wait for a launch that something has gone wrong in; all its processes have to be gone in time."""
    children = psutil.Process(launched.pid).children(recursive=True)
    done = finish(launched, seconds)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    return done


def wait_for(path: Path, launched: subprocess.Popen[str], timeout: float = 240) -> None:
    """Wait until ``path`` exists; a launch that ends before fails the test."""
    end = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come within {timeout:g} s"
        if launched.poll() is not None:
            done = finish(launched)
            raise AssertionError(f"the launch ended before there was {path}:\n{done.stdout}\n{done.stderr}")
        time.sleep(0.01)
