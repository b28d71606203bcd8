"""Sums of fine fields over boxes, what makes them, and the mean or the rain of a box that they tell."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BoxSums:
    """Sums over the fine pixels of N boxes for T fields; those of parts of a field add up.

    Attributes:
        observed: (T, N) float32, share of the box with a value.
        above: (T, E, N) float32, share of the box at or above each edge.
        total: (T, N) float32, share-weighted sum of values.
        highest: (T, N) float32, highest value, -inf where there is none, and where there are no edges.
    """

    observed: Floats
    above: Floats
    total: Floats
    highest: Floats

    def plus(self, other: "BoxSums") -> "BoxSums":
        """With the sums of another part of the same fields."""
        return BoxSums(
            self.observed + other.observed,
            self.above + other.above,
            self.total + other.total,
            np.maximum(self.highest, other.highest),
        )


@dataclass(frozen=True)
class BoxRain:
    """Rain of N boxes at T times.

    Attributes:
        fractions: (T, N, B) float32 by band, of the observed part of the box; rows sum to 1.
        mean, highest: (T, N) float32, mm/h, over the observed part.
        missing: (T, N) float32, share of the box without a value.

    `fractions`, `mean` and `highest` are NaN where more than `max_missing` of the box is missing.
    """

    fractions: Floats
    mean: Floats
    highest: Floats
    missing: Floats


class Coarsener(ABC):
    """Sums fine fields over boxes.

    Attributes:
        box_id: (N,) int64 ids of the boxes that the fine grid covers well enough, ascending.
        rows, columns: which part of the fine fields is needed; `sums` takes fields cut to it.
        edges: lower edges of all bands but the first, mm/h; none where only means are wanted.
    """

    box_id: NDArray[np.int64]
    rows: slice
    columns: slice
    edges: tuple[float, ...]

    @abstractmethod
    def sums(self, fields: Floats, *, row: int = 0, gaps: bool = True) -> BoxSums:
        """Sums of fields, or of their rows from `row` on.

        Args:
            fields: (T, r, c) float32, cut to `rows` and `columns`, finite or NaN where missing; with edges rates in
                mm/h that are never negative.
            row: which of the rows the first of `fields` is, counted within `rows`.
            gaps: whether there may be NaN; where the caller knows that there is none, False saves time.
        """


def means_of(sums: BoxSums, max_missing: float) -> tuple[NDArray[np.float64], Floats]:
    """(T, N) mean of each box over its observed part, NaN where more than `max_missing` is not, from sums over whole
    fields; and the share that is missing."""
    divisor, missing = _observed(sums, max_missing)
    return sums.total / divisor, missing.astype(np.float32)


def rain_of(sums: BoxSums, max_missing: float) -> BoxRain:
    """Fractions, mean and maximum from sums over whole fields."""
    divisor, missing = _observed(sums, max_missing)
    unknown = np.isnan(divisor)
    above = np.clip(sums.above / divisor[:, None, :], 0.0, 1.0)
    ones, zeros = np.ones_like(above[:, :1]), np.zeros_like(above[:, :1])
    bands = -np.diff(np.concatenate([ones, above, zeros], axis=1), axis=1)
    bands = np.clip(bands, 0.0, None) + np.where(unknown, np.nan, 0.0)[:, None, :]
    bands /= bands.sum(axis=1, keepdims=True)
    return BoxRain(
        fractions=np.ascontiguousarray(bands.transpose(0, 2, 1), dtype=np.float32),
        mean=(sums.total / divisor).astype(np.float32),
        highest=np.where(unknown, np.nan, sums.highest).astype(np.float32),
        missing=missing.astype(np.float32),
    )


def _observed(sums: BoxSums, max_missing: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(T, N) observed share of each box, NaN where too little is, and the missing share."""
    observed = sums.observed.astype(np.float64)
    missing = np.clip(1.0 - observed, 0.0, 1.0)
    # Sums of areas are exact to rounding only: a box without gaps has none.
    missing[missing < 1e-5] = 0.0
    return np.where((missing > max_missing) | (observed <= 0), np.nan, observed), missing
