from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from views_dagster.calendar import month_id_of
from views_dagster.errors import SourceError
from views_dagster.sources.columns import month_id_from, typed


@pytest.mark.parametrize(
    ("values", "wanted", "expected"),
    [
        (["1", " 2 ", "", None, "3.0"], pl.Int64(), [1, 2, None, None, 3]),
        ([1.0, float("nan"), None], pl.Int64(), [1, None, None]),
        ([True, None], pl.String(), ["true", None]),
        (["1.5", "-2e3", ""], pl.Float64(), [1.5, -2000.0, None]),
        ([1, None], pl.Float64(), [1.0, None]),
        ([None, None], pl.Int64(), [None, None]),
        ([None, None], pl.Date(), [None, None]),
        (["9999-12-31", "1816-01-01 00:00:00"], pl.Date(), [date(9999, 12, 31), date(1816, 1, 1)]),
        ([datetime(2024, 1, 2, 23, 59)], pl.Date(), [date(2024, 1, 2)]),
    ],
)
def test_typed(values: list[object], wanted: pl.DataType, expected: list[object]) -> None:
    read = typed(pl.Series("x", values), wanted, origin="a.csv")
    assert read.dtype == wanted
    assert read.to_list() == expected


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("1.5", pl.Int64()),
        (1.5, pl.Int64()),
        ("inf", pl.Float64()),
        ("nan", pl.Float64()),
        (float("-inf"), pl.Float64()),
        ("NA", pl.Float64()),
        (True, pl.Float64()),
        ("1/2/2023", pl.Date()),
        ("2023-13-01", pl.Date()),
        (20230101, pl.Date()),
        (2**31, pl.Int32()),
    ],
)
def test_values_of_another_type_are_refused(value: object, wanted: pl.DataType) -> None:
    with pytest.raises(SourceError, match=r"a.csv: column x holds .* \(1 such values, first in row 2\); expected"):
        typed(pl.Series("x", [None, value]), wanted, origin="a.csv")


@given(st.integers(1, 9999), st.integers(1, 12))
def test_month_ids_are_the_calendars(year: int, month: int) -> None:
    frame = pl.DataFrame({"year": [year], "month": [month]})
    assert frame.select(month_id_from(pl.col("year"), pl.col("month"))).item() == month_id_of(year, month)
