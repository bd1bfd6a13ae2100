"""Poisson counts by inverting the distribution function: one uniform number each, whatever the mean."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mocse_timm.corruptions.extra import import_extra

__all__ = ["poisson_quantile"]

_BUCKETS = 1024


@lru_cache(maxsize=8)
def _tables(photons: float) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return P(count <= k) for every byte (256, K), and the smallest count of each bucket of [0, 1) (256, 1024)."""
    means = photons * np.arange(256)[:, None] / 255
    most = int(photons + 12 * photons**0.5 + 30)  # beyond it lies less than float64 resolves next to 1
    cumulative = import_extra("scipy.special").pdtr(np.arange(most), means)
    cumulative[:, -1] = 1
    starts = np.arange(_BUCKETS) / _BUCKETS
    first = np.stack([np.searchsorted(row, starts) for row in cumulative])
    return cumulative, first.astype(np.int32)


def poisson_quantile(uniform: NDArray[np.float64], images: NDArray[np.uint8], photons: float) -> NDArray[np.int32]:
    """Return, for each byte v, the smallest count k with P(count <= k) >= u under the mean ``photons`` * v / 255.

    ``uniform`` and ``images`` have one shape; ``uniform`` is in [0, 1). A table of 1024 buckets gives a count to start
    from that is never too large; most numbers need one step or none from there.
    """
    cumulative, first = _tables(photons)
    row = images.astype(np.int32)
    buckets = (uniform * _BUCKETS).astype(np.int32)
    counts = first.ravel().take(row * _BUCKETS + buckets)
    at = (row * cumulative.shape[1] + counts).ravel()
    flat, counts, uniform = cumulative.ravel(), counts.ravel(), uniform.ravel()
    low = np.flatnonzero(flat.take(at) < uniform)
    while len(low):
        counts[low] += 1
        at[low] += 1
        low = low[flat.take(at[low]) < uniform[low]]
    return counts.reshape(images.shape)
