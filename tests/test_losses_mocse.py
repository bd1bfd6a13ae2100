"""Losses against hand calculations and torch's own binary cross-entropy."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mocse_timm.losses import expert_loss, mocse_loss, multi_label_loss
from mocse_timm.training.objectives import cross_entropy_objective


def test_expert_loss_is_the_sum_of_binary_cross_entropies() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 4, 2), torch.tensor([0, 3, 1, 1, 2])
    log_odds = logits[:, :, 1] - logits[:, :, 0]
    expected = F.binary_cross_entropy_with_logits(log_odds, F.one_hot(labels, 4).float(), reduction="sum") / 5
    torch.testing.assert_close(expert_loss(logits, labels, [1, 1, 1, 1]), expected)


def test_soft_targets_are_not_smoothed_again() -> None:
    scores, soft = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[0.9, 0.1]])  # p = 3/4, 1/4
    expected = torch.tensor(0.9 * math.log(4 / 3) + 0.1 * math.log(4))
    found = mocse_loss(scores, torch.zeros(1, 2, 2), soft, group_sizes=[1, 1], label_smoothing=0.2)
    torch.testing.assert_close(found.aggregate, expected)
    plain = cross_entropy_objective(0.2)(nn.Flatten(), scores[:, None], soft)
    torch.testing.assert_close(plain.loss, expected)


def test_expert_loss_of_uneven_groups_matches_hand_calculation() -> None:
    # expert 0 serves classes 0 and 1, expert 1 class 2 (its third place is padding); the label is class 1
    logits = torch.tensor([[[0.0, 0.0, math.log(2)], [math.log(3), 0.0, -math.inf]]])
    # expert 0 says class 1 with 2 / (1 + 1 + 2); expert 1 says "not mine" with 3 / (3 + 1)
    expected = torch.tensor(-math.log(1 / 2) - math.log(3 / 4))
    torch.testing.assert_close(expert_loss(logits, torch.tensor([1]), [2, 1]), expected)


def test_padding_leaves_every_gradient_finite() -> None:
    torch.manual_seed(0)
    own = torch.randn(3, 2, 3, requires_grad=True)
    padding = torch.tensor([[False, False, False], [False, False, True]])
    expert_loss(own.masked_fill(padding, -math.inf), torch.tensor([0, 1, 2]), [2, 1]).backward()
    assert own.grad is not None and own.grad.isfinite().all()
    assert own.grad[:, 1, 2].eq(0).all()


def test_soft_targets_average_the_losses_of_the_mixed_labels() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2)
    first, second = torch.tensor([0, 2]), torch.tensor([1, 2])
    mixed = 0.3 * F.one_hot(first, 3) + 0.7 * F.one_hot(second, 3)
    expected = 0.3 * expert_loss(logits, first, [1, 1, 1]) + 0.7 * expert_loss(logits, second, [1, 1, 1])
    torch.testing.assert_close(expert_loss(logits, mixed, [1, 1, 1]), expected)


def test_total_is_cross_entropy_plus_weighted_experts() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3, 2), torch.tensor([0, 1, 2, 1])
    scores = logits[:, :, 1] - logits[:, :, 0]
    result = mocse_loss(scores, logits, labels, group_sizes=[1, 1, 1], expert_loss_weight=0.5, label_smoothing=0.1)
    log_p = scores.log_softmax(dim=1)
    smoothed = 0.9 * F.one_hot(labels, 3) + 0.1 / 3
    torch.testing.assert_close(result.aggregate, -(smoothed * log_p).sum(dim=1).mean())
    torch.testing.assert_close(result.total, result.aggregate + 0.5 * result.experts)


def test_positive_weight_is_that_of_torchs_binary_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 4, 2), torch.tensor([0, 3, 1, 1, 2])
    log_odds = logits[:, :, 1] - logits[:, :, 0]
    expected = F.binary_cross_entropy_with_logits(
        log_odds, F.one_hot(labels, 4).float(), reduction="sum", pos_weight=torch.tensor(3.0)
    )
    torch.testing.assert_close(expert_loss(logits, labels, [1, 1, 1, 1], positive_weight=3), expected / 5)


def test_without_the_aggregate_no_expert_learns_from_another() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3, 2, requires_grad=True), torch.tensor([0, 1, 2, 1])

    def gradient_of_first_expert(others: float) -> torch.Tensor:
        changed = torch.cat([logits[:, :1], logits[:, 1:] * others], dim=1)
        scores = changed[:, :, 1] - changed[:, :, 0]
        loss = mocse_loss(scores, changed, labels, group_sizes=[1, 1, 1], aggregate_loss_weight=0)
        torch.testing.assert_close(loss.total, loss.experts)
        return torch.autograd.grad(loss.total, logits)[0][:, 0]

    torch.testing.assert_close(gradient_of_first_expert(1.0), gradient_of_first_expert(5.0), rtol=0, atol=0)


def test_multi_label_loss_matches_hand_calculation() -> None:
    log_odds = torch.tensor([[0.0, math.log(3)]])
    # "yes" at 1/2 and at 3/4, wanted yes and no
    expected = torch.tensor(math.log(2) + math.log(4))
    torch.testing.assert_close(multi_label_loss(log_odds, torch.tensor([[1, 0]])), expected)


def test_bad_input_is_one_sentence() -> None:
    logits, labels = torch.zeros(2, 3, 2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="expert_loss_weight must be at least 0, got -1"):
        mocse_loss(logits[:, :, 0], logits, labels, group_sizes=[1, 1, 1], expert_loss_weight=-1)
    with pytest.raises(ValueError, match="aggregate_loss_weight must be at least 0, got -2"):
        mocse_loss(logits[:, :, 0], logits, labels, group_sizes=[1, 1, 1], aggregate_loss_weight=-2)
    with pytest.raises(ValueError, match="positive_weight must be at least 0, got nan"):
        expert_loss(logits, labels, [1, 1, 1], positive_weight=math.nan)
    with pytest.raises(ValueError, match=r"expert logits must be \(B, 2, 3\)"):
        expert_loss(logits, labels, [2, 1])
    with pytest.raises(ValueError, match="one column a class"):
        expert_loss(logits, torch.ones(2, 5), [1, 1, 1])
    with pytest.raises(ValueError, match="targets must have shape"):
        multi_label_loss(logits[:, :, 0], torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 0 to 2"):
        multi_label_loss(torch.zeros(1, 2), torch.tensor([[0, 2]]))


def test_multi_label_loss_compiles_in_one_graph() -> None:
    log_odds, targets = torch.tensor([[1.0, -2.0]]), torch.tensor([[1.0, 0.5]])
    compiled = torch.compile(multi_label_loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(log_odds, targets), multi_label_loss(log_odds, targets))
