"""Verification scores of draws against what was observed.

Every score is a pure function of arrays: draws are (..., S) with the draws last, observations are (...), the score is
(...) float64, one for each observation, lower is better unless said otherwise. An observation that is NaN (not yet
known, or its unit no longer exists) scores NaN, so callers average with `numpy.nanmean`. Which scores are computed for
which models, over which groups, does not belong here.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

IGNORANCE_EDGES: Final = (0.0, 0.5, 2.5, 5.5, 10.5, 25.5, 50.5, 100.5, 250.5, 500.5, 1000.5)
"""Lower edges of the bins of the VIEWS Prediction Challenge 2023/24; the last bin has no upper edge."""


def crps(draws: ArrayLike, observed: ArrayLike, *, fair: bool = False) -> NDArray[np.float64]:
    """Continuous ranked probability score of the empirical distribution of the draws, in the observation's unit.

    E|X - y| - E|X - X'| / 2 (Gneiting & Raftery 2007, JASA 102, eq. 21), where the second term is read off the sorted
    draws. By default X and X' run over all S^2 pairs, each draw with itself too: the exact score of the distribution
    the draws are, and what VIEWS reports (`properscoring.crps_ensemble`). `fair` runs over pairs of different draws
    (Ferro 2014, QJRMS 140): an unbiased estimate for the distribution the draws were sampled from, so that models with
    different numbers of draws compare.

    Raises:
        ValueError: the shapes do not match, or `fair` with fewer than two draws.
    """
    values, truth = _aligned(draws, observed)
    count = values.shape[-1]
    if fair and count < 2:
        raise ValueError("the fair CRPS needs at least two draws")
    ordered = np.sort(values, axis=-1)
    # Of all pairs, the draw of rank i (from 0) is the larger in i and the smaller in S - 1 - i.
    signs = 2.0 * np.arange(count) - (count - 1)
    pairs = count * (count - 1 if fair else count)
    # Not a matrix product: what BLAS returns in the last digit depends on the machine.
    spread = (ordered * signs).sum(axis=-1) / pairs
    distance = np.abs(np.subtract(ordered, truth[..., None], out=ordered), out=ordered).mean(axis=-1)
    return np.asarray(distance - spread, dtype=np.float64)


def threshold_weighted_crps(draws: ArrayLike, observed: ArrayLike, *, threshold: float) -> NDArray[np.float64]:
    """CRPS that counts only the range from `threshold` up: the integral of the Brier score over the thresholds there.

    It is the plain CRPS of draws and observation raised to `threshold` (Allen, Ginsbourger & Ziegel 2023, SIAM/ASA
    J. Uncertainty Quantification 11).
    """
    values, truth = _aligned(draws, observed)
    return crps(np.maximum(values, threshold), np.maximum(truth, threshold))


def pinball(predicted: ArrayLike, observed: ArrayLike, *, level: float) -> NDArray[np.float64]:
    """Quantile score of `predicted` (...), the forecast quantile at `level` (0..1): (1{y < q} - level) * (q - y).

    Twice its integral over all levels is the CRPS (Laio & Tamea 2007, HESS 11).
    """
    _check_level(level)
    miss = np.asarray(observed, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)
    return np.asarray(np.maximum(level * miss, (level - 1) * miss), dtype=np.float64)


def quantile_score(draws: ArrayLike, observed: ArrayLike, *, level: float) -> NDArray[np.float64]:
    """Pinball loss of the draws' own quantile at `level` (linear interpolation between order statistics)."""
    _check_level(level)
    values, truth = _aligned(draws, observed)
    return pinball(np.quantile(values, level, axis=-1), truth, level=level)


def interval_score(draws: ArrayLike, observed: ArrayLike, *, mass: float = 0.9) -> NDArray[np.float64]:
    """Interval score of the central interval that holds `mass` of the draws; its mean is the MIS.

    Width plus 2 / (1 - mass) times the distance by which the observation misses it (Gneiting & Raftery 2007, eq. 43).
    """
    lower, upper, truth = _central_interval(draws, observed, mass)
    miss = np.maximum(lower - truth, 0.0) + np.maximum(truth - upper, 0.0)
    return np.asarray(upper - lower + 2 / (1 - mass) * miss, dtype=np.float64)


