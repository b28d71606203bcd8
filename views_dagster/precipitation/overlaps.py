"""How the cells of a fine grid lie to the boxes: edges, overlaps, areas."""

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError


def cell_edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n + 1,) edges of cells half-way between their centres; the outermost cells are as wide as their neighbours."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def monotonic(latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """The latitudes; SourceError where they neither rise nor fall all along."""
    steps = np.diff(latitude)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        raise SourceError(f"the latitudes of the fine grid neither rise nor fall all along: {latitude[:5].tolist()}...")
    return latitude


def snapped(edges: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of fine cells that are edges of boxes but for the rounding of coordinates (float32, millidegrees)."""
    nearest = targets[np.abs(edges[:, None] - targets).argmin(axis=1)]
    width = np.abs(np.diff(edges)).min()
    kept: NDArray[np.float64] = np.where(np.abs(nearest - edges) < 1e-3 * width, nearest, edges)
    return kept


def around_the_globe(
    box_edges: NDArray[np.float64], longitude: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Positions of the fine columns that reach into the boxes, from west to east, and their edges as boxes write them.

    A column that lies across the seam of boxes all around the globe comes twice.
    """
    east_of_zero = np.mod(longitude, 360.0)
    order = np.argsort(east_of_zero)
    gaps = np.diff(east_of_zero[order], append=east_of_zero[order[0]] + 360)
    if gaps.min() <= 1e-6 * gaps.max():
        raise SourceError(f"a longitude of the fine grid comes twice: {longitude[[0, 1]].tolist()}..{longitude[-1]:g}")
    # A region across the meridian at which longitudes begin comes in two parts: it begins after the widest gap.
    order = np.roll(order, -(int(gaps.argmax()) + 1))
    edges = cell_edges(np.unwrap(east_of_zero[order], period=360.0))
    west, east = edges[:-1], edges[1:]
    turns = 360.0 * (np.arange(-2, 3) + np.round((box_edges[0] - west[0]) / 360))[:, None]
    low, high = snapped((west + turns).reshape(-1), box_edges), snapped((east + turns).reshape(-1), box_edges)
    column = np.tile(order, len(turns))
    inside = np.flatnonzero((high > box_edges[0]) & (low < box_edges[-1]))
    inside = inside[np.argsort(low[inside])]
    return column[inside], low[inside], high[inside]


def overlap(edges: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """(boxes, cells) length that each box between `edges` and each cell low..high have in common."""
    common = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
    return np.asarray(np.clip(common, 0.0, None), dtype=np.float64)


def pixel_areas(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r, c) area of a pixel on a sphere of radius 1, from the distances to its neighbours."""
    north, east = np.radians(latitude), np.radians(longitude)
    place = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=-1)
    down, across = np.gradient(place, axis=(0, 1))
    return np.asarray(np.linalg.norm(np.cross(down, across), axis=-1), dtype=np.float64)
