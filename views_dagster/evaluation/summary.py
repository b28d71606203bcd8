"""Draws summarised for people: mean, median, quantiles, highest-density interval and probabilities of exceedance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from views_dagster.evaluation.metrics import highest_density_interval


@dataclass(frozen=True)
class DrawSummary:
    """Summaries of N sets of draws.

    Attributes:
        mean: (N,) float32, summed in float64.
        quantiles: (N, Q) float32, linear between sorted draws (numpy's default), never decreasing along a row.
        hdi: (N, 2) float32, the narrowest interval that holds the asked mass.
        at_least: (N, T) float32, the share of draws that are at least each threshold.
    """

    mean: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    hdi: NDArray[np.float32]
    at_least: NDArray[np.float32]


def summarise_draws(
    draws: NDArray[np.float32], *, quantiles: Sequence[float], hdi_mass: float, thresholds: Sequence[float]
) -> DrawSummary:
    """Summarise (N, S) draws; `quantiles` are levels 0..1, ascending, `thresholds` are in the unit of the draws."""
    ordered = np.sort(draws, axis=1)
    position = np.asarray(quantiles, dtype=np.float64) * (draws.shape[1] - 1)
    low = np.floor(position).astype(np.int64)
    high = np.ceil(position).astype(np.int64)
    below, above = ordered[:, low].astype(np.float64), ordered[:, high].astype(np.float64)
    lower, upper = highest_density_interval(ordered, mass=hdi_mass)
    return DrawSummary(
        mean=draws.mean(axis=1, dtype=np.float64).astype(np.float32),
        quantiles=(below + (position - low) * (above - below)).astype(np.float32),
        hdi=np.stack([lower, upper], axis=1).astype(np.float32),
        at_least=np.stack([(ordered >= threshold).mean(axis=1) for threshold in thresholds], axis=1).astype(np.float32),
    )