def coverage(draws: ArrayLike, observed: ArrayLike, *, mass: float = 0.9) -> NDArray[np.float64]:
    """1 where the central interval that holds `mass` of the draws holds the observation (ends included), else 0.

    Not a score: the mean should be near `mass`, above it where draws and observations have many ties.
    """
    lower, upper, truth = _central_interval(draws, observed, mass)
    return np.where(np.isnan(truth), np.nan, (lower <= truth) & (truth <= upper))


def brier(draws: ArrayLike, observed: ArrayLike, *, threshold: float) -> NDArray[np.float64]:
    """Brier score of the event "at least `threshold`", whose probability is the share of draws where it happens."""
    values, truth = _aligned(draws, observed)
    event = np.where(np.isnan(truth), np.nan, truth >= threshold)
    return np.asarray(((values >= threshold).mean(axis=-1) - event) ** 2, dtype=np.float64)


def ignorance(
    draws: ArrayLike, observed: ArrayLike, *, edges: tuple[float, ...] = IGNORANCE_EDGES
) -> NDArray[np.float64]:
    """Ignorance (logarithmic) score in bits of binned draws: -log2 P(bin of the observation).

    P is smoothed by one imaginary draw in each bin, so that it is never zero, as in the VIEWS Prediction Challenge
    2023/24 (Hegre et al. 2025, J. Peace Research). Bin i holds edges[i] <= value < edges[i + 1].

    Raises:
        ValueError: the shapes do not match, the edges do not ascend, or a value lies below the first one.
    """
    values, truth = _aligned(draws, observed)
    if not edges or (np.diff(edges) <= 0).any():
        raise ValueError(f"edges must ascend, got {edges}")
    if (values < edges[0]).any() or (truth < edges[0]).any():
        raise ValueError(f"values below {edges[0]} belong to no bin; edges start too high")
    bins = np.asarray(edges)
    same = np.searchsorted(bins, values, side="right") == np.searchsorted(bins, truth, side="right")[..., None]
    probability = (same.sum(axis=-1) + 1) / (values.shape[-1] + len(edges))
    return np.where(np.isnan(truth), np.nan, -np.log2(probability))


def msle(predicted: ArrayLike, observed: ArrayLike) -> NDArray[np.float64]:
    """Squared error of a point forecast (...) on the scale of log(1 + y)."""
    error = np.log1p(np.asarray(predicted, dtype=np.float64)) - np.log1p(np.asarray(observed, dtype=np.float64))
    return np.asarray(error**2, dtype=np.float64)


def highest_density_interval(draws: ArrayLike, *, mass: float = 0.9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends (lower, upper), each (...), of the shortest interval that holds at least `mass` of the draws.

    Both ends are draws (Chen & Shao 1999, J. Computational and Graphical Statistics 8). Of equally short ones it is
    the lowest.

    Raises:
        ValueError: `mass` is not within (0, 1), or there are no draws.
    """
    _check_level(mass)
    ordered = np.sort(np.asarray(draws, dtype=np.float64), axis=-1)
    count = ordered.shape[-1]
    if count == 0:
        raise ValueError("there are no draws")
    # mass * S in floating point may exceed the whole number it is meant to be.
    held = max(1, int(np.ceil(mass * count - 1e-9)))
    lower, upper = ordered[..., : count - held + 1], ordered[..., held - 1 :]
    shortest = np.argmin(upper - lower, axis=-1)[..., None]
    return (
        np.take_along_axis(lower, shortest, axis=-1)[..., 0],
        np.take_along_axis(upper, shortest, axis=-1)[..., 0],
    )


def _central_interval(
    draws: ArrayLike, observed: ArrayLike, mass: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    _check_level(mass)
    values, truth = _aligned(draws, observed)
    lower, upper = np.quantile(values, [(1 - mass) / 2, (1 + mass) / 2], axis=-1)
    return lower, upper, truth


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a probability strictly between 0 and 1 is needed, got {level}")


def _aligned(draws: ArrayLike, observed: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64; refuses what numpy would broadcast into a plausible but wrong result."""
    values = np.asarray(draws, dtype=np.float64)
    truth = np.asarray(observed, dtype=np.float64)
    if values.ndim == 0 or values.shape[:-1] != truth.shape or values.shape[-1] == 0:
        raise ValueError(
            f"draws of shape {values.shape} do not match observations of shape {truth.shape}; "
            f"expected {(*truth.shape, 'draws')}"
        )
    return values, truth
