"""Recipes against attacks: each phase against a computation by hand, and what it must leave alone."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from linear_models import Dense, LinearMoE, dense
from one_batch import OneBatch
from routers import bright_and_dark, spread

import mocse_timm.training.run as run
from mocse_timm.attacks.budget import Budget
from mocse_timm.training.adversarial import expert_turn, pgd_objective, router_turn, trades_objective
from mocse_timm.training.build import build_trainer
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import train_epoch
from mocse_timm.training.objectives import cross_entropy_objective
from mocse_timm.training.recipes import build_recipe

IMAGES, LABELS = bright_and_dark(12, 8), torch.arange(12) % 10
NO_ATTACK = Budget(0, 0, 0)


def advmoe() -> Any:
    torch.manual_seed(0)
    return spread(timm.create_model("advmoe_resnet18", width=0.125, num_experts=3))


@pytest.mark.parametrize("objective", ["trades", "class"])
def test_each_phase_leaves_the_other_half_bit_equal(objective: str) -> None:
    config = TrainConfig(recipe="advmoe", router_objective=objective, lr=0.1, sched="none")  # pyright: ignore[reportArgumentType]
    for index, (moving, resting) in enumerate((("body.", "router."), ("router.", "body."))):
        model = advmoe()
        model.router = timm.create_model("advmoe_resnet18", width=0.125, num_experts=3).router  # has batch norms
        before = {name: value.clone() for name, value in model.state_dict().items()}
        trainer = build_trainer(config, model, Accelerator(cpu=True), batches=1)
        trainer.phases = trainer.phases[index : index + 1]
        train_epoch(trainer, OneBatch(IMAGES, LABELS))
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert {name for name in changed if name.startswith(moving)}
        assert not {name for name in changed if name.startswith(resting)}
        assert any(name.startswith(moving) and "running_mean" in name for name in changed)
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_turns_of_a_two_expert_linear_model_by_hand() -> None:
    """No attack, so the agreement is zero and so is its gradient; cross-entropy's is (p - y) x."""
    model = LinearMoE()
    images, labels = torch.tensor([[0.8, 0.2], [0.1, 0.6]]), torch.tensor([0, 1])  # to experts 0 and 1
    first, second = model.body.weight[:2], model.body.weight[2:]
    logits = torch.stack([first @ images[0], second @ images[1]]).detach()
    errors = (logits.softmax(dim=1) - F.one_hot(labels, 2)) / 2

    result = expert_turn(NO_ATTACK, beta=6, smoothing=0)(model, images, labels)
    (slope,) = torch.autograd.grad(result.loss, model.body.weight)
    torch.testing.assert_close(result.loss, F.cross_entropy(logits, labels))
    torch.testing.assert_close(slope, torch.cat([torch.outer(errors[i], images[i]) for i in range(2)]))
    assert {name: float(part) for name, part in result.parts.items()} == {"expert0_share": 0.5, "expert1_share": 0.5}

    result = router_turn(NO_ATTACK, 6, "trades", 0)(model, images, labels)
    (slope,) = torch.autograd.grad(result.loss, model.router.weight)
    gates = (logits * errors).sum(dim=1)  # straight through: the gate's slope is sum(output * d loss / d output)
    p = 1 / (1 + torch.exp(torch.tensor([0.2 - 0.8, 0.1 - 0.6])))  # of the expert taken: the softmax of two scores
    pulls = gates * p * (1 - p)  # d p / d its score; the other expert's score gets the opposite
    torch.testing.assert_close(
        slope, torch.outer(torch.tensor([1.0, -1.0]), pulls[0] * images[0] - pulls[1] * images[1])
    )

    smooth = router_turn(NO_ATTACK, 6, "trades", 0, smoothing=0.2)(model, images, labels)
    torch.testing.assert_close(smooth.loss, F.cross_entropy(logits, labels, label_smoothing=0.2))

    result = router_turn(NO_ATTACK, 6, "class", 0)(model, images, labels)
    (slope,) = torch.autograd.grad(result.loss, model.router.weight)
    scores = model.router(images).detach()
    wrong = (scores.softmax(dim=1) - F.one_hot(labels % 2, 2)) / 2
    torch.testing.assert_close(slope, wrong.T @ images)

    balanced = router_turn(NO_ATTACK, 6, "trades", 0.5)(model, images, labels)
    spread_evenly = scores.softmax(dim=1).mean(dim=0).sum()  # each has half the images: 2 * sum(p / 2) = 1
    plain = router_turn(NO_ATTACK, 6, "trades", 0)(model, images, labels)
    torch.testing.assert_close(balanced.loss - plain.loss, 0.5 * spread_evenly)


