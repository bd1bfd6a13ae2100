"""What a model is worth on corrupted images: one accuracy a cell, and the means that are quoted.

A cell is one corruption at one severity. Letters: K corruptions, S severities, N images. Numbers are percent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mocse_timm.corruptions.names import BENCHMARK, CORRUPTIONS, GROUPS, SEVERITIES

__all__ = ["MEANS", "CorruptionScores", "Mean", "standard_error"]

MEANS: dict[str, tuple[str, ...]] = {"benchmark": BENCHMARK, "all": CORRUPTIONS, **GROUPS}
"""The sets of corruptions that a mean is taken over; each corruption counts alike, whatever its group."""


def standard_error(values: NDArray[np.floating]) -> float | None:
    """Return the standard error, in percent, of the mean of ``values``: (N,), one fraction an image; None below two."""
    return None if len(values) < 2 else 100 * float(values.std(ddof=1)) / math.sqrt(len(values))


@dataclass(frozen=True)
class Mean:
    """The mean over those of a set of corruptions that were scored."""

    corruptions: str
    """How many of how many: ``15 of 15``, or ``14 of 15`` where frost is missing."""
    complete: bool
    """Whether that is all of them, at all five severities."""
    top1: float
    ece: float
    """Mean of the cells' calibration errors."""
    standard_error: float | None
    """Of ``top1``, over the images: the cells of one image belong together. None with fewer than two images."""
    by_severity: dict[int, float]
    """Accuracy."""


@dataclass(frozen=True, eq=False)
class CorruptionScores:
    """Every cell of one model, image by image."""

    source: str
    """Where the corrupted images come from: ``CIFAR-10-C``, or ``generated`` with version and seed."""
    dataset: str
    split: str
    images: str
    """A fingerprint of which images and labels were scored: equal in two reports, they can be compared in pairs."""
    mixture: bool
    """Whether the model is a mixture of experts."""
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    num_images: int
    """N, of each cell."""
    top1: NDArray[np.float64]
    """(K, S)."""
    ece: NDArray[np.float64]
    """(K, S); it grows as N falls, by chance alone: compare it at one N only."""
    clean_top1: float
    """On the same images where they are known, otherwise on the whole clean set."""
    clean_ece: float
    clean_images: int
    correct: NDArray[np.bool_] | None = None
    """(K, S, N), whether each image is named right."""
    clean_correct: NDArray[np.bool_] | None = None
    """(N,), the same images uncorrupted; None where the source does not tell which they are."""
    side: int | None = None
    """Of the corrupted images, in pixels: it picks the strengths. None in older reports."""
    crop_pct: float | None = None
    """The part of the clean images' side that was kept before they were corrupted; None where it is not known."""
    crop_mode: str | None = None
    """How they became squares, in timm's word; likewise."""
    interpolation: str | None = None
    """How their pixels were mixed; likewise."""
    clean_sha256: str | None = None
    """Of all images of the part, see :func:`mocse_timm.data.images_digest.images_digest`; likewise, and of archives."""
    frost_sha256: str | None = None
    """Of the photographs for frost; None without it, too."""

    def only(self, corruptions: Sequence[str], severities: Sequence[int] | None = None) -> "CorruptionScores":
        """Return the scores of these corruptions and severities alone; all must be there."""
        severities = self.severities if severities is None else tuple(severities)
        rows = [self.corruptions.index(name) for name in corruptions]
        columns = [self.severities.index(severity) for severity in severities]
        cells = np.ix_(rows, columns)
        return replace(
            self,
            corruptions=tuple(corruptions),
            severities=severities,
            top1=self.top1[cells],
            ece=self.ece[cells],
            correct=None if self.correct is None else self.correct[cells],
        )

    def per_image(self) -> NDArray[np.float64] | None:
        """Return (N,), the fraction of its cells in which each image is named right."""
        return None if self.correct is None else self.correct.mean(axis=(0, 1))

    def mean(self, which: str) -> Mean | None:
        """Return the mean over a set of :data:`MEANS`, or None if none of its corruptions was scored."""
        wanted = MEANS[which]
        scored = [name for name in wanted if name in self.corruptions]
        if not scored:
            return None
        part = self.only(scored)
        per_image = part.per_image()
        return Mean(
            corruptions=f"{len(scored)} of {len(wanted)}",
            complete=len(scored) == len(wanted) and set(self.severities) == set(SEVERITIES),
            top1=float(part.top1.mean()),
            ece=float(part.ece.mean()),
            standard_error=None if per_image is None else standard_error(per_image),
            by_severity=dict(zip(self.severities, part.top1.mean(axis=0).tolist(), strict=True)),
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of the 19 that were not scored."""
        return tuple(name for name in CORRUPTIONS if name not in self.corruptions)
