"""When a training's state is saved, by all its processes together."""

import errno
import os
import shlex
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import Tensor

from mocse_timm.checks import BadInput, Stopped
from mocse_timm.data.loaders import Loader
from mocse_timm.training.loop import Trainer
from mocse_timm.training.processes import launcher
from mocse_timm.training.run_folder import RunFolder
from mocse_timm.training.signals import StopSignals

__all__ = ["Saver"]


def _resume_command(folder: Path, accelerator: Accelerator) -> str:
    return f"{launcher(accelerator)} train.py --resume {shlex.quote(str(folder))}"


def _refusal(error: Exception) -> str | None:
    """Return why the disk refused to be written, or None if ``error`` is about something else."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    by_torch = any(sign in str(error) for sign in ("PytorchStreamWriter", "unexpected pos", "iostream error"))
    return str(error).splitlines()[0] if by_torch or isinstance(error, SafetensorError) else None


def _refuse_files_cut_short(state: Path) -> None:
    """Raise OSError for a file of torch's without its end: torch 2.6 is silent if the disk is full there.

    Its files are zips, whose list of contents comes last.
    """
    for file in state.rglob("*"):
        if file.suffix in (".bin", ".pkl", ".pt") and not zipfile.is_zipfile(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))


class Saver:
    """Saves the state of a training where it is due, and ends the training in good order after a signal.

    Processes must agree: each asks at the same steps, and they exchange what they know. On a GPU that is only every
    ``--log-interval`` steps, where the loop waits for the device anyway.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, signals: StopSignals) -> None:
        self.trainer = trainer
        self.folder = folder
        self.signals = signals
        count, unit = trainer.config.save_every
        self._steps = int(count) if unit == "steps" else None
        self._seconds = 60 * count if unit == "minutes" else None
        self._last_time = time.monotonic()
        self._last_state = (trainer.progress.epoch, trainer.progress.step)
        costly = trainer.accelerator.num_processes > 1 and trainer.accelerator.device.type != "cpu"
        self._ask_every = trainer.config.log_interval if costly else 1

    def _agreed(self) -> tuple[int, bool]:
        """Return the signal that came, or 0, and whether time for a save has come, the same in every process."""
        accelerator = self.trainer.accelerator
        number = int(self.signals.received or 0)
        late = self._seconds is not None and time.monotonic() - self._last_time >= self._seconds
        if accelerator.num_processes == 1:
            return number, late
        # a signal may come to any process; the clock is the main one's
        mine = torch.tensor([[number, late and accelerator.is_main_process]], device=accelerator.device)
        number, late = cast(Tensor, accelerator.gather(mine)).amax(dim=0).tolist()
        return number, bool(late)

    def after_step(self) -> None:
        """Save if it is time to.

        Raises:
            Stopped: after a signal, the state being saved.
            BadInput: if the state cannot be written.
        """
        updates = self.trainer.progress.updates
        number, late = self._agreed() if updates % self._ask_every == 0 else (0, False)
        if number or late or (self._steps is not None and updates % self._steps == 0):
            self.save()
        if number:
            self._stop(number)

    def before_results(self) -> None:
        """Save if nothing was saved yet: a run that has results is never overwritten, so it must be one to continue.

        Raises:
            BadInput: if the state cannot be written.
        """
        if self._last_state == (0, 0):
            self.save()

    def watched(self, loader: Loader) -> Iterator[Any]:
        """Yield the batches of a validation, which a signal ends between two of them.

        Raises:
            Stopped: as :meth:`after_step`; the continued run validates anew.
        """
        accelerator = self.trainer.accelerator
        lengths = cast(Tensor, accelerator.gather(torch.tensor([len(loader)], device=accelerator.device)))
        common = int(lengths.min())  # processes may have one batch more or fewer, and must ask equally often
        for index, batch in enumerate(loader):
            number = self._agreed()[0] if index < common and index % self._ask_every == 0 else 0
            if number:
                self.save()
                self._stop(number)
            yield batch

    def _stop(self, number: int) -> None:
        accelerator = self.trainer.accelerator
        accelerator.end_training()
        message = f"stopped; continue with: {_resume_command(self.folder.path, accelerator)}"
        raise Stopped(message if accelerator.is_main_process else "", signal.Signals(number))

    def save(self) -> None:
        """Save everything that a continued run needs; every process takes part.

        Raises:
            BadInput: if the disk refuses it, or losses or weights are not finite; the states before stay.
        """
        accelerator, progress, files = self.trainer.accelerator, self.trainer.progress, self.folder.states
        now = (progress.epoch, progress.step)
        self._last_time = time.monotonic()
        if now == self._last_state:
            return
        if progress.sums.totals:  # the loop looks at the loss less often
            self.trainer.check_losses(progress.sums.means(accelerator))
        self.trainer.check_weights(self.trainer.model.named_parameters())
        progress.saved_sums = progress.sums.of_every_process(accelerator)
        unfinished = files.unfinished(*now)
        try:
            if accelerator.is_main_process:
                files.begin(unfinished)
            accelerator.wait_for_everyone()
            accelerator.save_state(str(unfinished))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                _refuse_files_cut_short(unfinished)
                files.complete(unfinished)
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = _refusal(error)
            if reason is None:
                raise
            if accelerator.is_main_process:
                files.remove_unfinished()
            raise BadInput(
                f"cannot save the state of the training in {files.folder} ({reason}): make room there, then continue "
                f"with: {_resume_command(self.folder.path, accelerator)}"
            ) from None
        self._last_state = now
