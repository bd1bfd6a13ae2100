"""One pass over a data set: what the model says about every image.

Shapes: N = images of the whole set, B = images of one batch, C = classes.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mocse_timm.checks import BadInput
from mocse_timm.models.aggregation import confidence_log_odds
from mocse_timm.models.ensemble import Ensemble
from mocse_timm.models.mocse import MoCSE
from mocse_timm.modes import evaluating

__all__ = ["NotFinite", "Predictions", "answer", "check_finite", "predict"]


class NotFinite(BadInput):
    """The model's class scores are not all finite."""


@dataclass(frozen=True)
class Predictions:
    """A model's answers on a whole set, float32 and on the CPU."""

    logits: Tensor
    """(N, C), class scores before softmax, all finite."""
    labels: Tensor
    """(N,), int64, as the loader gave them."""
    expert_log_odds: Tensor | None = None
    """(N, C), MoCSE only: log(p / (1 - p)) of the confidence p that the class's own expert has in it, in nats."""


def _keep(tensor: Tensor) -> Tensor:
    return tensor


def _autocast(device: torch.device, amp_dtype: torch.dtype | None) -> AbstractContextManager:
    return nullcontext() if amp_dtype is None else torch.autocast(device.type, dtype=amp_dtype)


def answer(model: nn.Module, images: Tensor, amp_dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor | None]:
    """Return the (B, C) class scores and, for MoCSE, the (B, C) log-odds of the experts' confidences, float32.

    Args:
        model: on the device of ``images``, in eval mode.
        images: (B, channels, H, W) in [0, 1].
        amp_dtype: bfloat16 or float16 for autocast, None for the weights' own precision.
    """
    autocast = _autocast(images.device, amp_dtype)
    if not isinstance(model, MoCSE | Ensemble):
        with autocast:
            return model(images).float(), None
    with autocast:
        expert_logits = model.forward_experts(images)
    expert_logits = expert_logits.float()  # aggregation subtracts near-equal numbers: not in 16 bits
    scores = model.aggregate(expert_logits)
    return scores, confidence_log_odds(expert_logits, model.group_sizes) if isinstance(model, MoCSE) else None


def predict(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str,
    amp_dtype: torch.dtype | None = None,
    channels_last: bool = False,
    progress: bool = False,
    gather: Callable[[Tensor], Tensor] = _keep,
) -> Predictions:
    """Run ``model`` in eval mode over ``loader``, each expert once per image; train flags are put back afterwards.

    Args:
        model: on ``device`` already, and bare: a MoCSE inside DDP or ``torch.compile`` is not seen as one.
        loader: yields images (B, channels, H, W) in [0, 1] and int64 labels (B,).
        amp_dtype: bfloat16 or float16 for autocast, None for the weights' own precision.
        channels_last: lay the images out so; convert the model likewise.
        progress: show a bar that counts batches, on a terminal only.
        gather: called once for each tensor of this process, (N_here, ...) on ``device``; returns the rows of all
            processes, in the same order for every tensor.

    Raises:
        BadInput: if the loader is empty.
        NotFinite: if a class score is not finite.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    log_odds: list[Tensor] = []
    with evaluating(model), torch.inference_mode():
        for images, batch_labels in tqdm(
            loader, desc="scoring", unit="batch", disable=None if progress else True, leave=False
        ):
            images = images.to(device, non_blocking=True, memory_format=layout)
            batch_logits, batch_log_odds = answer(model, images, amp_dtype)
            logits.append(batch_logits)
            labels.append(batch_labels.to(device, non_blocking=True))
            if batch_log_odds is not None:
                log_odds.append(batch_log_odds)
        if not logits:
            raise BadInput("the loader gave no images, so there is nothing to score; check the data set and its split")
        predictions = Predictions(
            logits=gather(torch.cat(logits)).cpu(),
            labels=gather(torch.cat(labels)).cpu(),
            expert_log_odds=gather(torch.cat(log_odds)).cpu() if log_odds else None,
        )
    check_finite(predictions.logits.isfinite().all(dim=1))
    return predictions


def check_finite(finite: Tensor) -> None:
    """Raise NotFinite unless all of ``finite`` is True: (N,), whether each image's class scores are finite."""
    broken = int((~finite).sum())
    if broken:
        raise NotFinite(
            f"the model gives NaN or infinite class scores on {broken} of {len(finite)} images: the weights are "
            "broken or overflow in 16 bits; try another checkpoint, or leave out --amp"
        )
