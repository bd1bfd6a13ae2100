"""A model's answers to every cell of a source.

Letters: K corruptions, S severities, N images, C classes.
"""

from contextlib import closing
from dataclasses import asdict, dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from mocse_timm.evaluation.corruption_scores import CorruptionScores
from mocse_timm.evaluation.corruption_source import Source
from mocse_timm.evaluation.gather import gather_in_order
from mocse_timm.evaluation.image_answers import fingerprint
from mocse_timm.evaluation.metrics import calibration_error
from mocse_timm.evaluation.predictions import Predictions, answer, check_finite
from mocse_timm.modes import evaluating

__all__ = ["Answers", "answer_cells", "score_answers"]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model said about every image of every cell, on the CPU."""

    correct: Tensor
    """(N, K, S) bool, whether the image is named right."""
    confidences: Tensor
    """(N, K, S) float32, the largest softmax probability."""
    labels: Tensor
    """(N,) int64."""


def answer_cells(
    model: nn.Module,
    source: Source,
    *,
    device: torch.device,
    accelerator: Accelerator,
    amp_dtype: torch.dtype | None = None,
    channels_last: bool = False,
) -> Answers:
    """Run ``model`` in eval mode over all of ``source``; every process does its share and gets all answers.

    Of an image nothing but two numbers a cell is kept, so memory does not grow with the number of classes.

    Raises:
        NotFinite: if a class score is not finite.
        BadInput: what the source raises.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    count = len(source.share.of(source.chosen))
    shape = (count, len(source.corruptions), len(source.severities))
    correct = torch.zeros(shape, dtype=torch.uint8, device=device)
    confidences = torch.zeros(shape, device=device)
    finite = torch.ones(count, dtype=torch.uint8, device=device)
    labels = torch.zeros(count, dtype=torch.int64, device=device)
    cells = shape[1] * shape[2]
    with (
        evaluating(model),
        torch.inference_mode(),
        closing(source.parts()) as parts,
        tqdm(
            total=count * cells,
            desc=f"scoring {cells} cells",
            unit="image",
            leave=False,
            disable=None if accelerator.is_main_process else True,
        ) as bar,
    ):
        for part in parts:
            images = part.images.to(device, memory_format=layout)
            scores, _ = answer(model, images, amp_dtype)
            labels[part.places] = part.labels.to(device)
            highest, chosen = scores.softmax(dim=1).max(dim=1)
            confidences[part.places, part.row, part.column] = highest
            correct[part.places, part.row, part.column] = (chosen == labels[part.places]).to(torch.uint8)
            finite[part.places] &= scores.isfinite().all(dim=1).to(torch.uint8)
            bar.update(len(part.labels))
    check_finite(gather_in_order(finite, accelerator).cpu().bool())
    return Answers(
        correct=gather_in_order(correct, accelerator).cpu().bool(),
        confidences=gather_in_order(confidences, accelerator).cpu(),
        labels=gather_in_order(labels, accelerator).cpu(),
    )


def score_answers(
    answers: Answers,
    clean: Predictions,
    source: Source,
    *,
    dataset: str,
    split: str,
    mixture: bool,
    clean_stems: tuple[str, ...] | None = None,
    clean_sha256: str | None = None,
) -> CorruptionScores:
    """Count.

    Args:
        answers: to the cells of ``source``.
        clean: the same model's on the whole clean set, in its order. Where their labels at the chosen places are those
            of the cells, and for image files their names as well, the same images are counted, otherwise all.
        source: where the cells came from.
        dataset: public name of the clean set.
        split: which part of it.
        mixture: whether the model has experts.
        clean_stems: names of the clean set's files, where they are known; see :func:`file_stems`.
        clean_sha256: of the clean images that were corrupted, where it is known; see :func:`images_digest`.
    """
    correct = answers.correct.permute(1, 2, 0)
    confidences = answers.confidences.permute(1, 2, 0)
    ece = [
        [calibration_error(*cell) for cell in zip(*row, strict=True)] for row in zip(confidences, correct, strict=True)
    ]
    clean_confidences, named = clean.logits.softmax(dim=1).max(dim=1)
    clean_correct = named == clean.labels
    # an archive of folders is in an order of its own; sorted by class, it has the labels of any other such folder
    aligned = (
        int(source.chosen[-1]) < len(clean.labels)
        and torch.equal(clean.labels[source.chosen], answers.labels)
        and (source.stems is None or source.stems == clean_stems)
    )
    if aligned:
        clean_confidences, clean_correct = clean_confidences[source.chosen], clean_correct[source.chosen]
    return CorruptionScores(
        source=source.title,
        dataset=dataset,
        split=split,
        images=fingerprint(source.chosen, answers.labels),
        mixture=mixture,
        corruptions=source.corruptions,
        severities=source.severities,
        num_images=len(answers.labels),
        top1=100 * correct.double().mean(dim=2).numpy(),
        ece=100 * np.array(ece),
        clean_top1=100 * float(clean_correct.double().mean()),
        clean_ece=100 * calibration_error(clean_confidences, clean_correct),
        clean_images=len(clean_correct),
        correct=correct.numpy(),
        clean_correct=clean_correct.numpy() if aligned else None,
        side=source.side,
        clean_sha256=clean_sha256,
        frost_sha256=source.frost_sha256,
        **({} if source.resizing is None else asdict(source.resizing)),
    )
