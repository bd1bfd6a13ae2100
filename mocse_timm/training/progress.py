"""How far a training has come: the counters, and the sums of the epoch under way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor

__all__ = ["EpochSums", "Progress"]


class EpochSums:
    """Means over an epoch's images, kept on the device so that no step waits for them.

    Each is over the images it was told for: flags that change in mid-epoch bring parts of the loss and end others.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}  # images behind each of the totals
        self.seconds = 0.0  # that training took, saving and validation left out

    def add(self, values: Mapping[str, Tensor], images: int) -> None:
        """Add the means of a batch of ``images``."""
        for name, value in values.items():
            exact = torch.float32 if value.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
            self.totals[name] = self.totals.get(name, 0.0) + value.detach().to(exact) * images
            self.counts[name] = self.counts.get(name, 0) + images

    @property
    def images(self) -> int:
        """Images that the first phase, whose loss is ``loss``, saw; every phase sees the same."""
        return self.counts.get("loss", 0)

    def _row(self) -> Tensor:
        totals = torch.stack(list(self.totals.values()))
        return torch.cat([totals, totals.new_tensor(list(self.counts.values()))])

    def means(self, accelerator: Accelerator | None = None) -> dict[str, float]:
        """Return the means so far, of this process or, with ``accelerator``, of all."""
        values = self._row()
        if accelerator is not None:
            values = cast(Tensor, accelerator.reduce(values, "sum"))
        totals, counts = values.chunk(2)
        return dict(zip(self.totals, (totals / counts).tolist(), strict=True))

    def of_every_process(self, accelerator: Accelerator) -> dict[str, Any]:
        """Return what :meth:`restore` takes; every process takes part."""
        rows: list[list[float]] = []
        if self.totals:
            rows = cast(Tensor, accelerator.gather(self._row()[None])).tolist()
        return {"names": list(self.totals), "rows": rows, "seconds": self.seconds}

    def restore(self, saved: Mapping[str, Any], accelerator: Accelerator) -> None:
        """Take up this process's sums again."""
        self.__init__()
        if saved["rows"]:
            exact = torch.float32 if accelerator.device.type == "mps" else torch.float64
            names, row = saved["names"], saved["rows"][accelerator.process_index]
            totals, counts = row[: len(names)], row[len(names) :]
            if len(counts) == 1:  # states of earlier versions have one for all
                counts = counts * len(names)
            values = torch.tensor(totals, dtype=exact, device=accelerator.device)
            self.totals = dict(zip(names, values.unbind(), strict=True))
            self.counts = dict(zip(names, map(int, counts), strict=True))
        self.seconds = saved["seconds"]


@dataclass
class Progress:
    """How far a training has come. Saved with the rest of its state."""

    epoch: int = 0  # whole epochs, validation included
    step: int = 0  # optimiser steps of the epoch under way
    updates: int = 0  # optimiser steps of the whole training
    best_top1: float = float("-inf")  # of all validations, percent
    license: str | None = None  # of the weights that the training began from; None where it is not known
    warned: bool = False  # that one expert gets nearly all images
    commands: list[tuple[int, int, str]] = field(default_factory=list)  # with the epoch and step at which each came
    sums: EpochSums = field(default_factory=EpochSums)
    saved_sums: dict[str, Any] = field(default_factory=dict)  # of every process, as of the last save or load

    def complete_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.step, self.sums = self.epoch + 1, 0, EpochSums()

    def follow(self, command: str) -> None:
        """Note that ``command`` trains from here on, if another did before."""
        earlier = [part for part in self.commands if part[:2] < (self.epoch, self.step)]
        if not earlier:  # the first one, or the state is of a version that kept none
            earlier = [(0, 0, command)]
        elif earlier[-1][2] != command:
            earlier.append((self.epoch, self.step, command))
        self.commands = earlier

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and commands, and the sums that were collected last."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "updates": self.updates,
            "best_top1": self.best_top1,
            "warned": self.warned,
            "license": self.license,
            "commands": self.commands,
            "sums": self.saved_sums,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the counters; the sums are taken up by :meth:`EpochSums.restore`."""
        self.epoch, self.step, self.updates = state["epoch"], state["step"], state["updates"]
        self.best_top1, self.warned, self.saved_sums = state["best_top1"], state["warned"], state["sums"]
        self.commands = state.get("commands", [])  # states of earlier versions have none
        self.license = state.get("license", self.license)
