"""95 % intervals by resampling records: each resample draws as many records as there are, with replacement, and a
record keeps all its answers (answers to one record are not independent of each other)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from annotation.ticks import Floats
from schemas.agreement import Estimate
from schemas.files import content_hash

CHUNK = 50  # resamples at a time: 200,000 records x 50 x 4 bytes = 40 MB


def resampled_weights(records: int, resamples: int, seed: str) -> Iterator[npt.NDArray[np.float32]]:
    """Blocks (records x at most CHUNK) of how often each record was drawn."""
    random = np.random.default_rng(int(content_hash(seed)[:16], 16))
    for start in range(0, resamples, CHUNK):
        columns = min(CHUNK, resamples - start)
        block = np.empty((columns, records), dtype=np.float32)
        for row in block:
            row[:] = np.bincount(random.integers(0, records, records), minlength=records)
        yield np.ascontiguousarray(block.T)


def estimate(value: float | np.floating, resampled: Floats, n: int) -> Estimate:
    """The estimate with its percentile interval; undefined resamples (NaN) are left out of it."""
    usable = resampled[np.isfinite(resampled)]
    if not np.isfinite(value):
        return Estimate(value=None, low=None, high=None, n=n)
    if n < 2 or len(usable) == 0:
        return Estimate(value=float(value), low=None, high=None, n=n)
    low, high = np.quantile(usable, [0.025, 0.975])
    return Estimate(value=float(value), low=float(low), high=float(high), n=n)
