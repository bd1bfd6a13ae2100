"""The saved states of a run on disk: named by progress, checksummed, the last few kept.

A state is a folder ``epoch-0002-step-000060``: two whole epochs and 60 optimiser steps. It is written under another
name and renamed when it is complete, so that a process killed at any moment leaves only whole states under the real
names. Checksums find what happens to the files afterwards.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from mocse_timm.checkpoints.tensors import sha256

__all__ = ["Damaged", "StateFiles"]

CHECKSUMS = "checksums.json"
NAME = re.compile(r"epoch-(\d{4,})-step-(\d{6,})")
UNFINISHED = (".new", ".old")  # being written, being removed


class Damaged(ValueError):
    """Files of a state are not as they were written: the message says which."""


def _files(folder: Path) -> dict[str, Path]:
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    found.pop(CHECKSUMS, None)
    return found


class StateFiles:
    """The states in ``folder``, which need not exist.

    Args:
        folder: holds one folder for each state.
        keep: how many of the last states stay; at least 1.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = folder
        self.keep = keep
        self._damaged: list[Path] = []  # that were found so, and go once there is a newer state

    @staticmethod
    def name(epoch: int, step: int) -> str:
        """Return the name of the state after ``epoch`` whole epochs and ``step`` steps of the next."""
        return f"epoch-{epoch:04d}-step-{step:06d}"

    @staticmethod
    def reached(state: Path) -> tuple[int, int]:
        """Return the whole epochs and the steps of the next one that ``state`` is named by."""
        found = NAME.fullmatch(state.name)
        assert found is not None
        return int(found[1]), int(found[2])

    def states(self) -> list[Path]:
        """Return the states under their real names, the newest first; whether they are damaged is not looked at."""
        if not self.folder.is_dir():
            return []
        return sorted((p for p in self.folder.iterdir() if NAME.fullmatch(p.name)), key=self.reached, reverse=True)

    def remove_unfinished(self) -> None:
        """Remove what a killed process was writing or removing."""
        for name in UNFINISHED:
            for leftover in self.folder.glob(f"*{name}"):
                shutil.rmtree(leftover, ignore_errors=True)

    def unfinished(self, epoch: int, step: int) -> Path:
        """Return the folder in which the state of this name is written."""
        return self.folder / (self.name(epoch, step) + ".new")

    def begin(self, unfinished: Path) -> None:
        """Make the folder ``unfinished``, empty; :meth:`complete` gives it its name."""
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)

    def complete(self, unfinished: Path) -> Path:
        """Checksum the files of ``unfinished``, give it its name and return it; damaged and the oldest states go."""
        checksums = {name: sha256(path) for name, path in _files(unfinished).items()}
        (unfinished / CHECKSUMS).write_text(json.dumps(checksums, indent=1), encoding="utf-8")
        state = unfinished.with_name(unfinished.name.removesuffix(".new"))
        self._remove(state)  # of an earlier attempt that could not be used, or that came to the same point
        unfinished.rename(state)
        for useless in self._damaged:
            self._remove(useless)
        self._damaged.clear()
        older = [other for other in self.states() if self.reached(other) < self.reached(state)]
        for surplus in older[self.keep - 1 :]:
            self._remove(surplus)
        return state

    def _remove(self, state: Path) -> None:
        """Remove a state, its name first: killed in between, no half of it is taken for a state."""
        if state.exists():
            going = state.with_name(state.name + ".old")
            shutil.rmtree(going, ignore_errors=True)
            state.rename(going)
            shutil.rmtree(going, ignore_errors=True)

    def newest_whole(self, damaged: Callable[[Path, str], None]) -> Path | None:
        """Return the newest state whose files are as they were written, or None.

        Args:
            damaged: told each newer state that cannot be used, and what is wrong with it.
        """
        for state in self.states():
            try:
                self.check(state)
            except Damaged as error:
                damaged(state, str(error))
                self._damaged.append(state)
            else:
                return state
        return None

    @staticmethod
    def check(state: Path) -> None:
        """Compare the files of ``state`` with its checksums.

        Raises:
            Damaged: naming the file and what is wrong.
        """
        try:
            checksums = json.loads((state / CHECKSUMS).read_text(encoding="utf-8"))
            if not isinstance(checksums, dict) or not checksums:
                raise Damaged(f"{CHECKSUMS} does not hold checksums")
            found = _files(state)
            for name in sorted(checksums.keys() | found.keys()):
                if name not in found:
                    raise Damaged(f"{name} is missing")
                if name not in checksums:
                    raise Damaged(f"{name} is not one of its files")
                if sha256(found[name]) != checksums[name]:
                    raise Damaged(f"the checksum of {name} differs")
        except OSError as error:
            raise Damaged(f"{Path(error.filename or state).name} cannot be read: {error.strerror}") from None
        except ValueError as error:
            if isinstance(error, Damaged):
                raise
            raise Damaged(f"{CHECKSUMS} is not JSON") from None
