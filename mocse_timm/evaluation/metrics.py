"""Numbers from predictions. The only file that knows torchmetrics.

Shapes: N images, C classes. Undefined numbers (a class without images, an expert that never fires) are None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from mocse_timm.checks import BadInput
from mocse_timm.evaluation.predictions import Predictions, check_finite

__all__ = ["ExpertScores", "MultiLabelScores", "Scores", "calibration_error", "score", "score_multi_label"]

CALIBRATION_BINS = 15
THRESHOLD = 0.5


@dataclass(frozen=True)
class ExpertScores:
    """How well the expert of one class tells it from the rest; fractions in [0, 1]."""

    class_name: str
    precision: float | None
    """None where the expert never fires."""
    recall: float | None
    """None where the set has no image of the class."""
    auroc: float | None
    """None where the set has only the class, or none of it."""
    threshold: float = THRESHOLD
    """The confidence above which the expert counts as firing."""


@dataclass(frozen=True)
class Scores:
    """What one model is worth on one set; ``dataclasses.asdict`` makes it JSON."""

    num_images: int
    top1: float
    """Percent."""
    top5: float
    """Percent; with fewer than five classes, top-C."""
    loss: float
    """Cross-entropy, nats per image."""
    ece: float
    """Expected calibration error of the softmax, percent, 15 equal bins."""
    per_class_accuracy: dict[str, float | None]
    """Percent of each class's images that are named right."""
    experts: list[ExpertScores] | None = None
    """One per class for MoCSE, otherwise None."""


@dataclass(frozen=True)
class MultiLabelScores:
    """Scores where an image may belong to several classes; fractions in [0, 1]."""

    num_images: int
    mean_average_precision: float | None
    """Mean over the classes that occur."""
    per_class_auroc: dict[str, float | None]


def _torchmetrics() -> ModuleType:
    """Return torchmetrics' functions, loaded by the first score: with it come SciPy and Matplotlib, slow to load."""
    from torchmetrics.functional import classification

    return classification


def _check_names(class_names: Sequence[str]) -> None:
    if len(set(class_names)) < len(class_names):
        raise BadInput(f"two of the {len(class_names)} classes have the same name, so give each one of its own")


def _check_single_label(predictions: Predictions, class_names: Sequence[str]) -> None:
    logits, labels, log_odds = predictions.logits, predictions.labels, predictions.expert_log_odds
    if logits.ndim != 2 or not logits.is_floating_point():
        raise BadInput(f"class scores must be floats (N, C), got {logits.dtype} {tuple(logits.shape)}; give logits")
    num_images, num_classes = logits.shape
    if labels.dtype != torch.int64 or labels.shape != (num_images,):
        raise BadInput(
            f"labels must be int64 of shape ({num_images},), got {labels.dtype} of {tuple(labels.shape)}; "
            "give one an image"
        )
    if num_images == 0:
        raise BadInput("there are no predictions to score; check the data set and its split")
    if len(class_names) != num_classes:
        raise BadInput(
            f"the model has {num_classes} classes, but {len(class_names)} class names were given; "
            "score it on the data it was trained for"
        )
    if num_classes < 2:
        raise BadInput(f"scoring needs at least 2 classes, the model has {num_classes}")
    smallest, largest = int(labels.min()), int(labels.max())
    if smallest < 0 or largest >= num_classes:
        wrong = smallest if smallest < 0 else largest
        raise BadInput(
            f"label {wrong} is outside the model's {num_classes} classes (0 to {num_classes - 1}); "
            "score it on the data it was trained for"
        )
    check_finite(logits.isfinite().all(dim=1))
    _check_names(class_names)
    if log_odds is not None and (log_odds.shape != logits.shape or bool(log_odds.isnan().any())):
        raise BadInput(
            f"log-odds of experts must be numbers of shape {tuple(logits.shape)}, got {tuple(log_odds.shape)} with "
            f"{int(log_odds.isnan().sum())} NaN; the experts' weights are broken"
        )


