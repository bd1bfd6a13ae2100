"""Aggregation against numbers worked out by hand. Letters: B images, C classes, E experts, G classes of a group."""

import math

import pytest
import torch

from mocse_timm.models.aggregation import (
    AGGREGATIONS,
    aggregate,
    class_log_odds,
    confidence_log_odds,
    split_classes,
    stack_expert_logits,
)

# two experts: p_0 = softmax(0, ln 3)[1] = 3/4, p_1 = softmax(ln 4, 0)[1] = 1/5
TWO_EXPERTS = torch.tensor([[[0.0, math.log(3)], [math.log(4), 0.0]]])


@pytest.mark.parametrize(
    ("method", "scores"),
    [
        ("log_odds", [math.log(3), -math.log(4)]),
        ("log_confidence", [math.log(3 / 4), math.log(1 / 5)]),
        ("confidence", [3 / 4, 1 / 5]),
    ],
)
def test_two_experts_by_hand(method: str, scores: list[float]) -> None:
    torch.testing.assert_close(aggregate(TWO_EXPERTS, [1, 1], method), torch.tensor([scores]))


def test_belief_from_log_confidence_is_the_confidences_normalised() -> None:
    belief = aggregate(TWO_EXPERTS, [1, 1], "log_confidence").softmax(dim=1)
    torch.testing.assert_close(belief, torch.tensor([[0.75 / 0.95, 0.20 / 0.95]]))


def test_one_group_of_two_classes_by_hand() -> None:
    """One expert of two classes beside one of one: logits (none, a, b) = (0, ln 2, ln 5) and (none, c) = (0, ln 3)."""
    stacked = stack_expert_logits(
        [torch.tensor([[0.0, math.log(2), math.log(5)]]), torch.tensor([[0.0, math.log(3)]])], [2, 1]
    )
    log_odds = torch.tensor([[math.log(2), math.log(5), math.log(3)]])
    torch.testing.assert_close(class_log_odds(stacked, [2, 1]), log_odds)
    of_confidences = torch.tensor([[math.log(2 / 6), math.log(5 / 3), math.log(3 / 1)]])
    torch.testing.assert_close(confidence_log_odds(stacked, [2, 1]), of_confidences)
    torch.testing.assert_close(aggregate(stacked, [2, 1], "confidence"), torch.tensor([[2 / 8, 5 / 8, 3 / 4]]))
    torch.testing.assert_close(
        aggregate(stacked, [2, 1], "log_confidence"), torch.tensor([[2 / 8, 5 / 8, 3 / 4]]).log()
    )


@pytest.mark.parametrize(
    ("classes", "experts", "sizes"), [(10, 4, [3, 3, 2, 2]), (10, 10, [1] * 10), (10, 1, [10]), (7, 3, [3, 2, 2])]
)
def test_classes_are_split_as_evenly_as_they_can(classes: int, experts: int, sizes: list[int]) -> None:
    assert split_classes(classes, experts) == sizes


@pytest.mark.parametrize("method", AGGREGATIONS)
def test_padding_gives_finite_scores_and_gradients(method: str) -> None:
    sizes = split_classes(10, 4)
    logits = [torch.randn(2, size + 1, requires_grad=True) for size in sizes]
    stacked = stack_expert_logits(logits, sizes)
    assert stacked.shape == (2, 4, 4)
    assert stacked[:, 2:, 3].tolist() == [[float("-inf")] * 2] * 2
    scores = aggregate(stacked, sizes, method)
    assert scores.shape == (2, 10)
    assert scores.isfinite().all()
    scores.logsumexp(dim=1).sum().backward()
    for leaf in logits:
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize("experts", [0, 11, -1])
def test_experts_that_cannot_split_the_classes_are_refused(experts: int) -> None:
    with pytest.raises(
        ValueError, match=rf"num_experts must be between 1 and the number of classes \(10\), got {experts}"
    ):
        split_classes(10, experts)


def test_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ValueError, match="one of log_odds, log_confidence, confidence, got 'mean'"):
        aggregate(TWO_EXPERTS, [1, 1], "mean")
