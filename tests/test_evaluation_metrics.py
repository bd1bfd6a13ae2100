"""Every metric against a hand-worked example or a slow twin in numpy."""

import json
import math
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import Tensor

from mocse_timm.checks import BadInput
from mocse_timm.evaluation.metrics import score, score_multi_label
from mocse_timm.evaluation.predictions import Predictions


def names(count: int) -> list[str]:
    return [f"class {index}" for index in range(count)]


def random_predictions(num_images: int = 400, num_classes: int = 7) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (num_images,), generator=generator)
    logits = 2 * torch.randn(num_images, num_classes, generator=generator)
    logits[torch.arange(num_images), labels] += 1.5
    log_odds = logits.round() + 0.5  # rounded, so that AUROC has ties; never exactly at the threshold
    return Predictions(logits, labels, log_odds)


def counted_ece(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    scores = logits.double().numpy()
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels.numpy()
    total = 0.0
    for index in range(bins):
        inside = (confidence >= index / bins) & ((confidence < (index + 1) / bins) | (index == bins - 1))
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return 100 * total


def counted_auroc(scores: Tensor, targets: Tensor) -> float:
    positive, negative = scores[targets.bool()].numpy(), scores[~targets.bool()].numpy()
    difference = positive[:, None] - negative[None, :]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def test_two_images_by_hand() -> None:
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])  # beliefs (3/4, 1/4) and (1/2, 1/2)
    scores = score(Predictions(logits, torch.tensor([0, 1])), ["cat", "dog"])
    assert scores.num_images == 2
    assert scores.top1 == 50.0  # a tie counts for the first class, which is wrong here
    assert scores.top5 == 100.0  # two classes: top-2
    assert scores.loss == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert scores.ece == pytest.approx(100 * (0.25 + 0.5) / 2)
    assert scores.per_class_accuracy == {"cat": 100.0, "dog": 0.0}
    assert scores.experts is None


def test_top5_counts_labels_among_the_five_largest() -> None:
    logits = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]]).repeat(4, 1)
    scores = score(Predictions(logits, torch.tensor([0, 4, 5, 5])), names(6))
    assert scores.top1 == 25.0
    assert scores.top5 == 50.0


def test_top5_equals_a_sorted_twin() -> None:
    predictions = random_predictions()
    order = np.argsort(-predictions.logits.numpy(), axis=1)[:, :5]
    twin = 100 * (order == predictions.labels.numpy()[:, None]).any(axis=1).mean()
    assert score(predictions, names(7)).top5 == pytest.approx(twin, rel=1e-6)


def test_calibration_error_equals_explicit_binning() -> None:
    predictions = random_predictions()
    twin = counted_ece(predictions.logits, predictions.labels)
    assert twin > 1
    assert score(predictions, names(7)).ece == pytest.approx(twin, abs=1e-4)


def test_calibration_error_bins_certainty_with_the_last_bin() -> None:
    # 0.95 and right, 1.0 and right, 1.0 and wrong: in one bin the gaps cancel, a bin of its own for 1.0 would give 35 %
    logits = torch.tensor([[math.log(19), 0.0], [300.0, 0.0], [300.0, 0.0]])
    scores = score(Predictions(logits, torch.tensor([0, 0, 1])), names(2))
    assert scores.ece == pytest.approx(100 * ((0.95 + 1 + 1) / 3 - 2 / 3), abs=1e-3)


def test_scores_that_lie_in_0_to_1_are_not_taken_for_probabilities() -> None:
    """The ``confidence`` aggregation gives such scores; their softmax is the belief."""
    logits = torch.rand(200, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200) % 3
    assert score(Predictions(logits, labels), names(3)).ece == pytest.approx(counted_ece(logits, labels), abs=1e-4)


def test_per_class_accuracy_equals_a_loop() -> None:
    predictions = random_predictions()
    chosen = predictions.logits.argmax(dim=1)
    for index, accuracy in enumerate(score(predictions, names(7)).per_class_accuracy.values()):
        own = predictions.labels == index
        assert accuracy == pytest.approx(100 * (chosen[own] == index).double().mean().item(), rel=1e-6)


