"""AutoAttack through its adapter, and our PGD beside its first attack on a small trained network."""

import sys
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocse_timm.attacks import autoattack, pgd_linf
from mocse_timm.attacks.autoattack import AutoAttackState
from mocse_timm.checks import BadInput
from mocse_timm.data import MemoryImages, load_data, to_float


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = load_data("digits", model_size=8).validation
    assert isinstance(data, MemoryImages)
    return to_float(data.images)[:100], data.labels[:100]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A small network trained on digits to about 95 %."""
    torch.manual_seed(0)
    data = load_data("digits", model_size=8).train
    assert isinstance(data, MemoryImages)
    images, labels = to_float(data.images), data.labels
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * 36, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.train()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    found = 100 * (model(images).argmax(dim=1) == labels).float().mean().item()
    model.train()
    return found


def test_our_pgd_is_as_strong_as_theirs(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """APGD on the cross-entropy, 100 steps; robust accuracies within 1 %."""
    from pyautoattack import AutoAttack

    images, labels = digits
    trained.eval()
    adversary = AutoAttack(trained, norm="Linf", eps=0.12, version="custom", attacks=["apgd-ce"], seed=0)
    theirs, _ = adversary.run_standard_evaluation(images, labels)
    ours = pgd_linf(trained, images, labels, epsilon=0.12, steps=100, step_size=0.006, restarts=2)
    found = [accuracy(trained, attacked, labels) for attacked in (theirs, ours)]
    assert 10 < found[0] < accuracy(trained, images, labels) - 10  # a number that could have come out otherwise
    assert abs(found[0] - found[1]) <= 1


def test_the_standard_version_runs_on_few_classes_and_puts_every_flag_back(digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][:6], digits[1][:6] % 5
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(192, 5))
    draws = torch.get_rng_state()
    attacked = autoattack(model, images, labels, epsilon=0.01)
    assert model.training and torch.equal(torch.get_rng_state(), draws)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert (attacked - images).abs().max() <= 0.01 + 1e-6
    assert accuracy(model, attacked, labels) <= accuracy(model, images, labels)
    assert torch.equal(autoattack(model, images, labels, epsilon=0.01), attacked)  # seeded


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_batch_by_batch_it_finds_what_pyautoattack_finds_and_goes_on_from_any_state(norm: str) -> None:
    from pyautoattack import AutoAttack

    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(75, 12), nn.ReLU(), nn.Linear(12, 5)).eval()
    images = torch.rand(7, 3, 5, 5)
    labels = model(images).argmax(dim=1)
    labels[1] = (labels[1] + 1) % 5  # wrong as it is
    epsilon = {"linf": 0.25, "l2": 1.2}[norm]
    their_norm: Any = {"linf": "Linf", "l2": "L2"}[norm]
    theirs = AutoAttack(model, norm=their_norm, eps=epsilon, seed=5)
    theirs.apgd_targeted.n_target_classes = theirs.fab.n_target_classes = 4
    expected, answers = theirs.run_standard_evaluation(images, labels, batch_size=4)
    states: list[AutoAttackState] = []
    options: dict[str, Any] = {"epsilon": epsilon, "norm": norm, "batch_size": 4, "seed": 5}
    found = autoattack(model, images, labels, **options, after_batch=lambda state: states.append(deepcopy(state)))
    assert torch.equal(found, expected)
    assert states[0].counts == [6] and states[0].attack == "apgd-ce"
    assert states[-1].attack is None and states[-1].counts[-1] == int((answers == labels).sum())
    assert 0 < states[-1].counts[-1] < 6, "neither all nor none, or the test says little"
    for state in states[1], states[-3]:
        draws, given = torch.get_rng_state(), deepcopy(state)
        assert torch.equal(autoattack(model, images, labels, **options, state=given), expected)
        assert given.attack is None, "it is the one that was taken to its end"
        assert torch.equal(torch.get_rng_state(), draws)
    with pytest.raises(BadInput, match=r"is of images \(7, 3, 5, 5\), not of \(2, 3, 5, 5\): leave it out"):
        autoattack(model, images[:2], labels[:2], **options, state=states[0])


def test_in_l2_every_change_is_as_short_as_asked_for() -> None:
    torch.manual_seed(1)
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), torch.rand(4, 1, 8, 8)
    labels = model(images).argmax(dim=1)
    attacked = autoattack(model, images, labels, epsilon=1.0, norm="l2")
    lengths = (attacked - images).flatten(1).norm(dim=1)
    assert accuracy(model, attacked, labels) == 0 and lengths.min() > 0 and lengths.max() <= 1 + 1e-5
    with pytest.raises(BadInput, match="AutoAttack in l2 needs images of at least 5x5 pixels, got 2x8: use pgd50"):
        autoattack(model, images[:, :, :2], labels, epsilon=1.0, norm="l2")


def test_too_few_classes_and_a_missing_package_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"images": torch.zeros(2, 3), "labels": torch.zeros(2, dtype=torch.int64)}
    with pytest.raises(BadInput, match="AutoAttack needs at least 4 classes, the model has 3: use pgd50"):
        autoattack(nn.Linear(3, 3), **arguments, epsilon=0.1)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(BadInput, match="AutoAttack needs pyautoattack: pip install"):
        autoattack(nn.Linear(3, 5), **arguments, epsilon=0.1)
