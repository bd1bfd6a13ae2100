"""Losses and aggregation of anything: a finite scalar, or one sentence; never a silent NaN, never torch's own words."""

import math
from typing import Any

import torch
from answers import answer_or_sentence, drawn, one_odd, some
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mocse_timm.losses import (
    agreement_loss,
    balance_loss,
    class_routing_loss,
    expert_loss,
    expert_shares,
    mocse_loss,
    multi_label_loss,
    trades_loss,
)
from mocse_timm.models.aggregation import AGGREGATIONS, aggregate, class_log_odds, split_classes

SHAPES = [(4, 5), (4, 5), (4, 5), (1, 2), (3, 1), (0, 5), (4, 0), (5,), (2, 3, 4), ()]
DTYPES = [torch.float32, torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.int64]
TARGETS = [None, None, None, "float", "short", "too large", "negative", "ignored", "int32", "soft", "narrow", "heavy"]
SCALES = [1.0, 1.0, 100.0, 1e30, 0.0]
BETAS = [6.0, 0.0, 1.0, -1.0, -0.0, math.nan, math.inf, -math.inf, 1e-30, 1e30]
SMOOTHINGS = [0.0, 0.1, 0.5, 1.0, 1.5, -0.1, math.nan, math.inf]


def scores_of(shape: tuple[int, ...], dtype: torch.dtype, scale: float, seed: int = 0) -> Tensor:
    if not dtype.is_floating_point:
        return torch.ones(shape, dtype=dtype)
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def targets_of(shape: tuple[int, ...], wrong: str | None) -> Tensor:
    """Labels, or soft targets, for scores of ``shape``, or what somebody might take for them."""
    count, classes = (*shape, 5, 5)[:2]
    labels = torch.arange(count) % max(1, classes)
    soft = torch.full((count, classes), 1 / max(1, classes))
    changes: dict[str | None, Tensor] = {
        "float": labels.float(),
        "short": labels[:-1],
        "too large": labels + classes,
        "negative": labels - 1,
        "ignored": labels * 0 - 100,
        "int32": labels.int(),
        "soft": soft,
        "narrow": soft[:, :-1],
        "heavy": soft * 2,
    }
    return changes.get(wrong, labels)


def check(loss: Any, scale: float) -> bool:
    """Whether there was an answer, which has to be a number where the scores are no wilder than a model's."""
    if loss is None:
        return False
    assert loss.shape == ()
    assert loss.isfinite() or scale > 1e4
    return True


@some(2)
@given(one_odd(SHAPES, DTYPES, TARGETS, SCALES, BETAS, SMOOTHINGS), drawn(*SHAPES), st.integers(0, 3))
def test_trades_and_class_routing(faults, other, differs) -> None:
    shape, dtype, wrong, scale, beta, smoothing = faults
    same = differs > 0
    same = same or shape == other
    clean = scores_of(shape, dtype, scale)
    attacked = scores_of(shape if same else other, dtype, scale, seed=1)
    labels = targets_of(shape, wrong)
    good = same and shape in SHAPES[:5] and dtype.is_floating_point and wrong is None and 0 <= beta < math.inf
    loss = answer_or_sentence(lambda: trades_loss(clean, attacked, labels, beta=beta, label_smoothing=smoothing))
    assert check(loss, max(scale, beta)) == (good and 0 <= smoothing < 1)
    loss = answer_or_sentence(lambda: class_routing_loss(clean, attacked, labels, beta=beta))
    assert check(loss, max(scale, beta)) >= good
    loss = answer_or_sentence(lambda: agreement_loss(clean, attacked))
    assert check(loss, scale) == (clean.shape == attacked.shape and shape in SHAPES[:5] and dtype.is_floating_point)


