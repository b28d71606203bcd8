"""The panel: dense, month-major, and refusing what a learner could not learn from."""

import numpy as np
import polars as pl
import pytest

from views_dagster.errors import PanelError
from views_dagster.panel import Panel

ROWS = pl.DataFrame(
    {
        "month_id": [121, 121, 122, 123, 123],
        "unit_id": [70, 20, 20, 20, 31],
        "y": [1.0, 2.0, 3.0, 4.0, 5.0],
        "a": [10.0, 20.0, 30.0, 40.0, 50.0],
        "b": [-1.0, -2.0, -3.0, -4.0, -5.0],
    }
)


def panel(frame: pl.DataFrame = ROWS) -> Panel:
    return Panel.from_frame(frame, target="y", features=["b", "a"])


def test_rows_become_months_by_units() -> None:
    made = panel()
    assert made.months.tolist() == [121, 122, 123]
    assert made.units.tolist() == [20, 31, 70]
    assert made.exists.tolist() == [[True, False, True], [True, False, False], [True, True, False]]
    np.testing.assert_array_equal(made.target, [[2, np.nan, 1], [3, np.nan, np.nan], [4, 5, np.nan]])
    assert made.feature_names == ("b", "a")
    np.testing.assert_array_equal(made.features[0, 2], [-1, 10])
    np.testing.assert_array_equal(made.features[1, 2], [np.nan, np.nan])
    assert (made.features.dtype, made.target.dtype) == (np.float32, np.float32)


def test_origin_is_the_last_month_and_only_its_units_are_forecast() -> None:
    made = panel()
    assert made.origin == 123
    assert made.units[made.current].tolist() == [20, 31]


def test_order_of_rows_does_not_count() -> None:
    expected, shuffled = panel(), panel(ROWS.sample(fraction=1.0, shuffle=True, seed=3))
    for name in ("months", "units", "exists", "features", "target"):
        np.testing.assert_array_equal(getattr(shuffled, name), getattr(expected, name))


def test_an_earlier_view_is_the_panel_of_the_earlier_rows() -> None:
    expected, earlier = panel(ROWS.filter(pl.col("month_id") <= 122)), panel().until(122)
    for name in ("months", "units", "exists", "features", "target"):
        np.testing.assert_array_equal(getattr(earlier, name), getattr(expected, name))
    assert 31 not in earlier.units


@pytest.mark.parametrize("month_id", [120, 124])
def test_a_view_outside_the_panel_is_refused(month_id: int) -> None:
    with pytest.raises(PanelError, match=r"1990-01\.\.1990-03"):
        panel().until(month_id)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (ROWS.drop("a"), "no column a; it has month_id, unit_id, y, b"),
        (ROWS.clear(), "no rows"),
        (ROWS.filter(pl.col("month_id") != 122), "lacks 1990-02"),
        (pl.concat([ROWS, ROWS.head(2)]), "repeats 2"),
    ],
)
def test_panels_that_cannot_be_built(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(PanelError, match=message):
        panel(frame)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("column", ["a", "y"])
def test_unknown_values_are_refused_with_month_and_unit(column: str, value: float | None) -> None:
    broken = ROWS.with_columns(pl.when(pl.col("month_id") == 122).then(pl.lit(value)).otherwise(column).alias(column))
    with pytest.raises(PanelError, match=f"column {column} .* in 1 rows, first in 1990-02 for unit 20"):
        panel(broken)
