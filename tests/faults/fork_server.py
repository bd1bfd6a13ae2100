"""Start trainings without the seconds that imports take: ``python fork_server.py``, an order a line, as JSON.

``{"start": [flags of train.py], "out": FILE, "err": FILE}`` answers ``{"pid": PID}``: a process of its own, leader of
its own group, forked from this one, which has imported everything and computed nothing. ``{"poll": PID}`` answers
``{"code": CODE}``: the exit code, minus the signal's number if one ended it, or null while it runs.

An order to start may hold faults, exact where one sent from outside comes a little earlier or later:

- ``"kill_at_change": N``: SIGKILL just before Python changes files or folders for the N-th time: opens one for writing,
  makes, renames or removes one. A training that ends before writes the number of its changes to OUT.changes.
- ``"largest_file": BYTES``: no file may grow larger (RLIMIT_FSIZE), as on a disk that is full there.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from mocse_timm.training.run import main as train

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"}


class ChangeCounter:
    """Counts this process's changes of files, and ends it at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.count = 0
        self.owner = os.getpid()  # and not the workers that load images
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR) and arguments[0] != os.devnull
        if (writes or event in CHANGES) and os.getpid() == self.owner:
            self.count += 1
            if self.count == self.kill_at:
                os.kill(self.owner, signal.SIGKILL)


def become_a_training(order: dict[str, Any]) -> int:
    """Turn this process into ``python train.py FLAGS`` and return its exit code."""
    os.setsid()
    for number, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["train.py", *order["start"]]
    if order.get("largest_file") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"], resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    changes = ChangeCounter(order.get("kill_at_change"))
    code = train()
    count = changes.count
    if order.get("largest_file") is None:
        Path(order["out"] + ".changes").write_text(str(count))
    return code


def poll(pid: int) -> int | None:
    """Return the exit code of the training, or None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> int:
    """Follow orders until the input ends; in a fork, train."""
    print(json.dumps({"ready": os.getpid()}), flush=True)
    while line := sys.stdin.readline():
        order = json.loads(line)
        if "start" in order:
            pid = os.fork()
            if pid == 0:
                return become_a_training(order)
            answer = {"pid": pid}
        else:
            answer = {"code": poll(order["poll"])}
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
