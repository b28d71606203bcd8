"""Levels of the atmosphere: what a list of them must be, and profiles brought from one's own levels to common ones.

Height is interpolated linearly, pressure linearly in its logarithm, in which a hydrostatic atmosphere is nearly linear
in height.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError

LevelUnit = Literal["hPa", "m"]

HIGHEST_PRESSURE_HPA: Final = 1100.0
HEIGHTS_M: Final = (-500.0, 100_000.0)
_CHUNK_VALUES: Final = 1 << 18  # so that a chunk's arrays stay near the processor
_ROUNDING: Final = 1e-6  # of a level; float32 holds it to 6e-8


@dataclass(frozen=True)
class Interpolated:
    """Profiles of N columns on K common levels.

    Attributes:
        values: (N, V, K) float32; NaN in rows that are `empty`, and held at the nearest level outside a row's range.
        below, above: (N,) float32, how far in the level's unit the lowest (highest) common level lies below (above) the
            row's own range; 0 where it lies within, NaN in rows that are `empty`.
        empty: (N,) bool, the row has no level at which all variables have a value.
        bridged: (N,) bool, some level of the row lacks a value of some variable and was left out.
        reversed: (N,) bool, the row's levels came from the top down.
    """

    values: NDArray[np.float32]
    below: NDArray[np.float32]
    above: NDArray[np.float32]
    empty: NDArray[np.bool_]
    bridged: NDArray[np.bool_]
    reversed: NDArray[np.bool_]


def implausible(levels: NDArray[np.floating], unit: LevelUnit) -> str | None:
    """Why some of these are not levels in `unit`, or None; NaN is passed over."""
    low, high = (0.0, HIGHEST_PRESSURE_HPA) if unit == "hPa" else HEIGHTS_M
    found = levels[np.isfinite(levels)]
    bad = (found <= low) | (found > high) if unit == "hPa" else (found < low) | (found > high)
    if not bad.any():
        return None
    return f"{float(found[bad][0]):g} {unit} is not a level of the atmosphere, which lie in {low:g}..{high:g} {unit}"


def interpolate(
    profiles: NDArray[np.float32],
    coordinate: NDArray[np.floating],
    onto: NDArray[np.floating],
    *,
    unit: LevelUnit,
) -> Interpolated:
    """Profiles on common levels, linear in height or in the logarithm of pressure.

    A level at which any variable is not finite counts as absent from its row, so that the gap is bridged by its
    neighbours. Outside the row's range the nearest level's value is held; callers decide by how far it may.

    Args:
        profiles: (N, V, L) float32.
        coordinate: (N, L) level of each value in `unit`, NaN where the row has fewer levels; or (L,) for all rows.
            Rising or falling throughout, row by row.
        onto: (K,) the common levels in `unit`, in ascending height.

    Raises:
        SourceError: a row's levels neither rise nor fall throughout.
    """
    count, variables, depth = profiles.shape
    result = Interpolated(
        values=np.empty((count, variables, len(onto)), dtype=np.float32),
        below=np.empty(count, dtype=np.float32),
        above=np.empty(count, dtype=np.float32),
        empty=np.zeros(count, dtype=bool),
        bridged=np.zeros(count, dtype=bool),
        reversed=np.zeros(count, dtype=bool),
    )
    shared = np.broadcast_to(coordinate, (count, depth))
    size = max(1, _CHUNK_VALUES // max(1, variables * max(depth, len(onto))))
    for start in range(0, count, size):
        rows = slice(start, start + size)
        _interpolate_rows(profiles[rows], shared[rows], np.asarray(onto, dtype=np.float64), unit, result, rows)
    return result


def _interpolate_rows(
    profiles: NDArray[np.float32],
    coordinate: NDArray[np.floating],
    onto: NDArray[np.float64],
    unit: LevelUnit,
    result: Interpolated,
    rows: slice,
) -> None:
    # `upward` rises with height in the level's own unit, `scale` is what is linear.
    upward = coordinate.astype(np.float64) * (1.0 if unit == "m" else -1.0)
    profiles, upward, held = _present_first(profiles, upward)
    last = held - 1
    row = np.arange(len(upward))
    top, bottom = upward[row, np.maximum(last, 0)], upward[:, 0]
    falls = (top < bottom) & (held > 1)
    if falls.any():
        # The padding of short rows comes last whichever way they run.
        order = np.where(falls[:, None], last[:, None] - np.arange(upward.shape[1]), np.arange(upward.shape[1]))
        order = np.where(order < 0, order + upward.shape[1], order)
        upward = np.take_along_axis(upward, order, axis=1)
        profiles = np.take_along_axis(profiles, order[:, None, :], axis=2)
        top, bottom = np.where(falls, bottom, top), np.where(falls, top, bottom)
    inside = np.arange(1, upward.shape[1]) < held[:, None]
    _require_order(upward, inside, coordinate, rows)
    scale = upward if unit == "m" else -np.log(np.maximum(-upward, np.finfo(np.float64).tiny))
    scale = np.where(np.arange(upward.shape[1]) < held[:, None], scale, np.inf)
    wanted = onto if unit == "m" else -np.log(onto)
    first, final = (onto[0], onto[-1]) if unit == "m" else (-onto[0], -onto[-1])
    empty = held == 0
    rounding = _ROUNDING * max(abs(first), abs(final), 1.0)
    result.empty[rows] = empty
    result.bridged[rows] = (held < np.isfinite(coordinate).sum(axis=1)) & ~empty
    result.reversed[rows] = falls
    result.below[rows] = np.where(empty, np.nan, np.where(bottom - first > rounding, bottom - first, 0.0))
    result.above[rows] = np.where(empty, np.nan, np.where(final - top > rounding, final - top, 0.0))
    lower, upper, weight = _weights(scale, wanted, np.maximum(last, 0))
    depth = profiles.shape[2]
    flat = np.ascontiguousarray(profiles).reshape(-1)
    origin = (np.arange(profiles.shape[0] * profiles.shape[1]) * depth).reshape(profiles.shape[:2])[:, :, None]
    values = flat.take(origin + lower[:, None, :])
    values += weight[:, None, :] * (flat.take(origin + upper[:, None, :]) - values)
    values[empty] = np.nan
    result.values[rows] = values


def _present_first(
    profiles: NDArray[np.float32], upward: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.intp]]:
    """Levels that have all values moved before those that lack one, in the order they had, and how many they are."""
    present = np.isfinite(upward) & np.isfinite(profiles).all(axis=1)
    held = present.sum(axis=1)
    if present.all():
        return profiles, upward, held
    order = np.argsort(~present, axis=1, kind="stable")
    upward = np.take_along_axis(upward, order, axis=1)
    return np.take_along_axis(profiles, order[:, None, :], axis=2), upward, held


def _require_order(
    upward: NDArray[np.float64], inside: NDArray[np.bool_], coordinate: NDArray[np.floating], rows: slice
) -> None:
    disordered = ((upward[:, 1:] <= upward[:, :-1]) & inside).any(axis=1)
    if disordered.any():
        at = int(np.flatnonzero(disordered)[0])
        raise SourceError(
            f"the levels of {int(disordered.sum())} columns neither rise nor fall throughout; the first is column "
            f"{rows.start + at}: {coordinate[at].tolist()}; put the source's levels in order"
        )


def _weights(
    scale: NDArray[np.float64], wanted: NDArray[np.float64], last: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each row and wanted level: the row's levels around it, and the weight of the upper one."""
    by_level = np.ascontiguousarray(scale.T)
    at_or_below = np.stack([(by_level <= level).sum(axis=0) for level in wanted], axis=1)
    lower = np.clip(at_or_below - 1, 0, last[:, None])
    upper = np.minimum(lower + 1, last[:, None])
    row = np.arange(len(scale))[:, None]
    low, high = scale[row, lower], scale[row, upper]
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(upper > lower, (wanted - low) / (high - low), 0.0)
    return lower, upper, np.clip(weight, 0.0, 1.0).astype(np.float32)
