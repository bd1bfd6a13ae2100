"""From the experts' logits to class scores, without parameters.

Letters: B images, C classes, E experts, G classes of the largest group. Expert e serves a run of
neighbouring classes and has one logit for "none of mine" (index 0) and one for each class of its group
(from index 1). Experts with a smaller group are padded with -inf, so that all logits fit one tensor
(B, E, G + 1); with one expert a class that is (B, C, 2).

Paper: `MoCSE` - https://arxiv.org/abs/2311.10177
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mocse_timm.models.counts import check_count

__all__ = [
    "AGGREGATIONS",
    "aggregate",
    "class_log_odds",
    "confidence_log_odds",
    "expert_answers",
    "split_classes",
    "stack_expert_logits",
]

AGGREGATIONS = ("log_odds", "log_confidence", "confidence")


def split_classes(num_classes: int, num_experts: int) -> list[int]:
    """Return how many neighbouring classes each expert serves; sizes differ by one at most.

    Raises:
        ValueError: if there are no experts, or more experts than classes, or either is no whole number.
    """
    check_count("num_classes", num_classes)
    check_count("num_experts", num_experts, at_least=None)  # the least is told below
    if not 1 <= num_experts <= num_classes:
        raise ValueError(
            f"num_experts must be between 1 and the number of classes ({num_classes}), got {num_experts}: "
            "each expert serves at least one class"
        )
    size, larger = divmod(num_classes, num_experts)
    return [size + 1] * larger + [size] * (num_experts - larger)


def _check(expert_logits: Tensor, group_sizes: list[int]) -> None:
    """Raise ValueError unless they are floats whose shape follows from the groups; fx tracing shows neither."""
    if not isinstance(expert_logits, Tensor):
        return
    if min(group_sizes, default=0) < 1:
        raise ValueError(f"group_sizes must be one or more numbers of classes, each at least 1, got {group_sizes}")
    wanted = (len(group_sizes), max(group_sizes) + 1)
    if expert_logits.ndim != 3 or expert_logits.shape[1:] != wanted or not expert_logits.is_floating_point():
        raise ValueError(
            f"expert logits must be floats (B, {wanted[0]}, {wanted[1]}) for groups of {group_sizes}, "
            f"got {expert_logits.dtype} {tuple(expert_logits.shape)}"
        )


def stack_expert_logits(expert_logits: list[Tensor], group_sizes: list[int]) -> Tensor:
    """Stack E tensors (B, group size + 1) to one (B, E, G + 1), smaller groups padded with -inf."""
    largest = max(group_sizes)
    padded: list[Tensor] = []
    for expert, logits in enumerate(expert_logits):
        missing = largest - group_sizes[expert]
        padded.append(F.pad(logits, [0, missing], value=float("-inf")) if missing > 0 else logits)
    return torch.stack(padded, dim=1)


def _own_classes(values: Tensor, group_sizes: list[int]) -> Tensor:
    """Drop the padding of ``values`` (B, E, G): the columns that are classes, in order, as (B, C)."""
    if min(group_sizes) == max(group_sizes):
        return values.flatten(1)
    columns: list[Tensor] = []
    for expert, size in enumerate(group_sizes):
        columns.append(values[:, expert, :size])
    return torch.cat(columns, dim=1)


def class_log_odds(expert_logits: Tensor, group_sizes: list[int]) -> Tensor:
    """Return (B, C): each class's logit less its expert's logit for "none of mine".

    With one expert a class this is log(p / (1 - p)) of the expert's confidence p.

    Args:
        expert_logits: (B, E, G + 1).
        group_sizes: classes of each expert, E numbers that sum to C.

    Raises:
        ValueError: if the shape does not follow from ``group_sizes``.
    """
    if not torch.jit.is_scripting():
        _check(expert_logits, group_sizes)
    return _own_classes(expert_logits[:, :, 1:] - expert_logits[:, :, :1], group_sizes)


def confidence_log_odds(expert_logits: Tensor, group_sizes: list[int]) -> Tensor:
    """Return (B, C): log(p / (1 - p)) of the confidence p that each class's own expert has in it.

    With one expert a class this is :func:`class_log_odds`; an expert of several classes has to tell each from "none of
    mine" and from its other classes.

    Args:
        expert_logits: (B, E, G + 1).
        group_sizes: classes of each expert, E numbers that sum to C.

    Raises:
        ValueError: if the shape does not follow from ``group_sizes``.
    """
    _check(expert_logits, group_sizes)
    columns: list[Tensor] = []
    for own in range(1, expert_logits.shape[2]):
        others = torch.cat([expert_logits[:, :, :own], expert_logits[:, :, own + 1 :]], dim=2)
        columns.append(expert_logits[:, :, own] - others.logsumexp(dim=2))
    return _own_classes(torch.stack(columns, dim=2), group_sizes)


def aggregate(expert_logits: Tensor, group_sizes: list[int], method: str) -> Tensor:
    """Return class scores (B, C), whose softmax is the model's belief.

    Args:
        expert_logits: (B, E, G + 1).
        group_sizes: classes of each expert, E numbers that sum to C.
        method: 'log_odds'; 'log_confidence', so that the belief is the experts' confidences divided by their
            sum; or 'confidence', the paper's literal reading, whose scores lie in [0, 1].

    Raises:
        ValueError: if ``method`` is none of these, or the shape does not follow from ``group_sizes``.

    Source:
        MoCSE, arXiv:2311.10177, section 3.
    """
    if not torch.jit.is_scripting():
        _check(expert_logits, group_sizes)
    if method == "log_odds":
        return class_log_odds(expert_logits, group_sizes)
    if method == "log_confidence":
        return _own_classes(expert_logits.log_softmax(dim=2)[:, :, 1:], group_sizes)
    if method == "confidence":
        return _own_classes(expert_logits.softmax(dim=2)[:, :, 1:], group_sizes)
    raise ValueError(f"aggregation must be one of log_odds, log_confidence, confidence, got '{method}'")


def expert_answers(class_logits: Tensor, group_sizes: list[int]) -> Tensor:
    """Return what a network that tells all classes would answer each expert: log-probabilities (B, E, G + 1).

    For the expert of class n that is (log(1 - p_n), log p_n), p the softmax of ``class_logits``; "none of mine" is as
    likely as all classes of other experts together. Padding is -inf.

    Args:
        class_logits: (B, C).
        group_sizes: classes of each expert, E numbers that sum to C.

    Raises:
        ValueError: if there are not as many classes as the groups have.
    """
    if class_logits.ndim != 2 or class_logits.shape[1] != sum(group_sizes):
        raise ValueError(
            f"class logits must be (B, {sum(group_sizes)}) for groups of {group_sizes}, got {tuple(class_logits.shape)}"
        )
    log_probabilities = class_logits.log_softmax(dim=1)
    answers: list[Tensor] = []
    start = 0
    for size in group_sizes:
        before, own, after = log_probabilities.tensor_split((start, start + size), dim=1)
        none = torch.cat([before, after], dim=1).logsumexp(dim=1, keepdim=True)
        answers.append(torch.cat([none, own], dim=1))
        start += size
    return stack_expert_logits(answers, group_sizes)
