"""An ensemble of dense networks: the control to MoCSE, as many experts of which every one knows all classes.

Letters: B images, C classes, E experts.
"""

import math
from typing import Any

import torch
from torch import Tensor

from mocse_timm.models.counts import check_count
from mocse_timm.models.mixture import Mixture

__all__ = ["Ensemble"]


class Ensemble(Mixture):
    """E networks that each tell all classes, run on every image; their probabilities are averaged.

    With ``shared_stages`` it is one network with E last parts: like MoCSE but for what the experts are asked.

    Args:
        backbone: name of the timm model every expert is.
        num_classes: C; 0 for features without classifiers.
        num_experts: E, at least 1.
        **networks: how the experts are built, see :class:`mocse_timm.models.mixture.Mixture`.

    Raises:
        ValueError: if there are no experts, or the backbone cannot take the widths or stages asked for.
    """

    def __init__(self, backbone: str = "cifar_preact18", num_classes: int = 10, num_experts: int = 10, **networks: Any):
        check_count("num_experts", num_experts, at_least=1)
        check_count("num_classes", num_classes)
        super().__init__([num_classes] * num_experts, backbone=backbone, num_classes=num_classes, **networks)

    def _share_out(self, num_classes: int) -> list[int]:
        return [num_classes] * len(self.experts)

    def aggregate(self, expert_logits: Tensor) -> Tensor:
        """Turn expert logits (B, E, C) into class scores (B, C), the logarithms of the mean probabilities."""
        return expert_logits.log_softmax(dim=2).logsumexp(dim=1) - math.log(expert_logits.shape[1])

    def _join(self, outputs: list[Tensor]) -> Tensor:
        if self.num_classes == 0:
            return self._side_by_side(outputs)
        return self.aggregate(torch.stack(outputs, dim=1))

    def forward_experts(self, x: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) in [0, 1] to the experts' own logits (B, E, C)."""
        return torch.stack(self._outputs(self.trunk(x)), dim=1)
