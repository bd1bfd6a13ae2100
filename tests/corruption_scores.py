"""Scores under corruption made up for tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mocse_timm.corruptions.names import CORRUPTIONS, SEVERITIES
from mocse_timm.evaluation.corruption_scores import CorruptionScores


def scores_of(
    answers: Any,
    names: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    *,
    clean: Any = None,
    **changes: Any,
) -> CorruptionScores:
    """Return scores with ``answers`` (K, S, N), broadcast, and ``clean`` (N,), by default all right."""
    correct = np.asarray(answers, dtype=bool)
    correct = np.broadcast_to(correct, (len(names), len(severities), correct.shape[-1])).copy()
    count = correct.shape[-1]
    clean = np.ones(count, dtype=bool) if clean is None else np.asarray(clean, dtype=bool)
    facts: dict[str, Any] = {
        "source": "generated (mocse_timm 0.1.0, seed 0)",
        "dataset": "cifar10",
        "split": "validation",
        "images": "0123456789abcdef",
        "mixture": False,
        "corruptions": tuple(names),
        "severities": tuple(severities),
        "num_images": count,
        "top1": 100 * correct.mean(axis=2),
        "ece": np.full(correct.shape[:2], 5.0),
        "clean_top1": 100 * float(clean.mean()),
        "clean_ece": 2.0,
        "clean_images": count,
        "correct": correct,
        "clean_correct": clean,
    }
    return CorruptionScores(**(facts | changes))
