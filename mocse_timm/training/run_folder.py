"""The folder of one training: flags, summary, log, saved states and the model."""

import csv
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from timm.utils import update_summary

from mocse_timm.checks import BadInput
from mocse_timm.flags import write_yaml
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.state_files import StateFiles

__all__ = ["RunFolder", "differing_flag"]

# what makes two runs the same run: a resumed one may be longer, but not another model or other data
IDENTITY = ("model", "model_kwargs", "dataset", "img_size", "in_chans")
RESULTS = ("summary.csv", "model.safetensors", "config.json")


def _with_lists(value: Any) -> Any:
    """Return ``value`` with lists in place of tuples, at any depth: config.yaml has no tuples."""
    if isinstance(value, dict):
        return {key: _with_lists(content) for key, content in value.items()}
    return [_with_lists(content) for content in value] if isinstance(value, list | tuple) else value


def differing_flag(before: Mapping[str, Any], config: TrainConfig) -> str | None:
    """Return the first field by which ``config`` is of another model or other data than the flags ``before``."""
    now = {name: _with_lists(getattr(config, name)) for name in IDENTITY}
    return next((name for name in IDENTITY if name in before and before[name] != now[name]), None)


def _read_rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


class RunFolder:
    """Paths of a run, and the rules for what may be written where.

    Args:
        path: the folder, which need not exist.
        keep: how many saved states stay.
    """

    def __init__(self, path: Path, keep: int = 2):
        self.path = path
        self.summary = path / "summary.csv"
        self.log = path / "log.txt"
        self.best = path / "best"
        self.states = StateFiles(path / "states", keep)

    @classmethod
    def for_run(cls, config: TrainConfig, image_size: int) -> "RunFolder":
        """Return the folder of a new or resumed run; nothing is written.

        Raises:
            BadInput: if the folder of a new run holds a run already, or a resumed run is of another model.
        """
        if config.resume:
            folder = cls(Path(config.resume), config.checkpoint_hist)
            folder._check_same_run(config)
            return folder
        name = config.experiment or "-".join(
            [time.strftime("%Y%m%d-%H%M%S"), config.model.replace("/", "_"), str(image_size)]
        )
        folder = cls(Path(config.output) / name, config.checkpoint_hist)
        if folder.can_be_continued() or any((folder.path / part).exists() for part in RESULTS):
            raise BadInput(
                f"{folder.path} already holds a run: continue it with --resume {folder.path}, "
                "or give another --experiment name"
            )
        return folder

    def can_be_continued(self) -> bool:
        """Return whether there are flags and a saved state."""
        return (self.path / "config.yaml").is_file() and bool(self.states.states())

    def flags(self) -> dict[str, Any]:
        """Return the flags of the run.

        Raises:
            BadInput: if the folder holds no run that can be continued.
        """
        file = self.path / "config.yaml"
        if not file.is_file():
            raise BadInput(f"--resume {self.path}: no config.yaml there; give the folder of an earlier run")
        if not self.states.states():
            raise BadInput(f"--resume {self.path}: the run ended before its first state was saved; start it anew")
        try:
            flags = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadInput(f"{file} cannot be read ({' '.join(str(error).split())}); start a new run") from None
        if not isinstance(flags, dict):
            raise BadInput(f"{file} must hold 'flag: value' lines, got a {type(flags).__name__}; start a new run")
        return flags

    def _check_same_run(self, config: TrainConfig) -> None:
        before = self.flags()
        name = differing_flag(before, config)
        if name is not None:
            raise BadInput(
                f"--resume {self.path}: that run has {config.flag(name)} {before[name]}, not {getattr(config, name)}; "
                "leave the flag out, or start a new run"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and keep other trainings out of it inside the block; the lock ends with the process.

        Raises:
            BadInput: if another training holds it, or the folder cannot be written.
        """
        lock = FileLock(self.path / ".lock", blocking=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise BadInput(
                f"{self.path} is held by a training that is still going on: wait for it, or give another --experiment"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            lock.release()

    def _unwritable(self, error: Exception) -> BadInput:
        reason = getattr(error, "strerror", None) or str(error)
        return BadInput(
            f"cannot write the run's folder {self.path} ({reason}): make room there, or give another --output; a run "
            "with saved states goes on with --resume"
        )

    def remove_unfinished(self) -> None:
        """Remove what a killed training was writing: states, and weights beside those they were to replace."""
        self.states.remove_unfinished()
        for folder in (self.path, self.best):
            for leftover in folder.glob(".saving-*"):  # see mocse_timm.models.saving
                shutil.rmtree(leftover, ignore_errors=True)

    def write_flags(self, config: TrainConfig) -> None:
        """Write config.yaml, from which a resumed run reads its flags.

        Raises:
            BadInput: if the folder cannot be written.
        """
        with self._beside(self.path / "config.yaml") as beside:
            write_yaml(replace(config, resume=""), beside)

    def write_summary(self, epoch: int, train: dict, evaluation: dict, lr: float) -> None:
        """Add the epoch's row, ``epoch, train_*, eval_*, lr`` as timm writes it, to those of the epochs before.

        Rows of ``epoch`` and later, which a resumed run writes again, go. Columns that some rows lack stay empty there.

        Raises:
            BadInput: if the folder cannot be written.
        """
        with self._beside(self.summary) as beside:
            update_summary(epoch, train, evaluation, beside, lr=lr)
            before = _read_rows(self.summary) if self.summary.exists() else []
            rows = [*(row for row in before if int(row["epoch"]) < epoch), *_read_rows(beside)]
            with beside.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
                writer.writeheader()
                writer.writerows(rows)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a refusal by the disk inside the block into one sentence.

        Raises:
            BadInput: if something cannot be written.
        """
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise self._unwritable(error) from None

    @contextmanager
    def _beside(self, file: Path) -> Iterator[Path]:
        """Yield the path to write instead of ``file``, which takes its place at the end of the block."""
        beside = file.with_name(f".{file.name}.new")
        with self.writing():
            try:
                beside.unlink(missing_ok=True)
                yield beside
                os.replace(beside, file)
            finally:
                beside.unlink(missing_ok=True)