def test_the_gates_pull_ends_where_the_router_is_sure() -> None:
    """Of a score as the gate it never would: scores would grow until they are not finite."""
    images, labels = torch.tensor([[0.8, 0.2], [0.1, 0.6]]), torch.tensor([0, 1])
    slopes = []
    for certainty in (1.0, 200.0):
        model = LinearMoE()
        with torch.no_grad():
            model.router.weight *= certainty
        loss = router_turn(NO_ATTACK, 6, "trades", 0)(model, images, labels).loss
        slopes.append(torch.autograd.grad(loss, model.router.weight)[0].norm())
    assert slopes[0] > 0.01 and slopes[1] < 1e-30


def test_an_untrained_router_is_sure_of_nothing() -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("advmoe_resnet18", width=0.125, num_experts=4)
    probabilities = model.route(torch.rand(64, 3, 32, 32)).softmax(dim=1)
    torch.testing.assert_close(probabilities, torch.full_like(probabilities, 0.25), rtol=0, atol=0.15)


@pytest.mark.parametrize(("limit", "length"), [(1e-3, 1e-3), (None, None)])
def test_the_routers_gradient_is_clipped_apart(limit: float | None, length: float | None) -> None:
    """Plain gradient descent moves each half by its learning rate times its gradient, clipped or not."""
    options: dict[str, Any] = {"opt": "momentum", "momentum": 0.0, "weight_decay": 0.0, "sched": "none", "lr": 1.0}
    config = TrainConfig(recipe="advmoe", attack_steps=0, epsilon=0, router_clip_grad=limit, clip_grad=2e-3, **options)
    model = advmoe()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    train_epoch(build_trainer(config, model, Accelerator(cpu=True), batches=1), OneBatch(IMAGES, LABELS))
    moved = {name: (value.detach() - before[name]).square().sum() for name, value in model.named_parameters()}
    router = sum(float(value) for name, value in moved.items() if name.startswith("router.")) ** 0.5
    experts = sum(float(value) for name, value in moved.items() if name.startswith("body.")) ** 0.5
    assert experts == pytest.approx(2e-3, rel=1e-3)
    assert router == pytest.approx(length, rel=1e-3) if length else router > 1e-2


def test_pgd_and_trades_train_on_the_worst_images_of_a_linear_model() -> None:
    images, labels, budget = torch.tensor([[0.5, 0.5], [0.3, 0.6]]), torch.tensor([0, 1]), Budget(0.1, 20, 0.02)
    worst = images + 0.1 * torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    plain = cross_entropy_objective(0)
    found = pgd_objective(plain, budget)(Dense(), images, labels).loss
    torch.testing.assert_close(found, F.cross_entropy(dense(worst), labels))
    result = trades_objective(plain, budget, beta=2)(Dense(), images, labels)
    torch.testing.assert_close(result.loss, result.parts["natural_loss"] + 2 * result.parts["agreement_loss"])
    torch.testing.assert_close(result.parts["natural_loss"], F.cross_entropy(dense(images), labels))
    logs = [dense(x).log_softmax(1) for x in (images, worst, 2 * images - worst)]
    largest = torch.stack([(logs[0].exp() * (logs[0] - q)).sum(1) for q in logs[1:]]).amax(0).mean()
    assert 0.3 * largest < result.parts["agreement_loss"] <= largest + 1e-5


