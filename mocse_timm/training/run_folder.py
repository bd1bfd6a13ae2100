"""The folder of one training: flags, summary, log, resumable state and the model."""

import csv
import shutil
import time
from pathlib import Path

import yaml
from accelerate import Accelerator
from timm.utils import update_summary

from mocse_timm.checks import BadInput
from mocse_timm.flags import write_yaml
from mocse_timm.training.config import TrainConfig

__all__ = ["RunFolder", "read_run_flags"]

# what makes two runs the same run: a resumed one may be longer, but not another model or other data
IDENTITY = ("model", "model_kwargs", "dataset", "img_size", "in_chans")


def read_run_flags(folder: Path) -> dict:
    """Return the flags of the run in ``folder``.

    Raises:
        BadInput: if the folder holds no run that can be continued.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise BadInput(f"--resume {folder}: no config.yaml there; give the folder of an earlier run")
    if not any((folder / name).is_dir() for name in ("state", "state.old")):
        raise BadInput(f"--resume {folder}: the run ended before its first epoch was saved; start it anew")
    return yaml.safe_load(file.read_text(encoding="utf-8"))


class RunFolder:
    """Paths of a run, and the rules for what may be written where.

    Args:
        path: the folder, which need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.summary = path / "summary.csv"
        self.log = path / "log.txt"

    @classmethod
    def for_run(cls, config: TrainConfig, image_size: int) -> "RunFolder":
        """Return the folder of a new or resumed run; nothing is written.

        Raises:
            BadInput: if the folder of a new run holds a run already, or a resumed run is of another model.
        """
        if config.resume:
            folder = cls(Path(config.resume))
            folder.check_same_run(config)
            return folder
        name = config.experiment or "-".join(
            [time.strftime("%Y%m%d-%H%M%S"), config.model.replace("/", "_"), str(image_size)]
        )
        folder = cls(Path(config.output) / name)
        if any((folder.path / part).exists() for part in ("state", "summary.csv", "model.safetensors", "config.json")):
            raise BadInput(
                f"{folder.path} already holds a run: continue it with --resume {folder.path}, "
                "or give another --experiment name"
            )
        return folder

    def check_same_run(self, config: TrainConfig) -> None:
        """Raise BadInput if the run in this folder is of another model or other data than ``config``."""
        before = read_run_flags(self.path)
        for name in IDENTITY:
            now = getattr(config, name)
            if name in before and before[name] != now:
                raise BadInput(
                    f"--resume {self.path}: that run has {config.flag(name)} {before[name]}, not {now}; "
                    "leave the flag out, or start a new run"
                )

    def create(self, config: TrainConfig) -> None:
        """Make the folder and write the flags into it.

        Raises:
            BadInput: if the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_yaml(config, self.path / "config.yaml")
        except OSError as error:
            raise BadInput(
                f"cannot write the run's folder {self.path} ({error.strerror}); give another --output"
            ) from None

    def append_summary(self, epoch: int, train: dict, evaluation: dict, lr: float) -> None:
        """Add the epoch's row: ``epoch, train_*, eval_*, lr``, as timm writes it."""
        update_summary(epoch, train, evaluation, self.summary, lr=lr)

    def drop_summary_from(self, epoch: int) -> None:
        """Remove rows of ``epoch`` and later, which a resumed run is about to write again."""
        if not self.summary.exists():
            return
        with self.summary.open(newline="") as file:
            header, *rows = csv.reader(file)
        beside = self.summary.with_suffix(".new")
        with beside.open("w", newline="") as file:
            csv.writer(file).writerows([header, *(row for row in rows if int(row[0]) < epoch)])
        beside.replace(self.summary)

    def save_state(self, accelerator: Accelerator) -> None:
        """Save everything that a continued run needs; every process takes part. The last state stays until then."""
        new, current, old = (self.path / name for name in ("state.new", "state", "state.old"))
        if accelerator.is_main_process:
            shutil.rmtree(new, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(new))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            shutil.rmtree(old, ignore_errors=True)
            if current.exists():
                current.rename(old)
            new.rename(current)
            shutil.rmtree(old, ignore_errors=True)

    def load_state(self, accelerator: Accelerator) -> None:
        """Load what :meth:`save_state` saved, by Accelerate: safetensors, and torch files read as plain tensors."""
        current, old = self.path / "state", self.path / "state.old"
        accelerator.load_state(str(current if current.is_dir() else old))
