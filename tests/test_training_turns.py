"""What losses and optimisers get of the flags, and the attacked images that are learned from, worked out by hand."""

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from linear_models import Dense, LinearMoE, dense
from one_batch import OneBatch
from torch import Tensor

from mocse_timm.attacks.budget import Budget
from mocse_timm.checks import BadInput
from mocse_timm.training.adversarial import expert_turn, pgd_objective, router_turn
from mocse_timm.training.build import build_trainer
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import train_epoch
from mocse_timm.training.objectives import cross_entropy_objective
from mocse_timm.training.recipes import build_recipe


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("turn", ["expert", "trades", "class"])
def test_every_turn_learns_from_the_worst_images_of_a_linear_model(turn: Any, norm: Any) -> None:
    torch.manual_seed(0)
    model, budget = LinearMoE(), Budget(0.05, 20, 0.02, norm)  # too little to change a path
    images, labels = torch.tensor([[0.8, 0.2], [0.1, 0.6]]), torch.tensor([0, 1])  # to experts 0 and 1

    def answers(x: Tensor) -> Tensor:
        """Of each image's expert; for the class objective the router's scores, which are the pixels."""
        return x if turn == "class" else torch.stack([model.body.weight[:2] @ x[0], model.body.weight[2:] @ x[1]])

    slopes = torch.tensor([[1.0, -1.0], [1.0, -1.0] if turn == "class" else [-1.5, -1.5]])
    worst = 0.05 * (slopes.sign() if norm == "linf" else slopes / slopes.norm(dim=1, keepdim=True))
    logs = [answers(x).log_softmax(1) for x in (images, images + worst, images - worst)]  # either way is a worst case
    both = torch.stack([(logs[0].exp() * (logs[0] - q)).sum(1) for q in logs[1:]])
    phase = expert_turn(budget, 3, 0) if turn == "expert" else router_turn(budget, 3, turn, 0)
    found = float((phase(model, images, labels).loss - F.cross_entropy(answers(images), labels)).detach()) / 3
    assert 1e-4 < 0.98 * both.amin(0).mean() <= found <= 1.02 * both.amax(0).mean()


def test_pgd_in_l2_trains_on_the_worst_images() -> None:
    images, labels = torch.tensor([[0.5, 0.5], [0.3, 0.6]]), torch.tensor([0, 1])
    away = 0.1 * torch.tensor([-1.0, 2.0]) / 5**0.5
    worst = images + torch.stack([away, -away])
    found = pgd_objective(cross_entropy_objective(0), Budget(0.1, 60, 0.02, "l2"))(Dense(), images, labels).loss
    torch.testing.assert_close(found, F.cross_entropy(dense(worst), labels))


def test_steps_of_pgd_are_as_long_as_asked_for() -> None:
    """Of no length they leave the random start, which is far from the worst."""
    torch.manual_seed(0)
    images, labels = torch.full((200, 2), 0.5), torch.zeros(200, dtype=torch.int64)
    found = pgd_objective(cross_entropy_objective(0), Budget(0.1, 1, 0.0))(Dense(), images, labels).loss
    assert found < F.cross_entropy(dense(images + 0.1 * torch.tensor([-1.0, 1.0])), labels) - 0.1


def test_attacks_have_the_steps_of_their_papers_unless_others_are_asked_for() -> None:
    assert TrainConfig(recipe="trades", epsilon=0.08).attack_budget() == Budget(0.08, 10, 0.02, "linf")
    assert TrainConfig(recipe="advmoe", epsilon=0.08).attack_budget() == Budget(0.08, 2, 0.05, "linf")
    given = TrainConfig(recipe="pgd", epsilon=0.5, attack_norm="l2", attack_steps=7, step_size=0.1)
    assert given.attack_budget() == Budget(0.5, 7, 0.1, "l2")


def test_every_weight_of_the_experts_loss_is_used() -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("mocse", num_classes=3, expert_width=0.125).eval()
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 1])
    config = TrainConfig(model="mocse", expert_loss_weight=0.5, aggregate_loss_weight=2.0, expert_positive_weight=9)
    (phase,) = build_recipe(config, model)
    logits = model.forward_experts(images)
    log_odds, own = logits[:, :, 1] - logits[:, :, 0], F.one_hot(labels, 3).float()
    each = F.binary_cross_entropy_with_logits(log_odds, own, reduction="sum", pos_weight=torch.tensor(9.0)) / 4
    expected = 2 * F.cross_entropy(model(images), labels) + 0.5 * each
    torch.testing.assert_close(phase.loss(model, images, labels).loss, expected)


def test_smoothing_without_the_aggregate_is_refused_unless_mixed_targets_bring_it_to_the_experts() -> None:
    model = timm.create_model("mocse", num_classes=3, expert_width=0.125)
    flags: dict[str, Any] = {"model": "mocse", "aggregate_loss_weight": 0.0, "smoothing": 0.1}
    with pytest.raises(BadInput, match="^--smoothing is of the class scores' loss"):
        build_recipe(TrainConfig(**flags), model)
    build_recipe(TrainConfig(**flags, mixup=0.2), model)
    build_recipe(TrainConfig(**flags, cutmix=1.0), model)


def test_the_weight_of_the_consistency_loss_is_used() -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("cifar_preact18", num_classes=3, width=0.125).eval()
    config = TrainConfig(jsd_loss=True, aug_splits=2, aa="augmix-m3-w3", jsd_weight=3.0)
    (phase,) = build_recipe(config, model)
    result = phase.loss(model, torch.rand(4, 3, 8, 8), torch.tensor([0, 2]))
    torch.testing.assert_close(result.loss, result.parts["natural_loss"] + 3 * result.parts["consistency_loss"])


@pytest.mark.parametrize("filtered", [True, False])
def test_decay_and_momentum_reach_the_optimiser(filtered: bool) -> None:
    model = timm.create_model("cifar_preact18", width=0.125)
    config = TrainConfig(weight_decay=0.03, momentum=0.8, filter_bias_and_bn=filtered, lr=0.1)
    (phase,) = build_recipe(config, model)
    group_of = {id(p): group for group in phase.optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        group = group_of[id(parameter)]
        assert group["weight_decay"] == (0 if filtered and parameter.ndim == 1 else 0.03), name
        assert group["momentum"] == 0.8


def test_layer_decay_is_the_experts_and_not_the_routers() -> None:
    model = timm.create_model("advmoe_resnet18", width=0.125)
    config = TrainConfig(model="advmoe_resnet18", recipe="advmoe", layer_decay=0.5, lr=0.1)
    experts, router = build_recipe(config, model)
    assert len({group["lr_scale"] for group in experts.optimizer.param_groups}) > 3
    assert {group.get("lr_scale", 1.0) for group in router.optimizer.param_groups} == {1.0}


def test_the_average_forgets_its_random_start() -> None:
    """With timm's warmup the decay is 0 at the first step."""
    torch.manual_seed(0)
    model: Any = timm.create_model("cifar_resnet18", width=0.125)
    before = model.head.fc.weight.detach().clone()
    trainer = build_trainer(TrainConfig(model_ema=True, sched="none", lr=0.1), model, Accelerator(cpu=True), batches=1)
    train_epoch(trainer, OneBatch(torch.rand(6, 3, 8, 8), torch.arange(6)))
    assert trainer.ema is not None and not torch.equal(model.head.fc.weight, before)
    average: Any = trainer.ema.module
    torch.testing.assert_close(average.head.fc.weight, model.head.fc.weight)
