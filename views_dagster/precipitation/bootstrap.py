"""Block bootstrap over events: how sure a score is, given how few storms it was computed from.

Boxes of one storm are not independent, so whole events are resampled, and every model is scored on the same resamples:
differences between models are paired. Nothing is scored again: a resample weights the sums of each event.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Ends of a central interval, (...); NaN where there is none."""

    low: Array
    high: Array


def resample_counts(events: int, resamples: int, seed: int) -> Array:
    """(resamples, events) how often each event is drawn when as many events are drawn with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(events, np.full(events, 1 / events), size=resamples).astype(np.float64)


def central_interval(resampled: Array, level: float, *, events: int) -> Interval:
    """Percentile interval (Efron & Tibshirani 1993, chapter 13) over the first axis of (resamples, ...).

    Resamples in which the score is undefined (a threshold that no drawn event reaches) are left out. There is no
    interval where they are half of all or more, nor from a single event.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval must lie within 0 and 1, got {level}")
    shares = [(1 - level) / 2, (1 + level) / 2]
    defined = np.isfinite(resampled).sum(axis=0)
    enough = (2 * defined > len(resampled)) & (events > 1)
    # All-NaN columns warn; they have no interval anyway.
    low, high = np.nanquantile(np.where(enough, resampled, 0.0), shares, axis=0)
    return Interval(np.where(enough, low, np.nan), np.where(enough, high, np.nan))


def share_above(resampled: Array, value: float) -> Array:
    """(...) share of the resamples (first axis) in which the score is defined that lie above `value`; NaN for none."""
    defined = np.isfinite(resampled)
    count = defined.sum(axis=0)
    above = (np.where(defined, resampled, value) > value).sum(axis=0)
    return np.where(count > 0, above / np.maximum(count, 1), np.nan)
