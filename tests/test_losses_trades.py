"""TRADES and the router's losses against values worked out by hand."""

import math

import pytest
import torch

from mocse_timm.losses import agreement_loss, balance_loss, class_routing_loss, trades_loss


def test_trades_matches_a_hand_calculation() -> None:
    clean = torch.tensor([[0.0, 0.0]])  # p = (1/2, 1/2)
    attacked = torch.tensor([[math.log(3), 0.0]])  # q = (3/4, 1/4)
    loss = trades_loss(clean, attacked, torch.tensor([0]), beta=6)
    torch.testing.assert_close(loss, torch.tensor(math.log(2) + 6 * math.log(4 / 3) / 2))


def test_class_routing_matches_a_hand_calculation() -> None:
    clean, attacked = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])  # p = 1/2, 1/2; q = 3/4, 1/4
    loss = class_routing_loss(clean, attacked, torch.tensor([3]), beta=6)
    torch.testing.assert_close(loss, torch.tensor(math.log(2) + 6 * math.log(4 / 3) / 2))


def test_balance_is_of_the_shares_of_all_images_where_these_are_told() -> None:
    scores = torch.tensor([[math.log(3), 0.0]])  # p = 3/4, 1/4, and this part's one image goes to expert 0
    loss = balance_loss(scores, torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(loss, torch.tensor(2 * (0.25 * 0.75 + 0.75 * 0.25)))


def test_agreement_averages_over_images_and_is_zero_for_equal_logits() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert agreement_loss(logits, logits).abs() < 1e-6
    other = logits.flip(0)
    one_by_one = [agreement_loss(logits[i : i + 1], other[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(agreement_loss(logits, other), torch.stack(one_by_one).mean())


def test_gradients_flow_through_both_sides_and_equal_autograds_of_the_definition() -> None:
    torch.manual_seed(0)
    clean, attacked = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = torch.autograd.grad(agreement_loss(clean, attacked), [clean, attacked])
    p, q = clean.softmax(1), attacked.softmax(1)
    expected = torch.autograd.grad((p * (p / q).log()).sum() / 4, [clean, attacked])
    torch.testing.assert_close(found, expected)


def test_scores_that_saturate_the_softmax_keep_finite_gradients() -> None:
    """(320, 0): the probability of the second underflows to 0, where the usual form has the gradient NaN."""
    clean = torch.tensor([[320.0, 0.0]], requires_grad=True)
    attacked = torch.tensor([[0.0, 320.0]], requires_grad=True)
    loss = class_routing_loss(clean, attacked, torch.tensor([1]), beta=6)
    gradients = torch.autograd.grad(loss, [clean, attacked])
    assert loss.isfinite() and loss > 320
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_classes_are_assigned_to_experts_in_turn() -> None:
    scores = torch.tensor([[5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])
    right = class_routing_loss(scores, scores, torch.tensor([4, 7, 0]), beta=6)
    torch.testing.assert_close(right, torch.tensor(math.log1p(math.exp(-5))))


def test_balance_is_one_for_an_even_spread_and_the_number_of_experts_for_a_collapse() -> None:
    even = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9]]) * 10
    torch.testing.assert_close(balance_loss(even), torch.tensor(1.0))
    collapsed = torch.tensor([[90.0, 0, 0]] * 3, requires_grad=True)
    torch.testing.assert_close(balance_loss(collapsed), torch.tensor(3.0))
    half = torch.tensor([[1.0, 0], [1, 0]], requires_grad=True)
    (slope,) = torch.autograd.grad(balance_loss(half), half)
    assert (slope[:, 0] > 0).all() and (slope[:, 1] < 0).all()  # descending takes images away from the first


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b, y: agreement_loss(a, b[:1]), r"one shape, got \(2, 3\) and \(1, 3\)"),
        (lambda a, b, y: trades_loss(a, b, y[:1], beta=1), r"labels must have shape \(2,\), got \(1,\)"),
        (lambda a, b, y: trades_loss(a, b, y, beta=-1), "beta must be at least 0, got -1"),
        (lambda a, b, y: class_routing_loss(a, b, y[:1], beta=1), r"labels must have shape \(2,\), got \(1,\)"),
        (lambda a, b, y: class_routing_loss(a, b, y, beta=-1), "beta must be at least 0, got -1"),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
