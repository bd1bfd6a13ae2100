"""The attack on a model's own answer, and the one on a router's choice."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocse_timm.attacks import router_attack, trades_attack
from mocse_timm.checks import BadInput

WEIGHT = torch.tensor([2.0, -1.0, 0.5])


def two_classes(x: Tensor) -> Tensor:
    score = x @ WEIGHT
    return torch.stack([-score, score], dim=1)


def test_trades_goes_to_one_of_the_two_worst_cases_of_a_linear_model() -> None:
    images = torch.tensor([[0.5, 0.5, 0.5], [0.4, 0.6, 0.5]])
    attacked = trades_attack(two_classes, images, epsilon=0.1, steps=10, step_size=0.05)
    worst = 0.1 * WEIGHT.sign()
    for found, image in zip(attacked, images, strict=True):
        assert torch.allclose(found, image + worst) or torch.allclose(found, image - worst)


class RoutedNetwork(nn.Sequential):
    def route(self, x: Tensor) -> Tensor:
        return self(x)


@pytest.mark.parametrize("attack", [trades_attack, router_attack])
def test_an_attack_leaves_the_model_as_it_was(attack: Callable[..., Tensor]) -> None:
    """Batch norms see no attacked images, and what was frozen stays so."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(288, 4)
    model = RoutedNetwork(*layers).train()
    model[4].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attack(model, torch.rand(4, 3, 8, 8), epsilon=0.1, steps=2, step_size=0.05)
    assert [layer.training for layer in model] == [True, True, True, True, False, True]
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_trades_makes_the_divergence_larger_in_both_norms() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 5))
    images = torch.rand(16, 3, 4, 4)
    clean = model(images).log_softmax(dim=1)
    for norm, epsilon in (("linf", 0.05), ("l2", 0.3)):
        attacked = trades_attack(model, images, epsilon=epsilon, steps=5, step_size=epsilon / 3, norm=norm)
        noise = torch.rand(images.shape).mul(2).sub(1).mul(0.05 if norm == "linf" else 0.3 / 48**0.5)
        divergence = [
            F.kl_div(model(x).log_softmax(dim=1), clean, log_target=True, reduction="batchmean")
            for x in (attacked, images + noise)
        ]
        assert divergence[0] > 3 * divergence[1]


class Routed(nn.Module):
    def route(self, images: Tensor) -> Tensor:
        return two_classes(images)


def test_the_router_attack_flips_exactly_the_images_that_can_be_flipped() -> None:
    images = torch.tensor([[0.5, 0.9, 0.1], [0.9, 0.1, 0.9], [0.1, 0.9, 0.1]])  # scores 0.15, 2.15, -0.65
    attacked = router_attack(Routed(), images, epsilon=0.1, steps=10, step_size=0.03)  # a score moves by up to 0.35
    flipped = two_classes(attacked).argmax(dim=1) != two_classes(images).argmax(dim=1)
    assert flipped.tolist() == [True, False, False]


def test_a_model_without_router_and_a_bad_norm_are_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no router to attack"):
        router_attack(nn.Linear(3, 2), torch.zeros(1, 3), epsilon=0.1, steps=1, step_size=0.1)
    with pytest.raises(BadInput, match="norm must be 'linf' or 'l2', got 'l1'"):
        trades_attack(two_classes, torch.zeros(1, 3), epsilon=0.1, steps=1, step_size=0.1, norm="l1")
