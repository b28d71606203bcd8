"""Fractions over neighbourhoods: squares of boxes on the lattice, for the fractions skill score by scale."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import PanelError
from views_dagster.precipitation.skill_scores import sum_by_group

Array = NDArray[np.float64]

SIZES: Final = (1, 3, 5, 7, 9)
"""Widths of the windows, in boxes."""

_VALUES_AT_ONCE: Final = 4_000_000


def window_sums(
    predicted: Sequence[Array],
    observed: Array,
    box_id: NDArray[np.int64],
    valid_time: NDArray[np.datetime64],
    event: NDArray[np.intp],
    events: int,
    shape: tuple[int, int],
    *,
    sizes: Sequence[int] = SIZES,
    least_present: float = 0.5,
) -> Array:
    """Sums over windows for the fractions skill score of several models (M, E, W, T, 2): (p - o)^2 and p^2 + o^2.

    A window is a square of n x n boxes that lies wholly on the lattice, as in `scores.spatial.fss_2d` without padding;
    p and o are means of the exceedance fractions over its boxes. Only boxes of one event at one valid time make up a
    window: it never mixes events. Boxes without a row are left out of its mean, and a window with less than
    `least_present` of its boxes does not count. On a lattice without gaps, one event a time, this is `scores`.

    Args:
        predicted: M arrays (N, T), exceedance fraction of each row by threshold.
        observed: (N, T).
        box_id: (N,) row * columns + column.
        event: (N,) number of each row's event, 0..events-1.
        shape: rows and columns of the lattice.
        sizes: W widths of windows, n. One wider than the lattice has no window.

    Raises:
        PanelError: a box is not on the lattice, or an event has a box twice at one time.
    """
    rows, columns = shape
    if len(box_id) and not (box_id.min() >= 0 and box_id.max() < rows * columns):
        raise PanelError(
            f"boxes {box_id.min()}..{box_id.max()} are not all on the lattice of {rows} x {columns} boxes; "
            "give the shape of the lattice that the rows come from"
        )
    thresholds = observed.shape[1]
    _, time = np.unique(valid_time, return_inverse=True)
    fields, field = np.unique(np.stack([event, time], axis=1), axis=0, return_inverse=True)
    field = field.reshape(-1)
    place = field * (rows * columns) + box_id
    repeated = len(place) - len(np.unique(place))
    if repeated:
        raise PanelError(f"{repeated} rows repeat the box and valid time of another row of their event; give each once")
    out = np.zeros((len(predicted), events, len(sizes), thresholds, 2))
    order = np.argsort(field, kind="stable")
    for first, last in _chunks(len(fields), rows * columns * thresholds):
        chosen = order[slice(*np.searchsorted(field[order], [first, last]))]
        at = (field[chosen] - first, *np.divmod(box_id[chosen], columns))
        size_of_chunk = (last - first, rows, columns)
        present = np.zeros((*size_of_chunk, 1))
        present[at] = 1.0
        truth = _field(observed[chosen], at, size_of_chunk)
        guesses = [_field(values[chosen], at, size_of_chunk) for values in predicted]
        event_of_field = fields[first:last, 0]
        for which, size in enumerate(sizes):
            if size > min(shape):
                continue
            count = _totals(present, size)
            counts = np.rint(count) >= max(least_present * size**2, 1)
            share = np.divide(1.0, count, out=np.zeros_like(count), where=counts)
            seen = _totals(truth, size) * share
            for model, guess in enumerate(guesses):
                said = _totals(guess, size) * share
                sums = np.stack([((said - seen) ** 2).sum(axis=(1, 2)), (said**2 + seen**2).sum(axis=(1, 2))], axis=2)
                out[model, :, which] += sum_by_group(sums, event_of_field, events)
    return out


def _chunks(fields: int, values_of_field: int) -> Iterator[tuple[int, int]]:
    step = max(1, _VALUES_AT_ONCE // max(values_of_field, 1))
    return ((first, min(first + step, fields)) for first in range(0, fields, step))


def _field(values: Array, at: tuple[NDArray[np.intp], ...], shape: tuple[int, int, int]) -> Array:
    """(F, R, C, T) fields from rows (N, T) at (field, row, column); zero where there is no row."""
    field = np.zeros((*shape, values.shape[1]))
    field[at] = values
    return field


def _totals(field: Array, size: int) -> Array:
    """(F, R - n + 1, C - n + 1, T) sums over all windows of n x n boxes, by running sums."""
    if size == 1:
        return field
    for axis in (1, 2):
        running = np.moveaxis(field.cumsum(axis=axis), axis, 0)
        sums = running[size - 1 :].copy()
        sums[1:] -= running[:-size]
        field = np.moveaxis(sums, 0, axis)
    return field
