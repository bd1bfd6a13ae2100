"""AutoAttack, told while it runs and kept so that the same command continues it: on a CPU it takes hours.

What was found lies in a safetensors file beside the results file. It is taken up again where all that decides what is
found is as it was: images and labels, the options, and the model, known by its weights and its answers to these images.

Letters: N images, C classes.
"""

import hashlib
import importlib.metadata
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm import tqdm

from mocse_timm.attacks.autoattack import ATTACKS, AutoAttackState, autoattack
from mocse_timm.attacks.budget import Norm
from mocse_timm.evaluation.output_files import write_whole
from mocse_timm.evaluation.sanity import Check

__all__ = ["run_autoattack", "state_file"]

SECONDS_BETWEEN = 60  # two saves
NEAR = 0.01  # two machines compute a model's logits far nearer than this; two models differ by more somewhere
HIDDEN = 0.002  # share of the images that Square, which needs no gradients, may break after those that follow them


def state_file(results_file: str) -> Path:
    """Return the file beside ``results_file`` that keeps what AutoAttack has found while it runs."""
    path = Path(results_file)
    return path.with_name(f"{path.stem}-autoattack.safetensors")


def _digest(model: nn.Module) -> str:
    """Return the sha256 of the model's weights and buffers, by name."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tell(message: str) -> None:
    tqdm.write(f"autoattack: {message}", file=sys.stderr)


@dataclass
class _Kept:
    """The file that keeps the state."""

    file: Path
    images: Tensor
    known_by: dict[str, Tensor]
    """Labels (N,) and the model's logits (N, C) of the images as they are, on the CPU."""
    options: dict[str, Any]
    weights: str
    """A digest of the model's; states of earlier versions have none."""
    saved: float = -SECONDS_BETWEEN
    """When, by time.monotonic."""

    def _read(self) -> AutoAttackState:
        with safe_open(self.file, framework="pt") as stored:
            told = stored.metadata() or {}
            options = json.loads(told.get("options", "null"))
            found = {name: stored.get_tensor(name) for name in stored.keys()}
        if options != self.options:
            raise ValueError(f"it was begun with {options}, asked for is {self.options}")
        if told.get("weights", self.weights) != self.weights:
            raise ValueError("it is of other weights")
        robust = found["robust"].to(self.images.device)
        attacked = found["attacked"].to(self.images.device)
        same = torch.equal(attacked[robust], self.images[robust])
        if not (same and torch.equal(found["labels"], self.known_by["labels"])):
            raise ValueError("it is of other images")
        if not torch.allclose(found["logits"], self.known_by["logits"], rtol=NEAR, atol=NEAR):
            raise ValueError("it is of another model")
        return AutoAttackState(attacked, robust, found["waiting"].to(robust.device), found["counts"].tolist())

    def read(self) -> AutoAttackState | None:
        """Return the state that is kept; None where there is none that can be continued."""
        if not self.file.is_file():
            _tell(f"what is found is kept in {self.file}; the same command continues it")
            return None
        try:
            state = self._read()
        except (SafetensorError, OSError, ValueError, LookupError, RuntimeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            _tell(f"begins anew, for {self.file} is not used: {reason}")
            return None
        _tell(f"continues from {self.file}")
        return state

    def write(self, state: AutoAttackState) -> None:
        """Write the state, unless it was written a moment ago and there is more to come."""
        if time.monotonic() - self.saved < SECONDS_BETWEEN and state.attack is not None:
            return
        found = {"attacked": state.attacked, "robust": state.robust, "waiting": state.waiting}
        tensors = {name: tensor.cpu() for name, tensor in found.items()} | self.known_by
        tensors["counts"] = torch.tensor(state.counts)
        content = safetensors.torch.save(tensors, {"options": json.dumps(self.options), "weights": self.weights})
        write_whole(self.file, content, "state of AutoAttack")
        self.saved = time.monotonic()


@dataclass
class _Progress:
    """A bar for each attack, and a line after it."""

    told: int = 0
    """How many accuracies."""
    bar: Any = None

    def show(self, state: AutoAttackState) -> None:
        """Show how far ``state`` is."""
        total, counts = len(state.robust), state.counts
        for place in range(self.told, len(counts)):
            what = f"robust accuracy after {ATTACKS[place - 1].upper()}" if place else "initial accuracy"
            _tell(f"{what}: {counts[place] / total:.2%}")
        if len(counts) > self.told:
            self.told = len(counts)
            self.close()
            self.bar = tqdm(total=counts[-1], desc=state.attack, unit="image", leave=False, disable=None)
        self.bar.update(counts[-1] - int(state.waiting.sum()) - self.bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


class _Warnings(logging.Handler):
    """Passes on what pyautoattack warns of, once, though it looks at every batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if (message := record.getMessage()) not in self.told:
            self.told.add(message)
            _tell(message)


@contextmanager
def _passing_on_warnings() -> Iterator[None]:
    logger, handler = logging.getLogger("auto-attack"), _Warnings()
    before = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _without_gradients(counts: list[int], total: int) -> Check:
    broken = (counts[-2] - counts[-1]) / total
    found = f"Square, the last, broke another {broken:.1%} of the images".replace("%", " %")
    return Check("an attack without gradients finds no more", broken <= HIDDEN, found)


def run_autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: Norm,
    batch_size: int,
    seed: int,
    file: Path | None = None,
) -> tuple[Tensor, list[Check]]:
    """Return the images that AutoAttack finds and what Square says of the others; say on stderr how far it is.

    If Square breaks images that the attacks before could not, these may have followed gradients that hide something:
    the authors of AutoAttack warn of it, by the same bound.

    Args:
        model: maps images to logits (B, C), on the images' device.
        images: (N, channels, H, W), float in [0, 1].
        labels: (N,), int64 class indices.
        epsilon, norm: see :class:`mocse_timm.attacks.budget.Budget`.
        batch_size: images a step.
        seed: of every random draw.
        file: keeps what was found, up to the batch at work or a minute before it, and is continued from if it is there.
            It is left to the caller to remove.

    Raises:
        BadInput: see :func:`mocse_timm.attacks.autoattack.autoattack`; also if the file cannot be written.
    """
    options = {"epsilon": epsilon, "norm": norm, "batch_size": batch_size, "seed": seed}
    kept = state = None
    if file is not None:
        with torch.no_grad():
            logits = torch.cat([model(batch) for batch in images.split(batch_size)]).float().cpu()
        stated = options | {"pyautoattack": importlib.metadata.version("pyautoattack")}
        kept = _Kept(file, images, {"labels": labels.cpu(), "logits": logits}, stated, _digest(model))
        state = kept.read()
    progress, counts = _Progress(), []

    def after_batch(state: AutoAttackState) -> None:
        if kept is not None:
            kept.write(state)
        progress.show(state)
        counts[:] = state.counts

    try:
        with _passing_on_warnings():
            attacked = autoattack(model, images, labels, **options, state=state, after_batch=after_batch)
    finally:
        progress.close()
    return attacked, [_without_gradients(counts, len(images))] if counts else []