def test_experts_by_hand() -> None:
    log_odds = torch.tensor([[2.0, -1.0], [1.0, 3.0], [-1.0, 1.0], [0.5, -2.0]])
    labels = torch.tensor([0, 1, 1, 1])
    experts = score(Predictions(log_odds, labels, log_odds), ["cat", "dog"]).experts
    assert experts is not None
    cat, dog = experts
    # "cat" fires on images 0, 1, 3; only 0 is one, and it has the largest score
    assert (cat.class_name, cat.threshold) == ("cat", 0.5)
    assert (cat.precision, cat.recall, cat.auroc) == (pytest.approx(1 / 3), 1.0, 1.0)
    # "dog" fires on 1 and 2, both dogs, and misses 3, which scores below the cat: 2 of 3 pairs in order
    assert (dog.precision, dog.recall, dog.auroc) == (1.0, pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_experts_equal_counting() -> None:
    predictions = random_predictions()
    assert predictions.expert_log_odds is not None
    experts = score(predictions, names(7)).experts
    assert experts is not None
    for index, expert in enumerate(experts):
        log_odds, own = predictions.expert_log_odds[:, index], predictions.labels == index
        fires = log_odds > 0
        assert expert.precision == pytest.approx((fires & own).sum().item() / fires.sum().item(), rel=1e-6)
        assert expert.recall == pytest.approx((fires & own).sum().item() / own.sum().item(), rel=1e-6)
        assert expert.auroc == pytest.approx(counted_auroc(log_odds, own), rel=1e-6)


def test_auroc_tells_very_sure_experts_apart() -> None:
    """In float32 the sigmoids of 20 and 25 are both 1, in float64 those of 40 and 50."""
    log_odds = torch.tensor([[25.0, -25.0], [20.0, -20.0], [50.0, -50.0], [40.0, -40.0], [60.0, -60.0]])
    log_odds = log_odds[[1, 0, 3, 2, 4]]  # ascending
    experts = score(Predictions(log_odds, torch.tensor([1, 1, 1, 0, 0]), log_odds), names(2)).experts
    assert experts is not None
    assert experts[0].auroc == 1.0


def test_what_the_set_cannot_tell_is_none() -> None:
    log_odds = torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, 2.0]])
    scores = score(Predictions(log_odds, torch.tensor([0, 0]), log_odds), ["cat", "dog", "owl"])
    assert scores.per_class_accuracy == {"cat": 50.0, "dog": None, "owl": None}
    assert scores.experts is not None
    cat, dog, owl = scores.experts
    assert (cat.precision, cat.recall, cat.auroc) == (1.0, 1.0, None)  # all images are cats
    assert (dog.precision, dog.recall, dog.auroc) == (None, None, None)  # never fires, never occurs
    assert (owl.precision, owl.recall, owl.auroc) == (0.0, None, None)  # fires once, wrongly
    assert json.loads(json.dumps(asdict(scores), allow_nan=False))["experts"][1]["precision"] is None


@pytest.mark.parametrize(
    ("logits", "labels", "class_names", "sentence"),
    [
        (torch.zeros(2, 3), [0, 3], names(3), "label 3 is outside the model's 3 classes"),
        (torch.zeros(2, 3), [0, -1], names(3), "label -1 is outside the model's 3 classes"),
        (torch.zeros(2, 3), [0, 1], names(2), "the model has 3 classes, but 2 class names were given"),
        (torch.zeros(0, 3), [], names(3), "no predictions to score"),
        (torch.zeros(2, 1), [0, 0], names(1), "at least 2 classes, the model has 1"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(logits, labels, class_names, sentence) -> None:
    with pytest.raises(BadInput, match=sentence):
        score(Predictions(logits, torch.tensor(labels, dtype=torch.int64)), class_names)


def test_multi_label_tells_very_sure_answers_apart() -> None:
    scores = score_multi_label(torch.tensor([[50.0], [40.0], [-5.0]]), torch.tensor([[1], [0], [0]]), ["sun"])
    assert (scores.mean_average_precision, scores.per_class_auroc) == (1.0, {"sun": 1.0})


def test_the_loss_of_16_bit_logits_is_summed_in_more() -> None:
    logits = torch.full((3000, 2), 30.0, dtype=torch.float16)
    logits[:, 0] = -30
    assert score(Predictions(logits, torch.zeros(3000, dtype=torch.int64)), names(2)).loss == pytest.approx(60)


def test_multi_label_by_hand() -> None:
    logits = torch.tensor([[3.0, -1.0, 0.0], [2.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    targets = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    scores = score_multi_label(logits, targets, ["sun", "sea", "owl"])
    # sun: right at ranks 1 and 3, precisions 1 and 2/3; sea: right at ranks 1 and 2; owl never occurs
    assert scores.mean_average_precision == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert scores.per_class_auroc == {"sun": 0.5, "sea": 1.0, "owl": None}


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [(torch.full((2, 3), 2), "must be 0 or 1, got values up to 2"), (torch.zeros(2, 2), "do not match")],
)
def test_multi_label_targets_are_checked(targets: Tensor, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        score_multi_label(torch.zeros(2, 3), targets, names(3))


def test_commands_start_without_what_only_scores_need() -> None:
    code = """
import sys, mocse_timm.evaluation.run, mocse_timm.hub.command, mocse_timm.training.run
slow = {"torchmetrics", "matplotlib", "scipy", "sklearn"} & set(sys.modules)
assert not slow, slow
"""
    subprocess.run([sys.executable, "-c", code], check=True)
