"""One model's scores under corruption against another's, with standard errors over the images.

Letters: K corruptions, S severities, N images. Differences are percentage points, this model minus the baseline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mocse_timm.evaluation.corruption_scores import MEANS, CorruptionScores, standard_error

__all__ = ["Comparison", "Difference", "compare", "same_images"]

STATED = ("side", "crop_pct", "crop_mode", "interpolation", "clean_sha256")  # of the images, where a report says them


@dataclass(frozen=True)
class Difference:
    """A difference and how far chance alone, in which images were drawn, would move it."""

    points: float
    standard_error: float


@dataclass(frozen=True)
class Comparison:
    """What changes from a baseline to this model, over the cells that both have."""

    baseline: str
    """The baseline's model."""
    source: str
    """Where the baseline's corrupted images come from."""
    paired: bool
    """Whether the standard errors are of differences image by image; otherwise binomial, of two separate samples."""
    num_images: int
    clean: Difference
    means: dict[str, Difference]
    """By set of corruptions: ``benchmark``, ``all``, and the groups."""
    coverage: dict[str, str]
    """How many corruptions of each set both have: ``15 of 15``."""
    by_corruption: dict[str, Difference]
    """Mean over the severities."""
    cells: dict[str, dict[int, float]]
    mce: dict[str, float | None]
    """``benchmark`` and ``all``: the mean over corruptions of the error summed over severities, divided by the
    baseline's, in percent (Hendrycks and Dietterich 2019, arXiv:1903.12261, there with AlexNet as the baseline); 100 is
    the baseline. None where the baseline makes no error at all on a corruption."""
    relative_mce: dict[str, float | None]
    """The same of the errors beyond the clean error; None where the baseline loses nothing to a corruption."""
    effective_robustness: Difference
    """Points gained under corruption beyond those gained on clean images: the difference of corrupted accuracies minus
    the difference of clean ones. 0 for a model that loses as many points to corruption as the baseline does. Taori et
    al. (arXiv:2007.00644) fit a line through many models; one baseline gives one point, and the line through it is
    taken to have slope 1. Of the set ``benchmark`` where it was scored, otherwise of ``all``."""
    clean_paired: bool = True
    """Whether that of the clean accuracies is, too: not where it is unknown which clean images were corrupted."""


def _difference(
    ours: float,
    theirs: float,
    counts: tuple[int, int],
    pairs: tuple[NDArray[Any] | None, NDArray[Any] | None],
) -> Difference:
    """Subtract two accuracies in percent; ``pairs`` are (N,) fractions on the same images, where that is known.

    Otherwise the error is binomial, after one more image named right and one more wrong: none is sure after N images.
    """
    if pairs[0] is not None and pairs[1] is not None:
        error = standard_error(pairs[0].astype(float) - pairs[1].astype(float))
        if error is not None:
            return Difference(ours - theirs, error)
    shares = [(top1 / 100 * count + 1) / (count + 2) for top1, count in zip((ours, theirs), counts, strict=True)]
    variances = [share * (1 - share) / count for share, count in zip(shares, counts, strict=True)]
    return Difference(ours - theirs, 100 * math.sqrt(sum(variances)))


def _of_cells(ours: CorruptionScores, theirs: CorruptionScores, names: Sequence[str], paired: bool) -> Difference:
    a, b = ours.only(names), theirs.only(names)
    pairs = (a.per_image(), b.per_image()) if paired else (None, None)
    return _difference(float(a.top1.mean()), float(b.top1.mean()), (a.num_images, b.num_images), pairs)


def _mean_ratio(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> float | None:
    """Return the mean over corruptions, (K, S) errors each, of the ratio of the sums; in percent."""
    sums = theirs.sum(axis=1)
    return None if (sums <= 0).any() else 100 * float((ours.sum(axis=1) / sums).mean())


def _drops(scores: CorruptionScores, names: Sequence[str]) -> NDArray[np.floating] | None:
    """Return (N,), how much more often each image is named right corrupted than clean."""
    corrupted, clean = scores.only(names).per_image(), scores.clean_correct
    return None if corrupted is None or clean is None else corrupted - clean


def _effective_robustness(
    clean: Difference,
    corrupted: Difference,
    drops: tuple[NDArray[np.floating] | None, NDArray[np.floating] | None],
) -> Difference:
    points = corrupted.points - clean.points
    if drops[0] is not None and drops[1] is not None:
        error = standard_error(drops[0] - drops[1])
        if error is not None:
            return Difference(points, error)
    return Difference(points, math.hypot(corrupted.standard_error, clean.standard_error))


def same_images(ours: CorruptionScores, theirs: CorruptionScores) -> bool:
    """Whether both models saw the same pixels; what an older report does not say is taken to be equal."""
    names = (*STATED, *(["frost_sha256"] if "frost" in ours.corruptions else []))
    stated = ((getattr(ours, name), getattr(theirs, name)) for name in names)
    alike = all(a == b or a is None or b is None for a, b in stated)
    known = ("images", "source", "dataset", "split")
    return alike and all(getattr(ours, name) == getattr(theirs, name) for name in known)


def compare(scores: CorruptionScores, baseline: CorruptionScores, baseline_name: str) -> Comparison:
    """Compare over the corruptions that both reports have, at the severities of ``scores``, which both must have."""
    common = [name for name in scores.corruptions if name in baseline.corruptions]
    ours, theirs = scores.only(common), baseline.only(common, scores.severities)
    paired = (
        ours.num_images > 1 and same_images(ours, theirs) and ours.correct is not None and theirs.correct is not None
    )
    sets = {which: [name for name in common if name in names] for which, names in MEANS.items()}
    sets = {which: names for which, names in sets.items() if names}
    means = {which: _of_cells(ours, theirs, names, paired) for which, names in sets.items()}
    clean_paired = paired and ours.clean_correct is not None and theirs.clean_correct is not None
    clean_pairs = (ours.clean_correct, theirs.clean_correct) if clean_paired else (None, None)
    clean = _difference(ours.clean_top1, theirs.clean_top1, (ours.clean_images, theirs.clean_images), clean_pairs)
    main = "benchmark" if "benchmark" in sets else "all"
    mce, relative = {}, {}
    for which in ("benchmark", "all"):
        if which not in sets:
            continue
        a, b = 100 - ours.only(sets[which]).top1, 100 - theirs.only(sets[which]).top1
        mce[which] = _mean_ratio(a, b)
        relative[which] = _mean_ratio(a - (100 - ours.clean_top1), b - (100 - theirs.clean_top1))
    drops = (_drops(ours, sets[main]), _drops(theirs, sets[main])) if paired else (None, None)
    differences = ours.top1 - theirs.top1
    return Comparison(
        baseline=baseline_name,
        source=baseline.source,
        paired=paired,
        num_images=ours.num_images,
        clean=clean,
        means=means,
        coverage={which: f"{len(names)} of {len(MEANS[which])}" for which, names in sets.items()},
        by_corruption={name: _of_cells(ours, theirs, [name], paired) for name in common},
        cells={
            name: dict(zip(ours.severities, line, strict=True))
            for name, line in zip(common, differences.tolist(), strict=True)
        },
        mce=mce,
        relative_mce=relative,
        effective_robustness=_effective_robustness(clean, means[main], drops),
        clean_paired=clean_paired,
    )