@some()
@given(drawn(*SHAPES), drawn(*DTYPES), drawn(*SCALES), drawn(*SHAPES))
def test_balance(shape, dtype, scale, other) -> None:
    scores = scores_of(shape, dtype, scale)
    good = shape in SHAPES[:5] and dtype.is_floating_point
    loss = answer_or_sentence(lambda: balance_loss(scores))
    assert check(loss, scale) == good
    if good:
        assert loss is not None and 0.99 <= float(loss) <= shape[1] + 0.1  # bfloat16 rounds
        assert float(expert_shares(scores).sum()) == 1 or abs(float(expert_shares(scores).sum()) - 1) < 0.01
    check(answer_or_sentence(lambda: balance_loss(scores, scores_of(other, torch.float32, 0.1))), math.inf)


@some()
@given(drawn(*SHAPES), drawn(*DTYPES), drawn(*SHAPES), drawn(0.0, 1.0, 0.5, 1.5, -0.5, math.nan), drawn(*SCALES))
def test_multi_label(shape, dtype, other, target, scale) -> None:
    log_odds = scores_of(shape, dtype, scale)
    loss = answer_or_sentence(lambda: multi_label_loss(log_odds, torch.full(other, target)))
    good = shape == other and shape in SHAPES[:5] and dtype.is_floating_point and 0 <= target <= 1
    assert check(loss, scale) == good


GROUPS: list[list[int]] = [[2, 1], [1, 1, 1], [2, 2], [3], [], [0, 3], [2, -1]]
LOGITS = [None, "wide", "flat", "empty", "other experts"]


@some(2)
@given(one_odd(GROUPS, LOGITS, DTYPES, TARGETS, SCALES, BETAS, SMOOTHINGS))
def test_experts_losses_and_aggregation(faults) -> None:
    sizes, wrong, dtype, wrong_targets, scale, weight, smoothing = faults
    shape = (4, len(sizes), max(sizes, default=0) + 1)
    others = {"wide": (*shape[:2], shape[2] + 1), "flat": shape[:2], "empty": (0, *shape[1:])}
    given_shape = others.get(wrong, (4, shape[1] + 1, shape[2]) if wrong else shape)
    logits = scores_of(given_shape, dtype, scale)
    if dtype.is_floating_point and wrong is None and sizes == [2, 1]:
        logits[:, 1, 2] = -math.inf  # as smaller groups are padded
    targets = targets_of((4, max(0, sum(sizes))), wrong_targets)
    fits = sizes and min(sizes) > 0 and wrong is None and dtype.is_floating_point
    good = bool(fits) and wrong_targets in (None, "soft")
    loss = answer_or_sentence(lambda: expert_loss(logits, targets, sizes))
    assert check(loss, scale) == good
    scores = scores_of((4, max(0, sum(sizes))), dtype, scale)
    result = answer_or_sentence(
        lambda: mocse_loss(
            scores, logits, targets, group_sizes=sizes, expert_loss_weight=weight, label_smoothing=smoothing
        )
    )
    assert (result is not None) == (good and 0 <= weight < math.inf and 0 <= smoothing < 1)
    if result is not None:
        for part in result:
            check(part, max(scale, weight))
    for method in (*AGGREGATIONS, "mean"):
        found = answer_or_sentence(lambda method=method: aggregate(logits, sizes, method))
        if fits:
            assert (found is None) == (method == "mean")
        if fits and found is not None:
            assert found.shape == (4, sum(sizes)) and (found.isfinite().all() or scale > 1e4)
    odds = answer_or_sentence(lambda: class_log_odds(logits, sizes))
    assert odds is None or not fits or odds.shape == (4, sum(sizes))


@some()
@given(st.integers(-3, 50), st.integers(-3, 50))
def test_classes_are_shared_out(classes, experts) -> None:
    sizes = answer_or_sentence(lambda: split_classes(classes, experts))
    assert (sizes is not None) == (1 <= experts <= classes)
    assert sizes is None or (sum(sizes) == classes and len(sizes) == experts and max(sizes) - min(sizes) <= 1)
