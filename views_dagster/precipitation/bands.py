"""Intensity bands of rain, and fractions of a box in them."""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

EDGES: Final = (0.01, 0.5, 4.0, 10.0)
"""Lower edges of all bands but the first, mm/h. Bands are half-open: [0, .01) [.01, .5) [.5, 4) [4, 10) [10, inf)."""


def names(edges: tuple[float, ...] = EDGES) -> tuple[str, ...]:
    """The bands as people write them, `0.5-4`; the last is `10+`."""
    lower = ("0", *(f"{edge:g}" for edge in edges))
    return (*(f"{low}-{high}" for low, high in pairwise(lower)), f"{lower[-1]}+")


def band_of(rate: NDArray[np.floating], edges: tuple[float, ...] = EDGES) -> NDArray[np.intp]:
    """Band number of each rate in mm/h, of the same shape; an edge belongs to the band above it."""
    bands: NDArray[np.intp] = np.searchsorted(np.asarray(edges, dtype=rate.dtype), rate, side="right")
    return bands


def exceedance(fractions: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, B - 1) fraction of the box at or above each edge, from (N, B) fractions by band."""
    above: NDArray[np.float64] = fractions[:, ::-1].cumsum(axis=1, dtype=np.float64)[:, ::-1]
    return np.clip(above[:, 1:], 0.0, 1.0)


def dominant(fractions: NDArray[np.floating]) -> NDArray[np.intp]:
    """(N,) the band that covers most of the box, the wettest of equals."""
    count = fractions.shape[1]
    found: NDArray[np.intp] = count - 1 - np.argmax(fractions[:, ::-1], axis=1)
    return found
