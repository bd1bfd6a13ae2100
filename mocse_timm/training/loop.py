"""The training loop: any recipe, one epoch at a time."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from timm.utils.clip_grad import dispatch_clip_grad
from torch import Tensor, nn
from tqdm import tqdm

from mocse_timm.checks import BadInput
from mocse_timm.data.loaders import Loader
from mocse_timm.modes import held
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.phases import Phase
from mocse_timm.training.progress import EpochSums, Progress
from mocse_timm.training.recipes import learning_rate

__all__ = ["Trainer", "train_epoch"]


@dataclass
class Trainer:
    """All that moves during a training."""

    config: TrainConfig
    accelerator: Accelerator
    task: nn.Module  # the TrainingTask as Accelerate prepared it
    model: nn.Module  # the bare model inside it
    phases: tuple[Phase, ...]
    schedulers: list[Any]  # timm's, one a phase; None for --sched none
    progress: Progress
    ema: ModelEmaV3 | None = None

    @property
    def learning_rate(self) -> float:
        """The first phase's learning rate now."""
        return max(group["lr"] for group in self.phases[0].optimizer.param_groups)

    def follow_schedules(self, updates_per_epoch: int) -> None:
        """Set the learning rates, and the count of the updates, to where the training stands.

        That is where they are, unless flags of the schedule or of the size of an optimiser step have changed since.
        """
        progress = self.progress
        progress.updates = progress.epoch * updates_per_epoch + progress.step
        for scheduler in self.schedulers:  # at the very start the rates are as they were built
            if progress.epoch:
                scheduler.step(progress.epoch)
            if progress.updates:
                scheduler.step_update(progress.updates)

    def check_losses(self, means: Mapping[str, float]) -> None:
        """Refuse to go on where a loss among the ``means`` of the epoch, over all processes, is not finite.

        Raises:
            BadInput: with where the training stands, and what to change.
        """
        for loss in (value for name, value in means.items() if name.endswith("loss")):
            if not math.isfinite(loss):
                raise BadInput(f"the loss is {loss} {self._where}: {self.divergence_advice}")

    def check_weights(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Refuse to go on with ``tensors`` of the model, each behind its name, that are not finite.

        The loss need not tell: it is of the step before, and a router of such weights still chooses.

        Raises:
            BadInput: with where the training stands, and what to change.
        """
        for name, tensor in tensors:
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise BadInput(
                    f"the model's tensor {name} holds NaN or infinity {self._where}: {self.divergence_advice}"
                )

    @property
    def _where(self) -> str:
        epoch, step = self.progress.epoch, self.progress.step
        return f"in epoch {epoch + 1}, at step {step}" if step else f"after epoch {epoch}"

    @property
    def divergence_advice(self) -> str:
        """What to change after a training that left the finite numbers."""
        peak = learning_rate(self.config, self.accelerator.num_processes)
        router = "--router-lr or " if self.config.recipe == "advmoe" else ""
        return f"lower {router}--lr (it is {peak:g}), lengthen --warmup-epochs, or set --clip-grad 1"


def _groups(loader: Iterable[tuple[Tensor, Tensor]], size: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    group: list[tuple[Tensor, Tensor]] = []
    for batch in loader:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    classes = targets if targets.ndim == 1 else targets.argmax(dim=1)
    return (logits.argmax(dim=1) == classes).float().mean() * 100


def _step(trainer: Trainer, phase: Phase, group: list[tuple[Tensor, Tensor]], sums: EpochSums) -> None:
    """One optimiser step on the batches of ``group``, whose gradients are averaged."""
    accelerator = trainer.accelerator
    first = phase is trainer.phases[0]
    for index, (images, targets) in enumerate(group):
        waiting = index + 1 < len(group)
        with held(phase.held), accelerator.no_sync(trainer.task) if waiting else nullcontext():
            loss, logits, parts = trainer.task(phase.name, images, targets)
            accelerator.backward(loss / len(group))
        means = {"loss": loss, "top1": _accuracy(logits, targets)} if first else {f"{phase.name}_loss": loss}
        sums.add(means | parts, len(targets))  # there may be several versions of each image
    if phase.clip_grad is not None:
        accelerator.unscale_gradients(phase.optimizer)
        free = {id(parameter) for part in phase.free for parameter in part.parameters()}
        parameters = [p for group in phase.optimizer.param_groups for p in group["params"] if id(p) not in free]
        dispatch_clip_grad(parameters, phase.clip_grad, mode=phase.clip_mode)
    phase.optimizer.step()
    phase.optimizer.zero_grad()


def _nothing() -> None:
    pass


def train_epoch(trainer: Trainer, loader: Loader, after_step: Callable[[], None] = _nothing) -> dict[str, float]:
    """Train what is left of the epoch that the trainer's progress stands in.

    Args:
        trainer: all that moves.
        loader: of this process's training batches.
        after_step: called after every optimiser step, when everything is in a state that can be saved.

    Returns:
        The means over the epoch's images: loss, top1 (percent), the losses' parts, images_per_second.

    Raises:
        BadInput: in every process, if the loss of one is not finite.
    """
    config, accelerator, progress = trainer.config, trainer.accelerator, trainer.progress
    sums = progress.sums
    done = min(progress.step * config.grad_accum_steps, len(loader))
    loader.set_epoch(progress.epoch, done)
    trainer.follow_schedules(-(-len(loader) // config.grad_accum_steps))
    trainer.task.train()
    layout = torch.channels_last if config.channels_last else torch.preserve_format
    bar = tqdm(
        total=len(loader),
        initial=done,
        desc=f"epoch {progress.epoch + 1}/{config.epochs}",
        unit="batch",
        leave=False,
        disable=None if accelerator.is_main_process else True,  # None: only on a terminal
    )
    batches = ((images.to(memory_format=layout), targets) for images, targets in loader)
    start = time.perf_counter()
    for group in _groups(batches, config.grad_accum_steps) if done < len(loader) else ():
        for phase in trainer.phases:
            _step(trainer, phase, group, sums)
        progress.step += 1
        progress.updates += 1
        for scheduler in trainer.schedulers:
            scheduler.step_update(progress.updates)
        if trainer.ema is not None:
            trainer.ema.update(trainer.model, step=progress.updates)
        bar.update(len(group))
        done += len(group)  # a bar that is not shown counts nothing
        if progress.step % config.log_interval == 0 or done == len(loader):
            means = sums.means(accelerator)  # a loss that is not finite, in any process, stays visible in the mean
            trainer.check_losses(means)
            seconds = sums.seconds + time.perf_counter() - start
            speed = sums.images * accelerator.num_processes / seconds
            bar.set_postfix(loss=f"{means['loss']:.3f}", top1=f"{means['top1']:.1f}", img_s=f"{speed:.0f}")
        sums.seconds += time.perf_counter() - start
        after_step()
        start = time.perf_counter()
    bar.close()
    images_per_second = loader.num_images * accelerator.num_processes / sums.seconds
    return {**sums.means(accelerator), "images_per_second": images_per_second}
