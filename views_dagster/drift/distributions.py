"""How far a month's values lie from history's: distances between distributions, and what chance alone would give.

Distributions are those of non-zero values; everything here is computed one column at a time.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.drift.settings import InputDriftSettings

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
MIN_VALUES: Final = 20
_GRID: Final = 1000


@dataclass(frozen=True)
class Comparison:
    """One column's month against its history; NaN where there is nothing to compare.

    Attributes:
        reach: distance of the farthest value from history's median, in multiples of history's farthest.
        outliers: share of values beyond history's robust range.
        new_negatives: share of negative values where history had none.
        ks, ks_limit: Kolmogorov-Smirnov distance, and how much of it is no news.
        kl, kl_limit: Kullback-Leibler divergence, in nats, and how much of it is no news.
    """

    reach: float = np.nan
    outliers: float = np.nan
    new_negatives: float = np.nan
    ks: float = np.nan
    ks_limit: float = np.nan
    kl: float = np.nan
    kl_limit: float = np.nan


def compare(values: Array, nonzero: Mask, alike: float, settings: InputDriftSettings) -> Comparison:
    """Compare the last row of (T, U) `values` with those before it.

    Args:
        values: one column, months by units.
        nonzero: which values are known and not zero.
        alike: how many units one independent value is spread over, as `units_alike` tells.
        settings: thresholds.
    """
    from scipy.special import chdtri

    history = np.sort(values[:-1][nonzero[:-1]])
    now = np.sort(values[-1][nonzero[-1]])
    if len(history) < MIN_VALUES or not len(now):
        return Comparison()
    low, centre, high = (sorted_quantile(history, q) for q in (0.01, 0.5, 0.99))
    farthest = max(history[-1] - centre, centre - history[0], abs(centre))
    found = {
        "reach": max(now[-1] - centre, centre - now[0]) / farthest,
        "new_negatives": np.searchsorted(now, 0) / len(now) if history[0] > 0 else 0.0,
    }
    moved = np.count_nonzero(nonzero[-1] & (values[-1] != values[-2])) / len(now)
    if len(now) < MIN_VALUES or moved < settings.news_share:
        return Comparison(**found)
    margin = settings.outlier_reach * max(high - low, abs(centre))
    beyond = np.searchsorted(now, low - margin) + len(now) - np.searchsorted(now, high + margin, side="right")
    independent = len(now) / alike
    # Dvoretzky-Kiefer-Wolfowitz: P(D > d) <= 2 exp(-2 d^2 nm / (n + m)).
    noise = np.sqrt(-np.log(settings.noise_level / 2) / 2 * (1 / independent + 1 / len(history)))
    usual = usual_distance(values[:-1], nonzero[:-1], history, settings.usual_months)
    found |= {
        "outliers": beyond / len(now),
        "ks": ks_distance(now, history),
        "ks_limit": max(settings.ks_distance_warning, noise, 1.25 * usual),
    }
    edges = np.unique([sorted_quantile(history, q) for q in np.linspace(0, 1, settings.kl_bins + 1)])
    if usual > settings.ks_distance_warning or len(edges) < 3:
        return Comparison(**found)
    # 2 n KL is chi-squared with bins - 1 degrees of freedom when nothing changed (Wilks).
    noise = chdtri(len(edges) - 2, settings.noise_level) / (2 * independent)
    found |= {
        "kl": kl_divergence(now, history, edges, settings.kl_holdout),
        "kl_limit": max(settings.kl_divergence_warning, noise),
    }
    return Comparison(**found)


def units_alike(paths: Array) -> float:
    """How many units one independent value is spread over: (T, U) `paths` of the units that moved, free of infinities.

    Units with one path move together: a value that was spread from a parent to its units, or a distance from one event.
    Such a group is one observation that weighs as much as it has units, and weighted observations are worth (sum w)^2 /
    sum w^2 equal ones (Kish 1965, Survey sampling, chapter 11); this returns U over that, 1 where no two are alike.
    """
    if not paths.shape[1]:
        return 1.0
    odd = np.random.default_rng(len(paths)).integers(0, 2**62, (len(paths), 1)).astype(np.uint64) * 2 + 1
    sums = (np.ascontiguousarray(paths).view(np.uint64) * odd).sum(axis=0)
    sizes = np.unique(sums, return_counts=True)[1]
    return float((sizes**2).sum() / sizes.sum())


def sorted_quantile(values: Array, share: float) -> float:
    """Quantile of sorted `values`, interpolated linearly."""
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return float(values[below] + (place - below) * (values[above] - values[below]))


def ks_distance(values: Array, history: Array) -> float:
    """Two-sample Kolmogorov-Smirnov distance; `history` is sorted, both are non-empty and free of NaN."""
    values = np.sort(values)
    # Between two of the values history's distribution only rises, so the farthest points lie at or just below a value.
    sides = [
        np.searchsorted(values, values, side=side) / len(values)
        - np.searchsorted(history, values, side=side) / len(history)
        for side in ("left", "right")
    ]
    return float(np.abs(sides).max())


def kl_divergence(values: Array, history: Array, edges: Array, holdout: float) -> float:
    """Kullback-Leibler divergence, in nats, of sorted `values` from sorted `history` over bins and the tails beyond.

    Args:
        values, history: non-empty, free of NaN.
        edges: bin edges, ascending; the last bin holds its right edge.
        holdout: expected weight of the two tails together, and of the bins together that are empty in history.
    """

    def counts(sample: Array) -> Array:
        at = np.append(np.searchsorted(sample, edges[:-1]), np.searchsorted(sample, edges[-1], side="right"))
        return np.diff(at, prepend=0, append=len(sample)).astype(np.float64)

    expected = counts(history) / len(history)
    bins = expected[1:-1]
    bins[:] = np.where(bins > 0, (1 - 2 * holdout) * bins, holdout / max((bins == 0).sum(), 1))
    expected[[0, -1]] = holdout / 2
    expected /= expected.sum()
    observed = counts(values) / len(values)
    some = observed > 0
    return float((observed[some] * np.log(observed[some] / expected[some])).sum())


def usual_distance(values: Array, counted: Mask, history: Array, months: int) -> float:
    """Median over the last `months` rows of (T, U) `values` of their distance from the rows before; 0 for too few.

    Kolmogorov-Smirnov distances at up to `_GRID` points of `history` (all counted values, sorted): as exact as 1 /
    `_GRID`, and much cheaper than sorting what comes before each row.
    """
    first = max(len(values) - months, 1)
    if first >= len(values):
        return 0.0
    grid = history[np.linspace(0, len(history) - 1, min(len(history), _GRID)).astype(np.int64)]
    recent = [np.sort(row[some]) for row, some in zip(values[first:], counted[first:], strict=True)]
    below = np.stack([np.searchsorted(row, grid, side="right") for row in recent])
    counts = np.array([len(row) for row in recent])
    # What lies before a row is all of history but that row and those after it.
    below_before = np.searchsorted(history, grid, side="right") - below[::-1].cumsum(axis=0)[::-1]
    counts_before = len(history) - counts[::-1].cumsum()[::-1]
    enough = np.minimum(counts, counts_before) >= MIN_VALUES
    if not enough.any():
        return 0.0
    apart = below[enough] / counts[enough, None] - below_before[enough] / counts_before[enough, None]
    return float(np.median(np.abs(apart).max(axis=1)))