@pytest.mark.parametrize(
    "flags",
    [
        ["--recipe", "pgd", "--attack-steps", "1", "--attack-norm", "l2", "--epsilon", "0.5"],
        ["--recipe", "trades", "--attack-steps", "1", "--epsilon", "4/255"],
        ["--recipe", "advmoe", "--balance-weight", "0.1", "--router-lr", "0.01", "--grad-accum-steps", "2"],
        ["--recipe", "advmoe", "--router-objective", "class", "--model-ema", "--grad-checkpointing"],
    ],
    ids=" ".join,
)
def test_every_recipe_trains_and_resumes_from_the_command_line(flags: list[str], tmp_path: Path) -> None:
    base = "--model advmoe_resnet18 --model-kwargs width=0.125 --img-size 8 -b 256 --seed 3".split()
    base += [*flags, "--sched", "none", "--lr", "0.01", "--output", str(tmp_path)]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert run.main([*base, "--epochs", "2", "--experiment", "whole"]) == 0
    with (whole / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    if "advmoe" in flags:
        assert sum(float(rows[0][f"train_expert{e}_share"]) for e in range(2)) == pytest.approx(1)
        assert "train_router_loss" in rows[0]
    assert run.main([*base, "--epochs", "1", "--experiment", "halves"]) == 0
    assert run.main(["--resume", str(halves), "--epochs", "2"]) == 0
    assert (halves / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_one_expert_that_takes_all_is_reported_once(tmp_path: Path) -> None:
    flags = "--model advmoe_resnet18 --model-kwargs width=0.125 --img-size 8 -b 256 --seed 3 --recipe advmoe --epochs 2"
    flags += f" --router-lr 1e-9 --lr 1e-3 --output {tmp_path} --experiment run"
    assert run.main(flags.split()) == 0
    assert (tmp_path / "run" / "log.txt").read_text().count("% of the images to expert") == 1


def test_recipes_refuse_models_and_numbers_they_cannot_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cases = {
        "--recipe advmoe --model cifar_resnet18": "needs a model with a router (advmoe*), got 'cifar_resnet18'",
        "--recipe pgd --epsilon 8": "epsilon is 8, but pixels are in [0, 1]: divide by 255",
        "--recipe trades --epsilon=-1/255": "epsilon must be at least 0",
        "--recipe trades --attack-steps 0": "needs at least 1 step, got 0",
        "--recipe trades --beta=-1": "--beta is -1.0: give 0 or more",
        "--recipe pgd --mixup 0.2": "--recipe pgd needs one label an image",
        "--recipe advmoe --model advmoe_resnet18 --router-lr 0": "--router-lr is 0.0: give more than 0",
        "--recipe pgd --balance-weight 1": "--balance-weight is for --recipe advmoe: leave it out of --recipe pgd",
        "--recipe trades --router-lr 0.1": "--router-lr is for --recipe advmoe: leave it out of --recipe trades",
        "--router-objective class": "--router-objective is for --recipe advmoe: leave it out of --recipe standard",
        "--recipe trades --router-clip-grad 3": "--router-clip-grad is for --recipe advmoe: leave it out",
        "--epsilon 4/255": "--epsilon is for --recipe pgd or trades or advmoe: leave it out of --recipe standard",
        "--attack-norm l2": "--attack-norm is for --recipe pgd or trades or advmoe",
        "--attack-steps 7": "--attack-steps is for --recipe pgd or trades or advmoe",
        "--step-size 0.1": "--step-size is for --recipe pgd or trades or advmoe",
        "--recipe pgd --beta 9": "--beta is for --recipe trades or advmoe: leave it out of --recipe pgd",
        "--layer-decay 0.5 --sched none": "--layer-decay needs a schedule, which applies it: give --sched constant",
        "--recipe advmoe --router-clip-grad 0": "--router-clip-grad is 0.0: give more than 0",
    }
    for flags, message in cases.items():
        assert run.main([*flags.split(), "--img-size", "8", "--output", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_label_smoothing_reaches_both_turns() -> None:
    model = advmoe()
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    logits = model(images)
    for phase in build_recipe(TrainConfig(recipe="advmoe", epsilon=0, smoothing=0.3), model):
        loss = phase.loss(model, images, labels).loss
        torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.3))


def test_an_experts_optimizer_never_holds_the_router() -> None:
    model = advmoe()
    phases = build_recipe(TrainConfig(recipe="advmoe", lr=0.1, router_lr=0.02), model)
    held = [{id(p) for group in phase.optimizer.param_groups for p in group["params"]} for phase in phases]
    assert held[0] == {id(p) for p in model.body.parameters()}
    assert held[1] == {id(p) for p in model.router.parameters()}
    assert {group["lr"] for group in phases[1].optimizer.param_groups} == {0.02}
