"""One optimiser step against a step worked out without the loop."""

import math
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from mocse_timm.checks import BadInput
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import Trainer, train_epoch
from mocse_timm.training.phases import LossResult, Phase, TrainingTask
from mocse_timm.training.progress import Progress
from mocse_timm.training.recipes import build_recipe


def squared_error(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
    logits = model(images.flatten(1))
    return LossResult(F.cross_entropy(logits, targets), logits)


class FixedBatches:
    """Four batches of two images, always the same."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(8, 1, 2, 2, generator=generator)
        self.labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
        self.num_images = 8
        self.asked: list[tuple[int, int]] = []

    def __iter__(self):
        batches = list(zip(self.images.split(2), self.labels.split(2), strict=True))
        return iter(batches[self.asked[-1][1] :])

    def __len__(self) -> int:
        return 4

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        self.asked.append((epoch, first_batch))


def trainer(
    model: nn.Module, clip_grad: float | None = None, clip_mode: str = "norm", free: tuple[nn.Module, ...] = (), **flags
) -> Trainer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    phase = Phase("standard", squared_error, optimizer, (), clip_grad, clip_mode, free)
    task = TrainingTask(model, {phase.name: phase.loss})
    return Trainer(TrainConfig(**flags), Accelerator(cpu=True), task, model, (phase,), [], Progress())


def linear() -> nn.Linear:
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.copy_(torch.arange(12.0).view(3, 4) / 10)
        model.bias.zero_()
    return model


def descend(model: nn.Linear, images: Tensor, labels: Tensor) -> None:
    """One step of plain gradient descent."""
    loss = F.cross_entropy(model(images.flatten(1)), labels)
    slopes = torch.autograd.grad(loss, [model.weight, model.bias])
    with torch.no_grad():
        for parameter, slope in zip((model.weight, model.bias), slopes, strict=True):
            parameter -= 0.5 * slope


def test_accumulated_batches_give_the_step_of_one_large_batch() -> None:
    loader = FixedBatches()
    model, twin = linear(), linear()
    train_epoch(trainer(model, grad_accum_steps=4), loader)
    descend(twin, loader.images, loader.labels)
    torch.testing.assert_close(model.weight, twin.weight)
    torch.testing.assert_close(model.bias, twin.bias)


def test_a_last_smaller_group_is_averaged_over_its_own_batches() -> None:
    loader = FixedBatches()
    running = trainer(linear(), grad_accum_steps=3)
    twin = linear()
    train_epoch(running, loader)
    assert running.progress.updates == 2
    for group in (slice(0, 6), slice(6, 8)):
        descend(twin, loader.images[group], loader.labels[group])
    torch.testing.assert_close(running.model.state_dict(), twin.state_dict())


def test_means_are_over_images_and_the_epoch_reaches_the_loader() -> None:
    loader = FixedBatches()
    running = trainer(linear(), grad_accum_steps=4)
    before = F.cross_entropy(running.model(loader.images.flatten(1)), loader.labels)
    top1 = (running.model(loader.images.flatten(1)).argmax(1) == loader.labels).double().mean() * 100
    running.progress.epoch = 3
    means = train_epoch(running, loader)
    assert loader.asked == [(3, 0)]
    torch.testing.assert_close(means["loss"], before.item())
    torch.testing.assert_close(means["top1"], top1.item())


def test_clipping_limits_the_norm_of_the_whole_gradient() -> None:
    loader = FixedBatches()
    model, start = linear(), linear()
    train_epoch(trainer(model, grad_accum_steps=4, clip_grad=0.01), loader)
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), start.parameters(), strict=True)])
    torch.testing.assert_close(moved.norm().item(), 0.5 * 0.01, rtol=1e-3, atol=0)


def test_values_are_clipped_one_by_one() -> None:
    loader, start, model = FixedBatches(), linear(), linear()
    loss = F.cross_entropy(start(loader.images.flatten(1)), loader.labels)
    slopes = torch.autograd.grad(loss, [start.weight, start.bias])
    train_epoch(trainer(model, 0.01, "value", grad_accum_steps=4), loader)
    for now, before, slope in zip((model.weight, model.bias), (start.weight, start.bias), slopes, strict=True):
        torch.testing.assert_close(now, before - 0.5 * slope.clamp(-0.01, 0.01))


def test_clipping_leaves_free_parts_alone() -> None:
    loader = FixedBatches()
    clipped, free = linear(), nn.Linear(3, 3)
    before = [layer.weight.detach().clone() for layer in (clipped, free)]
    model = nn.Sequential(clipped, free)
    loss = F.cross_entropy(model(loader.images.flatten(1)), loader.labels)
    slopes = torch.autograd.grad(loss, [clipped.weight, free.weight])
    train_epoch(trainer(model, 1e-4, "agc", (free,), grad_accum_steps=4), loader)
    torch.testing.assert_close(before[1] - free.weight, 0.5 * slopes[1])
    assert (before[0] - clipped.weight).norm() < 0.01 * slopes[0].norm()


@pytest.mark.parametrize(("name", "classifiers"), [("mocse_preact18", 10), ("ensemble", 10), ("cifar_preact18", 1)])
def test_adaptive_clipping_leaves_the_classifiers_out(name: str, classifiers: int) -> None:
    options: dict[str, Any] = {"num_experts": 10} if name == "ensemble" else {}
    model: Any = timm.create_model(name, **options)
    for mode in ("norm", "agc"):
        (phase,) = build_recipe(TrainConfig(clip_grad=0.01, clip_mode=mode), model)
        found = [type(part) for part in phase.free]
        assert found == [nn.Linear] * (classifiers if mode == "agc" else 0)


def test_a_loss_that_is_not_a_number_ends_the_epoch_also_where_no_bar_is_shown() -> None:
    """The tests have no terminal, and an epoch of 4 steps ends before the 10th, at which the loss is looked at."""
    model = linear()
    torch.nn.init.constant_(model.bias, math.nan)
    with pytest.raises(BadInput, match="the loss is nan in epoch 1, at step 4"):
        train_epoch(trainer(model), FixedBatches())


def test_a_loss_that_is_not_a_number_is_named_with_its_step() -> None:
    stands = trainer(linear())
    stands.progress = Progress(epoch=1, step=10)
    stands.check_losses({"loss": 1.0, "top1": math.nan})
    with pytest.raises(BadInput, match="the loss is nan in epoch 2, at step 10: lower --lr"):
        stands.check_losses({"loss": 1.0, "agreement_loss": math.nan})
