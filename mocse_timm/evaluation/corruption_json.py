"""Scores under corruption as JSON and back, with the answers image by image: 10,000 images in 95 cells take 160 kB."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mocse_timm.evaluation.corruption_scores import MEANS, CorruptionScores
from mocse_timm.evaluation.image_answers import check_answers, check_percentage, pack, unpack

__all__ = ["from_json", "to_json"]


def to_json(scores: CorruptionScores) -> dict[str, Any]:
    """Return what JSON can hold: the means, every cell, and the answers image by image."""
    means = {name: scores.mean(name) for name in MEANS}
    clean: dict[str, Any] = {"top1": scores.clean_top1, "ece": scores.clean_ece, "num_images": scores.clean_images}
    if scores.clean_correct is not None:
        clean["correct"] = pack(scores.clean_correct)
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for row, name in enumerate(scores.corruptions):
        for column, severity in enumerate(scores.severities):
            cell: dict[str, Any] = {"top1": float(scores.top1[row, column]), "ece": float(scores.ece[row, column])}
            if scores.correct is not None:
                cell["correct"] = pack(scores.correct[row, column])
            cells.setdefault(name, {})[str(severity)] = cell
    return {
        "source": scores.source,
        "dataset": scores.dataset,
        "split": scores.split,
        "num_images": scores.num_images,
        "images": scores.images,
        "mixture": scores.mixture,
        "side": scores.side,
        "crop_pct": scores.crop_pct,
        "crop_mode": scores.crop_mode,
        "interpolation": scores.interpolation,
        "clean_sha256": scores.clean_sha256,
        "frost_sha256": scores.frost_sha256,
        "missing": list(scores.missing),
        "clean": clean,
        "means": {name: asdict(mean) for name, mean in means.items() if mean is not None},
        "cells": cells,
    }


def from_json(content: Mapping[str, Any]) -> CorruptionScores:
    """Return what :func:`to_json` was given.

    Raises:
        KeyError, TypeError, ValueError: if something is missing or of another kind, no percentage where one belongs, or
            an accuracy that the answers beside it contradict.
    """
    cells, clean, count = content["cells"], content["clean"], int(content["num_images"])
    corruptions = tuple(cells)
    severities = tuple(int(severity) for severity in cells[corruptions[0]])
    table = [[cells[name][str(severity)] for severity in severities] for name in corruptions]
    side, crop_pct = content.get("side"), content.get("crop_pct")  # these and four more are not in older reports
    words = {name: content.get(name) for name in ("crop_mode", "interpolation", "clean_sha256", "frost_sha256")}
    known = all("correct" in cell for line in table for cell in line)
    scores = CorruptionScores(
        source=str(content["source"]),
        dataset=str(content["dataset"]),
        split=str(content["split"]),
        images=str(content["images"]),
        mixture=bool(content["mixture"]),
        corruptions=corruptions,
        severities=severities,
        num_images=count,
        top1=np.array([[float(cell["top1"]) for cell in line] for line in table]),
        ece=np.array([[float(cell["ece"]) for cell in line] for line in table]),
        clean_top1=float(clean["top1"]),
        clean_ece=float(clean["ece"]),
        clean_images=int(clean["num_images"]),
        correct=np.array([[unpack(cell["correct"], count) for cell in line] for line in table]) if known else None,
        clean_correct=unpack(clean["correct"], count) if "correct" in clean else None,
        side=None if side is None else int(side),
        crop_pct=None if crop_pct is None else float(crop_pct),
        **{name: None if word is None else str(word) for name, word in words.items()},
    )
    _check(scores)
    return scores


def _check(scores: CorruptionScores) -> None:
    if min(scores.num_images, scores.clean_images) < 1:
        raise ValueError("it has scores of no images")
    for value in (scores.clean_top1, scores.clean_ece, *scores.top1.flat, *scores.ece.flat):
        check_percentage(value)
    if scores.correct is not None:
        for top1, answers in zip(scores.top1.flat, scores.correct.reshape(-1, scores.num_images), strict=True):
            check_answers(float(top1), answers)
    if scores.clean_correct is not None and scores.clean_images == scores.num_images:
        check_answers(scores.clean_top1, scores.clean_correct)