def calibration_error(confidences: Tensor, correct: Tensor) -> float:
    """Return the ECE in [0, 1], over 15 equal bins.

    Args:
        confidences: (N,), the largest softmax probability of each image.
        correct: (N,) bool, whether the class it belongs to is the right one.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    # A confidence of exactly 1 would open a 16th bin in torchmetrics, so it is put at the float below.
    error = _torchmetrics().binary_calibration_error(
        confidences.clamp(max=1 - 2**-24), correct.long(), n_bins=CALIBRATION_BINS
    )
    return error.item()


def _per_class_accuracy(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> dict[str, float | None]:
    correct = _torchmetrics().multiclass_accuracy(logits, labels, num_classes=logits.shape[1], average="none")
    images = torch.bincount(labels, minlength=logits.shape[1])
    return {
        name: 100 * fraction if count else None
        for name, fraction, count in zip(class_names, correct.tolist(), images.tolist(), strict=True)
    }


def _ranks(scores: Tensor) -> Tensor:
    """Return (N,) numbers in [0, 1) that are ordered as ``scores``, whose sigmoids would tie where they are sure."""
    return scores.unique(return_inverse=True)[1].double() / len(scores)


def _auroc(scores: Tensor, targets: Tensor) -> float | None:
    """Return the area for one class, (N,) scores of any size against (N,) targets in {0, 1}."""
    if targets.unique().numel() < 2:
        return None
    return _torchmetrics().binary_auroc(_ranks(scores), targets).item()


def _expert_scores(log_odds: Tensor, labels: Tensor, class_names: Sequence[str]) -> list[ExpertScores]:
    num_classes = log_odds.shape[1]
    confidence = log_odds.double().sigmoid()
    targets = F.one_hot(labels, num_classes)
    precision = _torchmetrics().multilabel_precision(
        confidence, targets, num_labels=num_classes, threshold=THRESHOLD, average="none"
    )
    recall = _torchmetrics().multilabel_recall(
        confidence, targets, num_labels=num_classes, threshold=THRESHOLD, average="none"
    )
    fires = (confidence > THRESHOLD).any(dim=0)
    occurs = targets.any(dim=0)
    return [
        ExpertScores(
            class_name=name,
            precision=precision[index].item() if fires[index] else None,
            recall=recall[index].item() if occurs[index] else None,
            auroc=_auroc(log_odds[:, index], targets[:, index]),
        )
        for index, name in enumerate(class_names)
    ]


def score(predictions: Predictions, class_names: Sequence[str]) -> Scores:
    """Score single-label ``predictions``; ``class_names`` has one name per class, in the order of the labels.

    Raises:
        BadInput: if there are no images, shapes do not match, the names do not match the classes, a label is not one of
            the classes, or a score is not finite.
    """
    _check_single_label(predictions, class_names)
    logits, labels = predictions.logits, predictions.labels
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # a loss in 16 bits overflows
    num_images, num_classes = logits.shape

    def top(k: int) -> float:
        accuracy = _torchmetrics().multiclass_accuracy(
            logits, labels, num_classes=num_classes, top_k=min(k, num_classes), average="micro"
        )
        return 100 * accuracy.item()

    log_odds = predictions.expert_log_odds
    confidences, chosen = logits.softmax(dim=1).max(dim=1)
    return Scores(
        num_images=num_images,
        top1=top(1),
        top5=top(5),
        loss=F.cross_entropy(logits, labels).item(),
        ece=100 * calibration_error(confidences, chosen == labels),
        per_class_accuracy=_per_class_accuracy(logits, labels, class_names),
        experts=None if log_odds is None else _expert_scores(log_odds, labels, class_names),
    )


def score_multi_label(logits: Tensor, targets: Tensor, class_names: Sequence[str]) -> MultiLabelScores:
    """Score (N, C) ``logits``, one yes-or-no question per class, against (N, C) ``targets`` in {0, 1}.

    Raises:
        BadInput: if the shapes or names do not match, or a target is neither 0 nor 1.
    """
    if logits.ndim != 2 or logits.shape != targets.shape or logits.shape[1] != len(class_names):
        raise BadInput(
            f"logits {tuple(logits.shape)}, targets {tuple(targets.shape)} and {len(class_names)} class names do not "
            "match; give (N, C), (N, C) and C names"
        )
    _check_names(class_names)
    if not torch.isin(targets, torch.tensor([0, 1], dtype=targets.dtype)).all():
        raise BadInput(f"multi-label targets must be 0 or 1, got values up to {targets.max().item()}")
    check_finite(logits.isfinite().all(dim=1))
    targets = targets.long()
    precisions = [
        _torchmetrics().binary_average_precision(_ranks(logits[:, index]), targets[:, index]).item()
        for index in targets.any(dim=0).nonzero().flatten().tolist()
    ]
    return MultiLabelScores(
        num_images=len(logits),
        mean_average_precision=sum(precisions) / len(precisions) if precisions else None,
        per_class_auroc={name: _auroc(logits[:, index], targets[:, index]) for index, name in enumerate(class_names)},
    )
