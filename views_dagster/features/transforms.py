"""The transforms a queryset can name.

A transform is one registered function from a column to a column. Columns are Float64 polars expressions over the
unit-major grid that `compute` builds: all months of the first unit in order, then all months of the next, every unit
with the same months. Null means unknown, or that the unit does not exist; NaN does not occur. A value may depend on its
own and earlier months only. Names and definitions are those of VIEWS' views_transformation_library; docs/features.md
lists where the two differ.

Within a month, plain polars does. Across months, `months_ago` shifts without crossing from one unit to the next, and
`along_months` hands all series at once to a numpy function, several times faster than `.over("unit_id")` on a large
grid.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.features.registry import Months, Neighbours, NotNegative, Number, Positive, transform

Matrix = NDArray[np.float64]
MONTH: Final = pl.col("month")  # months since the grid began, 0-based
ROUNDING: Final = 1e-12
BLOCK: Final = 2**16


def months_ago(x: pl.Expr, k: int) -> pl.Expr:
    """The unit's value k months earlier, null before the grid began."""
    return pl.when(k <= MONTH).then(x.shift(k))


def along_months(x: pl.Expr, kernel: Callable[[Matrix], Matrix]) -> pl.Expr:
    """Apply `kernel` to all units at once.

    `kernel` maps a (units, months) float64 matrix, NaN for null, to one of the same shape, and leaves its input alone.
    """

    def run(columns: Sequence[pl.Series]) -> pl.Series:
        series, month = columns
        values = series.to_numpy().reshape(-1, month[-1] + 1)
        result = np.empty_like(values)
        # A few hundred units at a time: what a kernel allocates then stays in the cache, which halves its time.
        block = max(1, BLOCK // values.shape[1])
        for start in range(0, len(values), block):
            result[start : start + block] = kernel(values[start : start + block])
        return pl.Series(result.reshape(-1), nan_to_null=True)

    return pl.map_batches([x, MONTH], run, return_dtype=pl.Float64)


def over_window(values: NDArray[Any], w: int, combine: np.ufunc) -> NDArray[Any]:
    """Combine each unit's last w months, the current one included, fewer where the matrix begins.

    Windows of doubled length are built from pairs, so that no rounding residue outlives its window as it does in a
    running sum, and w costs log2(w) passes.
    """

    def join(later: NDArray[Any], earlier: NDArray[Any], months: int) -> NDArray[Any]:
        joined = later.copy()
        combine(later[:, months:], earlier[:, :-months], out=joined[:, months:])
        return joined

    block, size = values, 1
    result, covered = values, w & 1
    while 2 * size <= w:
        block, size = join(block, block, size), 2 * size
        if w & size:
            result = join(result, block, covered) if covered else block
            covered += size
    return result


def sum_and_count(values: Matrix, w: int) -> tuple[Matrix, NDArray[np.int16]]:
    """Sum and number of the known values of the last w months."""
    known = ~np.isnan(values)
    return over_window(np.where(known, values, 0), w, np.add), over_window(known.astype(np.int16), w, np.add)


def ratio(numerator: Matrix, denominator: NDArray[Any]) -> Matrix:
    """Quotient, NaN where the denominator is not above 0."""
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


@transform(memory=0)
def replace_na(x: pl.Expr, v: Number = 0.0) -> pl.Expr:
    """v where the value is unknown."""
    return x.fill_null(v)


@transform(memory=0)
def is_na(x: pl.Expr) -> pl.Expr:
    """1 where the value is unknown, else 0."""
    return x.is_null().cast(pl.Float64)


@transform
def fill(x: pl.Expr) -> pl.Expr:
    """The last known value, forward only; null before the first known one."""

    def kernel(values: Matrix) -> Matrix:
        months = np.arange(values.shape[1])
        last_known = np.maximum.accumulate(np.where(np.isnan(values), 0, months), axis=1)
        return np.take_along_axis(values, last_known, axis=1)

    return along_months(x, kernel)


@transform(memory=0)
def ln(x: pl.Expr) -> pl.Expr:
    """ln(1 + x); null where x is null or not above -1."""
    return pl.when(x > -1).then(x.log1p())


@transform(memory=0)
def gte(x: pl.Expr, v: Number) -> pl.Expr:
    """1 where x >= v, else 0; null stays null."""
    return (x >= v).cast(pl.Float64)


@transform(memory=lambda k: k)
def tlag(x: pl.Expr, k: Months) -> pl.Expr:
    """The value k calendar months ago; null where that is unknown or before the unit began."""
    return months_ago(x, k)


@transform(memory=lambda k: k)
def delta(x: pl.Expr, k: Months = 1) -> pl.Expr:
    """x minus its value k months ago; null where either is."""
    return x - months_ago(x, k)


@transform(memory=lambda w: w - 1)
def moving_sum(x: pl.Expr, w: Months) -> pl.Expr:
    """Sum of the known values of the last w months, the current one included; null where none is known."""

    def kernel(values: Matrix) -> Matrix:
        total, count = sum_and_count(values, w)
        return np.where(count > 0, total, np.nan)

    return along_months(x, kernel)


@transform(memory=lambda w: w - 1)
def moving_average(x: pl.Expr, w: Months) -> pl.Expr:
    """Mean of the known values of the last w months, the current one included; null where none is known."""
    return along_months(x, lambda values: ratio(*sum_and_count(values, w)))


@transform(memory=lambda w: w - 1)
def rollmax(x: pl.Expr, w: Months) -> pl.Expr:
    """Largest known value of the last w months, the current one included; null where none is known."""
    return along_months(x, lambda values: over_window(values, w, np.fmax))


@transform
def time_since(x: pl.Expr) -> pl.Expr:
    """Months since x was last non-zero, counted up to the previous month: 0 in the month after an event.

    Before the first event, months since the series began; null where the previous month is unknown.
    """

    def kernel(values: Matrix) -> Matrix:
        months = np.arange(values.shape[1], dtype=np.int32)
        known = ~np.isnan(values)
        before_series = np.argmax(known, axis=1).astype(np.int32)[:, None] - 1
        last_event = np.maximum.accumulate(np.where(known & (values != 0), months, before_series), axis=1)
        result = np.full(values.shape, np.nan)
        result[:, 1:] = np.where(known, months - last_event, np.nan)[:, :-1]
        return result

    return along_months(x, kernel)


@transform(memory=0)
def decay(x: pl.Expr, h: Positive) -> pl.Expr:
    """2 ** (-x / h): 1 at 0, halved every h months; null stays null."""
    return pl.lit(2.0).pow(-x / h)


@transform(memory=lambda w: w)
def onset(x: pl.Expr, w: Months) -> pl.Expr:
    """1 where x is non-zero and was non-zero in none of the w months before, else 0.

    Unknown earlier months and those before the unit began do not prevent an onset; null where x is null.
    """

    def kernel(values: Matrix) -> Matrix:
        known = ~np.isnan(values)
        active = known & (values != 0)
        begins = active.copy()
        begins[:, 1:] &= ~over_window(active, w, np.logical_or)[:, :-1]
        return np.where(known, begins, np.nan)

    return along_months(x, kernel)


@transform
def mean(x: pl.Expr) -> pl.Expr:
    """Mean of all known values so far, the current one included; null before the first known one."""

    def kernel(values: Matrix) -> Matrix:
        known = ~np.isnan(values)
        return ratio(np.cumsum(np.where(known, values, 0), axis=1), np.cumsum(known, axis=1))

    return along_months(x, kernel)


@transform
def demean(x: pl.Expr) -> pl.Expr:
    """x minus its `mean` so far; null where x is."""
    return x - mean(x)


@transform(memory=lambda w, offset: w - 1)
def entropy(x: pl.Expr, w: Months, offset: NotNegative = 0.0) -> pl.Expr:
    """Shannon entropy, in bits, of the shares that the last w months have in their sum.

    0 where all of it fell in one month, log2(w) where it was spread evenly. `offset` is added to every value first.
    Null where no value is known, the sum is 0, or the window holds a negative value: there are no shares then.
    """

    def kernel(values: Matrix) -> Matrix:
        amounts = values + offset
        amounts[amounts < 0] = -np.inf
        logs = np.log2(amounts, out=np.zeros_like(amounts), where=amounts > 0)
        with np.errstate(invalid="ignore"):
            weighted, _ = sum_and_count(amounts * logs, w)
            total, _ = sum_and_count(amounts, w)
            bits = np.log2(total, out=np.full(total.shape, np.nan), where=total > 0) - ratio(weighted, total)
        return np.where(bits < ROUNDING, 0, bits)

    return along_months(x, kernel)


@transform(memory=0)
def countrylag(x: pl.Expr, neighbours: Neighbours) -> pl.Expr:
    """Sum over the first-order neighbours of that month, the unit itself left out.

    Neighbours that do not exist or are unknown are left out; 0 for a unit without neighbours, null where none is known.
    """
    return neighbours.sum(x)
