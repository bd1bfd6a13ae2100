"""PGD against worst cases known in closed form, and against itself with its savings switched off."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mocse_timm.attacks import pgd_l2, pgd_linf
from mocse_timm.attacks.budget import Budget
from mocse_timm.attacks.steps import draw_start, project
from mocse_timm.checks import BadInput

WEIGHT = torch.tensor([2.0, -1.0, 0.5])


def two_classes(x: Tensor) -> Tensor:
    score = x @ WEIGHT
    return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize("epsilon", [8 / 255, 0.3])  # at 0.3 some pixels stop at 0 or 1
def test_linf_reaches_the_exact_worst_case_of_a_linear_model(epsilon: float) -> None:
    images = torch.tensor([[0.5, 0.5, 0.1], [0.9, 0.95, 0.5]])
    attacked = pgd_linf(two_classes, images, torch.tensor([1, 1]), epsilon=epsilon, steps=10, step_size=epsilon / 4)
    torch.testing.assert_close(attacked, (images - epsilon * WEIGHT.sign()).clamp(0, 1))


@pytest.mark.parametrize("certainty", [0.0, 34.0])  # at 34 gradients are near 1e-30, and their squares zero
def test_l2_reaches_the_exact_worst_case_of_a_linear_model(certainty: float) -> None:
    images, sure = torch.full((2, 3), 0.5), torch.tensor([[-certainty, certainty], [certainty, -certainty]])
    labels = torch.tensor([1, 0])
    attacked = pgd_l2(lambda x: two_classes(x) + sure, images, labels, epsilon=0.2, steps=60, step_size=0.05)
    away = 0.2 * WEIGHT / WEIGHT.norm()
    torch.testing.assert_close(attacked, images + torch.stack([-away, away]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("early_stop", [False, True])
def test_in_float16_sure_and_unsure_images_reach_their_worst_case(early_stop: bool) -> None:
    """Logits 20 apart have a gradient of 2e-9, less than float16's smallest number; scaled, the other's overflows."""
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-20.0, 10.0, -5.0, -10.0], [20.0, -10.0, 5.0, 10.0]]))
    images = torch.tensor([[0.5, 0.5, 0.5, 0.25], [0.3, 0.6, 0.0, 0.01]])
    options: dict[str, Any] = {"epsilon": 0.05, "steps": 8, "step_size": 0.0125, "random_start": False}
    with torch.autocast("cpu", dtype=torch.float16):
        attacked = pgd_linf(model, images, torch.tensor([1, 1]), early_stop=early_stop, **options)
    worst = (images - 0.05 * model.weight[1].detach().sign()).clamp(0, 1)
    torch.testing.assert_close(attacked[0], worst[0])
    if not early_stop:  # else it stays where it was first named wrongly
        torch.testing.assert_close(attacked[1], worst[1])
    assert model(attacked)[1].argmax() == 0


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 36, 4)]
    return nn.Sequential(*layers)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    images = torch.rand(64, 3, 8, 8)
    return images, network().eval()(images).argmax(dim=1)  # the network is right on all of them


@pytest.mark.parametrize(("attack", "epsilon", "order"), [(pgd_linf, 0.05, math.inf), (pgd_l2, 0.4, 2)])
def test_results_stay_within_epsilon_and_the_range_of_pixels(attack, epsilon: float, order: float, batch) -> None:
    images, labels = batch
    attacked = attack(network(), images, labels, epsilon=epsilon, steps=5)
    assert attacked.min() >= 0 and attacked.max() <= 1
    lengths = torch.linalg.vector_norm((attacked - images).flatten(1), ord=order, dim=1)
    assert lengths.max() <= epsilon + 1e-6
    assert lengths.max() > 0.5 * epsilon


@pytest.mark.parametrize(("attack", "epsilon"), [(pgd_linf, 0.004), (pgd_l2, 0.06)])
def test_early_stop_changes_the_cost_and_not_who_is_fooled(attack, epsilon: float, batch) -> None:
    images, labels = batch
    model = network().eval()
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    options = {"epsilon": epsilon, "steps": 10, "random_start": False}
    plain = attack(model, images, labels, **options)
    cost = sum(seen)
    seen.clear()
    stopped = attack(model, images, labels, early_stop=True, **options)
    assert sum(seen) < cost
    fooled = [model(attacked).argmax(dim=1) != labels for attacked in (plain, stopped)]
    assert 0 < fooled[0].sum() < 64
    assert (fooled[1] | ~fooled[0]).all()  # stopping on the way can only fool more


def test_restarts_keep_the_largest_loss_of_each_image(batch) -> None:
    images, labels = batch
    model = network().eval()

    def losses(restarts: int) -> Tensor:
        options = {"epsilon": 0.01, "steps": 1, "generator": torch.Generator().manual_seed(0)}
        attacked = pgd_linf(model, images, labels, restarts=restarts, **options)
        logits = model(attacked)
        wrong = logits.argmax(dim=1) != labels
        return nn.functional.cross_entropy(logits, labels, reduction="none") + 1000 * wrong

    once, often = losses(1), losses(4)
    assert (often >= once - 1e-5).all()
    assert (often > once + 1e-4).any()


def test_without_a_random_start_there_is_one_attempt(batch) -> None:
    images, labels = batch
    model, seen = network().eval(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    pgd_linf(model, images, labels, epsilon=0.01, steps=3, random_start=False, restarts=5)
    assert len(seen) == 3


def test_an_attack_leaves_the_model_as_it_was(batch) -> None:
    images, labels = batch
    model = network().train()
    model[1].eval()  # a batch norm frozen on purpose
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pgd_linf(model, images, labels, epsilon=0.1, steps=2)
    assert [module.training for module in model] == [True, False, True, True, True, True]
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_same_generator_gives_the_same_images(batch) -> None:
    images, labels = batch
    runs = [
        pgd_l2(network(), images, labels, epsilon=0.5, steps=2, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)
    assert not torch.equal(runs[0], runs[2])


def test_epsilon_zero_returns_the_images(batch) -> None:
    images, labels = batch
    assert torch.equal(pgd_linf(network(), images, labels, epsilon=0, steps=0), images)


def test_an_empty_batch_stays_empty() -> None:
    none = torch.zeros(0, 3, 8, 8)
    assert pgd_linf(network(), none, torch.zeros(0, dtype=torch.int64), epsilon=0.1, steps=2).shape == none.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -0.1}, "epsilon must be at least 0, got -0.1"),
        ({"epsilon": 8}, "epsilon is 8, but pixels are in .0, 1.: divide by 255, 8/255 = 0.03137"),
        ({"epsilon": math.nan}, "epsilon must be at least 0, got nan"),
        ({"steps": 0}, "an attack with epsilon 0.1 needs at least 1 step, got 0"),
        ({"step_size": -1.0}, "the step size must be at least 0, got -1"),
        ({"images": torch.full((2, 3, 8, 8), 255.0)}, "need images in .0, 1., got values from 255 to 255"),
        ({"images": torch.full((2, 3, 8, 8), math.nan)}, "got values from nan to nan"),
        ({"images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, "need float images in .0, 1., got torch.uint8"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(change: dict, message: str) -> None:
    arguments: dict[str, Any] = {"images": torch.zeros(2, 3, 8, 8), "labels": torch.zeros(2, dtype=torch.int64)}
    with pytest.raises(BadInput, match=message):
        pgd_linf(network(), **(arguments | {"epsilon": 0.1, "steps": 2} | change))


def test_labels_that_do_not_fit_and_no_attempts_are_refused() -> None:
    images = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\), got \(3,\)"):
        pgd_linf(network(), images, torch.zeros(3, dtype=torch.int64), epsilon=0.1, steps=1)
    with pytest.raises(ValueError, match="restarts must be at least 1, got 0"):
        pgd_linf(network(), images, torch.zeros(2, dtype=torch.int64), epsilon=0.1, steps=1, restarts=0)


def test_starts_are_uniform_in_the_ball_and_points_inside_stay() -> None:
    origin = torch.full((2000, 4), 0.5)
    change = draw_start(origin, Budget(0.1, 1, 0.1), torch.Generator().manual_seed(0)) - origin
    assert change.abs().max() <= 0.1 + 1e-6
    assert abs(change.mean()) < 0.003 and abs(change.std() - 0.1 / math.sqrt(3)) < 0.003
    change = draw_start(origin, Budget(0.1, 1, 0.1, "l2"), torch.Generator().manual_seed(0)) - origin
    assert abs((change.norm(dim=1) <= 0.05).float().mean() - 0.5**4) < 0.02  # half the radius in four dimensions
    moved = torch.tensor([[0.5, 0.54, 0.47], [0.5, 0.9, 0.2]])  # by 0.05 and by 0.5
    expected = torch.tensor([[0.5, 0.54, 0.47], [0.5, 0.58, 0.44]])
    torch.testing.assert_close(project(moved, torch.full((2, 3), 0.5), 0.1, "l2"), expected)


def test_the_default_step_reaches_the_worst_case_from_anywhere() -> None:
    """Five steps of half epsilon."""
    images = torch.full((1, 3), 0.5)
    for seed in range(20):
        options: dict[str, Any] = {"epsilon": 0.1, "steps": 5, "generator": torch.Generator().manual_seed(seed)}
        attacked = pgd_linf(two_classes, images, torch.tensor([1]), **options)
        torch.testing.assert_close(attacked, images - 0.1 * WEIGHT.sign())
