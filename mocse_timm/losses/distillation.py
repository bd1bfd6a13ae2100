"""Distillation: a model learns from what a trained one, its teacher, answers.

Paper: `Distilling the Knowledge in a Neural Network` - https://arxiv.org/abs/1503.02531
"""

import torch.nn.functional as F
from torch import Tensor

from mocse_timm.losses.batch import check_answers, log_probabilities

__all__ = ["distillation_loss"]


def distillation_loss(logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(logits / T)), averaged over the images.

    The square keeps the gradients as large as those of labels, whatever the temperature T. Of several questions, such
    as those to class experts, the divergences are added up.

    Args:
        logits: (B, K), or (B, ..., K) for several questions; K answers each, -inf for those that a question lacks.
        teacher_logits: the teacher's, of the same images and shape, -inf at the same places.
        temperature: T, above 0; the higher, the more the unlikely answers count.

    Returns:
        Scalar, nats per image.

    Raises:
        ValueError: if the two differ in shape, hold no images, or the temperature is out of range.

    Source:
        Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    check_answers("logits", logits)
    if logits.shape != teacher_logits.shape:
        raise ValueError(
            f"the teacher's logits must have the model's shape, {tuple(logits.shape)}, got "
            f"{tuple(teacher_logits.shape)}: do both tell the same classes?"
        )
    student, teacher = log_probabilities(logits / temperature), log_probabilities(teacher_logits / temperature)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
