"""Reading a column of a published table as the type it should have, whether the file holds it typed or as text."""

from typing import Final

import polars as pl

from views_dagster.calendar import month_id_of
from views_dagster.errors import SourceError

_DATE_TEXT: Final = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"


def month_id_from(year: pl.Expr, month: pl.Expr) -> pl.Expr:
    """Int32 month ids of expressions of a year and a month 1..12."""
    return year.cast(pl.Int32) * 12 + month.cast(pl.Int32) + (month_id_of(0, 1) - 1)


def typed(values: pl.Series, wanted: pl.DataType, *, origin: str) -> pl.Series:
    """`values` as `wanted`: String, Date, Float64 or an integer type.

    Text is stripped; an empty text and a NaN are null. Dates may carry a time of day, which is dropped. Whole numbers
    may be written as floats (`3.0`).

    Args:
        origin: what the column was read from, for messages.

    Raises:
        SourceError: a value cannot be read as `wanted` without loss, or is infinite; names the column and the value.
    """
    if isinstance(wanted, pl.String):
        return values.cast(pl.String)
    if values.dtype == pl.String:
        values = values.str.strip_chars()
        values = values.set(values == "", None)
    elif values.dtype.is_float():
        values = values.fill_nan(None)
    if isinstance(wanted, pl.Date):
        read, expected = _dates(values), "a date such as 2023-10-02"
    elif isinstance(wanted, pl.Float64):
        read, expected = _numbers(values), "a number"
    else:
        read, expected = _integers(values, wanted), f"a whole number ({wanted})"
    bad = read.is_null() & values.is_not_null()
    if bad.any():
        raise SourceError(
            f"{origin}: column {values.name} holds {values.filter(bad)[0]!r} ({bad.sum()} such values, first in row "
            f"{bad.arg_true()[0] + 1}); expected {expected}"
        )
    return read


def _unread(values: pl.Series, wanted: pl.DataType) -> pl.Series:
    return pl.Series(values.name, [None] * len(values), dtype=wanted)


def _dates(values: pl.Series) -> pl.Series:
    if isinstance(values.dtype, pl.Date | pl.Datetime | pl.Null):
        return values.cast(pl.Date)
    if values.dtype != pl.String:
        return _unread(values, pl.Date())
    days = values.set(~values.str.contains(_DATE_TEXT), None).str.head(10)
    return days.str.to_date("%Y-%m-%d", strict=False)


def _numbers(values: pl.Series) -> pl.Series:
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Null)):
        return _unread(values, pl.Float64())
    numbers = values.cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite(), None)


def _integers(values: pl.Series, wanted: pl.DataType) -> pl.Series:
    if values.dtype.is_integer():
        return values.cast(wanted, strict=False)
    numbers = _numbers(values)
    return numbers.set(numbers != numbers.round(), None).cast(wanted, strict=False)
