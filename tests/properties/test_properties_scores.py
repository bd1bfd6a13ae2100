"""Scores of anything: numbers that can be, or one sentence."""

import math

import torch
from answers import answer_or_sentence, drawn, one_odd, some
from hypothesis import given
from hypothesis import strategies as st

from mocse_timm.evaluation.metrics import score, score_multi_label
from mocse_timm.evaluation.predictions import Predictions

SHAPES = [(6, 3), (6, 3), (6, 3), (1, 2), (40, 7), (0, 3), (6, 1), (6, 0), (6,), (), (2, 3, 4)]
WRONGS = [None, None, None, "nan", "inf", "bytes", "doubles", "halves"]
LABELS = [None, None, None, "float", "short", "too large", "negative", "matrix"]
NAMES = [None, None, None, "few", "twice"]


def logits_of(shape: tuple[int, ...], wrong: str | None, scale: float) -> torch.Tensor:
    logits = scale * torch.randn(shape, generator=torch.Generator().manual_seed(2))
    if wrong in ("nan", "inf") and logits.numel():
        logits.view(-1)[0] = float(wrong)
    return logits.to({"bytes": torch.uint8, "doubles": torch.float64, "halves": torch.float16}.get(wrong or ""))


EXPERTS = [(None, (6, 3)), (None, (6, 3)), *((wrong, (6, 3)) for wrong in WRONGS[2:]), ("bytes", (6, 4)), ("", (5, 3))]


@some(4)
@given(one_odd(SHAPES, WRONGS, LABELS, NAMES, EXPERTS), drawn(1.0, 100.0, 1e4), st.integers(0, 9))
def test_single_label(faults, scale, first) -> None:
    shape, wrong, wrong_labels, wrong_names, (wrong_experts, expert_shape) = faults
    count, classes = (*shape, 3, 3)[:2]
    labels = (torch.arange(count) * 7 + first) % max(1, classes)
    labels = {
        "float": labels.float(), "short": labels[:-1], "too large": labels + classes, "negative": labels - 9,
        "matrix": labels[:, None],
    }.get(wrong_labels or "", labels)  # fmt: skip
    names = [f"class {index}" for index in range(classes)]
    names = {"few": names[:-1], "twice": ["class"] * classes}.get(wrong_names or "", names)
    experts = None if wrong_experts is None else logits_of(expert_shape, wrong_experts, scale)
    found = answer_or_sentence(lambda: score(Predictions(logits_of(shape, wrong, scale), labels, experts), names))
    good = shape in SHAPES[:5] and wrong in (None, "doubles") and wrong_labels is None and wrong_names is None
    if good and experts is None:
        assert found is not None
    if not good and wrong != "halves":
        assert found is None
    if found is not None:
        assert found.num_images == count and len(found.per_class_accuracy) == classes
        percents = [found.top1, found.top5, found.ece, *(v for v in found.per_class_accuracy.values() if v is not None)]
        assert all(-1e-3 <= percent <= 100.001 for percent in percents)
        assert found.top5 >= found.top1 - 1e-3 and 0 <= found.loss < math.inf
        for expert in found.experts or []:
            assert all(v is None or 0 <= v <= 1 for v in (expert.precision, expert.recall, expert.auroc))


@some(2)
@given(one_odd(SHAPES, WRONGS, [0.0, 1.0, 0.5, math.nan], NAMES), drawn(*SHAPES), st.integers(0, 3))
def test_multi_label(faults, other, differs) -> None:
    shape, wrong, target, wrong_names = faults
    other = other if differs == 0 else shape
    names = [f"class {index}" for index in range((*shape, 3, 3)[1])]
    names = {"few": names[:-1], "twice": ["class"] * len(names)}.get(wrong_names or "", names)
    found = answer_or_sentence(
        lambda: score_multi_label(logits_of(shape, wrong, 1.0), torch.full(other, target), names)
    )
    if found is not None:
        assert shape == other and (0 in shape or (wrong not in ("nan", "inf") and target in (0.0, 1.0)))
        assert found.mean_average_precision is None or 0 <= found.mean_average_precision <= 1.0001
        assert len(found.per_class_auroc) == shape[1]
