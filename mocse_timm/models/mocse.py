"""MoCSE: a mixture of class-specific experts around any timm backbone.

Every expert is a network of its own that answers "mine" or "not mine"; their answers are aggregated
without parameters. Letters: B images, C classes, E experts, G classes of the largest group.

Paper: `Towards Improving Robustness Against Common Corruptions using Mixture of Class Specific Experts` -
https://arxiv.org/abs/2311.10177
"""

from typing import Any

from torch import Tensor

from mocse_timm.models.aggregation import AGGREGATIONS, aggregate, split_classes, stack_expert_logits
from mocse_timm.models.counts import check_count
from mocse_timm.models.mixture import Mixture

__all__ = ["MoCSE"]


class MoCSE(Mixture):
    """One expert network for each class, or for each group of classes, run on every image.

    Args:
        backbone: name of the timm model every expert is.
        num_classes: C; 0 for features without classifiers (then ``num_experts`` must be given).
        num_experts: E; None for one expert a class, fewer for groups of neighbouring classes.
        aggregation: 'log_odds', 'log_confidence' or 'confidence', see :func:`aggregate`.
        **networks: how the experts are built, see :class:`Mixture`; ``shared_stages`` 0 is the paper.

    Attributes:
        group_sizes: classes of each expert, E numbers.

    Raises:
        ValueError: if the classes cannot be split, the aggregation is unknown, or the backbone cannot
            take the widths or stages asked for.

    Source:
        arXiv:2311.10177, section 3.
    """

    def __init__(
        self,
        backbone: str = "cifar_preact18",
        num_classes: int = 10,
        num_experts: int | None = None,
        aggregation: str = "log_confidence",
        **networks: Any,
    ):
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}")
        check_count("num_classes", num_classes)
        if num_classes == 0 and num_experts is None:
            raise ValueError("num_classes is 0: say how many experts there are with num_experts")
        experts = num_classes if num_experts is None else num_experts
        sizes = split_classes(num_classes or experts, experts)
        outputs = [size + 1 if num_classes else 0 for size in sizes]
        super().__init__(outputs, backbone=backbone, num_classes=num_classes, **networks)
        self.aggregation = aggregation
        self.one_expert_per_class = num_experts is None or num_experts == num_classes
        self.group_sizes = sizes

    def _to_save(self, arguments: dict[str, Any]) -> dict[str, Any]:
        saved = arguments | {"aggregation": self.aggregation}  # even where it is the default, which may change
        saved.pop("num_experts", None)  # reset_classifier may have changed it
        if not self.one_expert_per_class or self.num_classes == 0:
            saved["num_experts"] = len(self.experts)
        return saved

    def _share_out(self, num_classes: int) -> list[int]:
        # with one expert a class, there will be one for each of the new classes; the experts of groups, and those of a
        # model built without classes, stay as far as there is a class for each; without classes all stay
        wanted = len(self.experts)
        if num_classes > 0:
            wanted = num_classes if self.one_expert_per_class else min(wanted, num_classes)
        self.group_sizes = split_classes(num_classes or wanted, wanted)
        return [size + 1 if num_classes else 0 for size in self.group_sizes]

    def aggregate(self, expert_logits: Tensor) -> Tensor:
        """Turn expert logits (B, E, G + 1) into class scores (B, C) by this model's aggregation."""
        return aggregate(expert_logits, self.group_sizes, self.aggregation)

    def _join(self, outputs: list[Tensor]) -> Tensor:
        if self.num_classes == 0:
            return self._side_by_side(outputs)
        return self.aggregate(stack_expert_logits(outputs, self.group_sizes))

    def forward_experts(self, x: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) in [0, 1] to the experts' own logits (B, E, G + 1).

        With one expert a class that is (B, C, 2): "not mine" and "mine". Padding is -inf, see
        :mod:`mocse_timm.models.aggregation`.
        """
        return stack_expert_logits(self._outputs(self.trunk(x)), self.group_sizes)
