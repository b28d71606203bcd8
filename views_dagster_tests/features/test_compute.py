"""Querysets on whole panels: units that come and go, what counts as missing, and what may be read."""

import math
from pathlib import Path

import polars as pl
import pytest

from views_dagster.errors import MissingMonthsError, QuerysetError
from views_dagster.features.registry import TRANSFORMS
from views_dagster_tests.features.worlds import queryset_of, run, units_table, values_table

# Unit 1 always exists, 2 appears in month 203, 3 vanishes after 201 and returns in 204.
LIVES = {1: range(200, 207), 2: range(203, 207), 3: [200, 201, 204, 205, 206]}
BORDERS = {1: [2, 3], 2: [1], 3: [1]}
UNITS = units_table(LIVES, BORDERS)
VALUES = values_table({(unit, month): 10.0 * unit + month - 200 for unit, months in LIVES.items() for month in months})


def column(frame: pl.DataFrame, name: str, unit: int) -> dict[int, float | None]:
    rows = frame.filter(pl.col("unit_id") == unit)
    return dict(zip(rows["month_id"].to_list(), rows[name].to_list(), strict=True))


def test_rows_are_the_existing_unit_months_sorted_and_typed() -> None:
    frame, report = run(queryset_of(a=[]), UNITS, VALUES, 201, 205)
    assert frame.schema == {
        "month_id": pl.Int32,
        "unit_id": pl.Int64,
        "target": pl.Float32,
        "a": pl.Float32,
    }
    expected = [(month, unit) for month in range(201, 206) for unit in (1, 2, 3) if month in LIVES[unit]]
    assert list(zip(frame["month_id"], frame["unit_id"], strict=True)) == expected
    assert report.rows == len(expected)
    assert report.outside == {}


def test_lags_count_calendar_months_across_a_gap() -> None:
    frame, _ = run(queryset_of(lag=["tlag(1)"], far=["tlag(3)"], total=["moving_sum(4)"]), UNITS, VALUES, 200, 206)
    assert column(frame, "lag", 3) == {200: None, 201: 30, 204: None, 205: 34, 206: 35}
    assert column(frame, "far", 3) == {200: None, 201: None, 204: 31, 205: None, 206: None}
    assert column(frame, "total", 3) == {200: 30, 201: 61, 204: 31 + 34, 205: 34 + 35, 206: 34 + 35 + 36}


def test_a_unit_has_no_past_before_it_existed_even_after_replace_na() -> None:
    chains = {"since": ["replace_na(0)", "gte(1000)", "time_since"], "mean": ["replace_na(0)", "mean"]}
    frame, _ = run(queryset_of(**chains, lag=["replace_na(0)", "tlag(1)"]), UNITS, VALUES, 200, 206)
    assert column(frame, "since", 2) == {203: None, 204: 1, 205: 2, 206: 3}
    assert column(frame, "mean", 2) == {203: 23, 204: 23.5, 205: 24, 206: 24.5}
    assert column(frame, "lag", 2) == {203: None, 204: 23, 205: 24, 206: 25}


def test_fill_and_time_since_reach_back_to_an_earlier_life() -> None:
    values = values_table(
        {(3, 200): 7, (3, 201): None, (3, 204): None, (3, 205): 0, (3, 206): 0, (1, 202): 1, (1, 203): 1}
    )
    frame, _ = run(queryset_of(fill=["fill"], since=["time_since"]), UNITS, values, 200, 206)
    assert column(frame, "fill", 3) == {200: 7, 201: 7, 204: 7, 205: 0, 206: 0}
    assert column(frame, "since", 3) == {200: None, 201: 0, 204: None, 205: None, 206: 5}


def test_neighbours_are_those_of_the_month() -> None:
    frame, _ = run(queryset_of(near=["countrylag"], far=["countrylag", "tlag(1)"]), UNITS, VALUES, 200, 206)
    assert column(frame, "near", 1) == {
        200: 30, 201: 31, 202: 0, 203: 23, 204: 24 + 34, 205: 25 + 35, 206: 26 + 36,
    }  # fmt: skip
    assert column(frame, "near", 2) == {203: 13, 204: 14, 205: 15, 206: 16}
    assert column(frame, "far", 3) == {200: None, 201: 10, 204: None, 205: 14, 206: 15}


def test_missing_stays_unknown_in_a_panel_and_is_zero_in_events() -> None:
    values = values_table(
        {(1, 201): 5, (1, 202): None, (2, 204): 3, (3, 203): None} | {(1, m): 1 for m in range(203, 207)}
    )
    panel, panel_report = run(queryset_of(a=[]), UNITS, values, 200, 206)
    assert column(panel, "a", 1) == {200: None, 201: 5, 202: None, 203: 1, 204: 1, 205: 1, 206: 1}
    assert panel_report.missing == {"s.x": 2 + 3 + 5}
    assert panel_report.nulls == {"target": 10, "a": 10}
    events, events_report = run(queryset_of(a=[]), UNITS, values, 200, 206, events=True)
    # Before the source begins nothing is known; a null that the source wrote stays one.
    assert column(events, "a", 1) == {200: None, 201: 5, 202: None, 203: 1, 204: 1, 205: 1, 206: 1}
    assert column(events, "a", 2) == {203: 0, 204: 3, 205: 0, 206: 0}
    assert events_report.missing == {"s.x": 3}


def test_rows_outside_a_units_lifetime_are_counted() -> None:
    extra = values_table({(2, 201): 4, (2, 202): 5, (3, 203): 6, (2, 199): 99})
    frame, report = run(queryset_of(a=["replace_na(0)"]), UNITS, pl.concat([VALUES, extra]), 202, 206, events=True)
    assert (report.outside["s"].rows, report.outside["s"].sums) == (2, {"x": 11})
    assert report.outside["s"].unknown_units == {}
    assert frame["a"].sum() == VALUES.filter(pl.col("month_id") >= 202)["x"].sum()


def test_events_of_an_unknown_unit_are_an_error_and_a_panels_are_counted() -> None:
    values = pl.concat([VALUES, values_table({(77, 203): 4, (88, 204): 2})])
    with pytest.raises(QuerysetError, match=r"s has rows of unknown units 77, 88 in 1996-11..1996-12"):
        run(queryset_of(a=[]), UNITS, values, 206, 206, events=True)
    _, report = run(queryset_of(a=[]), UNITS, values, 203, 206)
    assert report.outside["s"].unknown_units == {77: 1, 88: 1}
    _, later = run(queryset_of(a=[]), UNITS, values, 204, 206)
    assert later.outside["s"].unknown_units == {88: 1}
    with pytest.raises(QuerysetError, match="unknown units 1001, 1002, 1003"):
        run(queryset_of(a=[]), UNITS, VALUES.with_columns(pl.col("unit_id") + 1000), 200, 206)


def test_holes_and_repeats_are_errors() -> None:
    hole = pl.col("month_id") != 203
    with pytest.raises(MissingMonthsError, match="the units lack 1996-11"):
        run(queryset_of(a=[]), UNITS.filter(hole), VALUES, 200, 206)
    with pytest.raises(MissingMonthsError, match="raw rows of s lack 1996-11"):
        run(queryset_of(a=[]), UNITS, VALUES.filter(hole), 200, 206)
    with pytest.raises(MissingMonthsError, match="raw rows of s lack 1997-02"):
        run(queryset_of(a=[]), UNITS, VALUES.filter(pl.col("month_id") < 206), 200, 206)
    with pytest.raises(MissingMonthsError, match="raw rows of s have no month up to 1997-02"):
        run(queryset_of(a=[]), UNITS, VALUES.clear(), 200, 206)
    with pytest.raises(MissingMonthsError, match="begin in 1996-08; 1996-07"):
        run(queryset_of(a=[]), UNITS, VALUES, 199, 206)
    with pytest.raises(QuerysetError, match="several rows"):
        run(queryset_of(a=[]), UNITS, pl.concat([VALUES, VALUES.head(1)]), 200, 206)
    with pytest.raises(QuerysetError, match="repeats 1 rows"):
        run(queryset_of(a=[]), pl.concat([UNITS, UNITS.head(1)]), VALUES, 200, 206)


CHAINS = {
    "ln": ["replace_na(0)", "ln", "moving_average(3)"],
    "near": ["countrylag", "gte(20)", "time_since", "decay(2)"],
    "filled": ["fill", "delta(2)", "rollmax(2)"],
    "spread": ["moving_sum(2)", "entropy(3)", "demean"],
    "began": ["gte(30)", "onset(2)"],
}


@pytest.mark.parametrize("last", [200, 203, 205])
@pytest.mark.parametrize("poison", [None, math.nan, math.inf, 1e30])
def test_the_future_is_not_read(last: int, poison: float | None) -> None:
    queryset = queryset_of(**CHAINS)
    later = pl.col("month_id") > last
    poisoned = VALUES.with_columns(x=pl.when(later).then(pl.lit(poison, pl.Float64)).otherwise("x"))
    strangers = units_table({9: range(last + 1, 210), 2: range(207, 210)}, {9: [1, 2, 3]})
    frame, report = run(queryset, pl.concat([UNITS, strangers]), poisoned, 200, last)
    alone, alone_report = run(queryset, UNITS.remove(later), VALUES.remove(later), 200, last)
    assert frame.equals(alone)
    assert report == alone_report
    whole, _ = run(queryset, UNITS, VALUES, 200, 206)
    assert frame.equals(whole.remove(later))


def test_a_month_alone_equals_the_month_of_a_backfill() -> None:
    queryset = queryset_of(**CHAINS)
    whole, _ = run(queryset, UNITS, VALUES, 200, 206)
    months = [run(queryset, UNITS, VALUES, month, month)[0] for month in range(200, 207)]
    assert pl.concat(months).equals(whole)


def test_the_order_of_raw_rows_does_not_matter() -> None:
    queryset = queryset_of(**CHAINS)
    shuffled, _ = run(queryset, UNITS.sample(fraction=1, shuffle=True, seed=1), VALUES.reverse(), 200, 206)
    assert shuffled.equals(run(queryset, UNITS, VALUES, 200, 206)[0])


def test_nan_in_raw_rows_is_missing() -> None:
    values = VALUES.with_columns(x=pl.when(pl.col("month_id") == 202).then(math.nan).otherwise("x"))
    frame, _ = run(queryset_of(a=["replace_na(-1)"]), UNITS, values, 202, 202)
    assert frame["a"].to_list() == [-1]


def test_a_beginning_that_chains_share_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = TRANSFORMS["ln"]

    def counted(x: pl.Expr) -> pl.Expr:
        def run_ln(series: pl.Series) -> pl.Series:
            calls.append(len(series))
            return series.log1p()

        return x.map_batches(run_ln, return_dtype=pl.Float64)

    monkeypatch.setitem(TRANSFORMS, "ln", type(original)("ln", counted, (), False))
    shared = ["replace_na(0)", "ln"]
    run(queryset_of(a=shared, b=[*shared, "tlag(1)"], c=["replace_na", "ln", "moving_sum(2)"]), UNITS, VALUES, 200, 206)
    assert calls == [3 * 7]


def test_real_country_months(shared_data: Path) -> None:
    """Syria from 2011, against UCDP's own monthly sums."""
    real = pl.read_parquet(shared_data / "conflict" / "ucdp_country_month.parquet").select(
        pl.col("month_id").cast(pl.Int32), unit_id="gwno", x=pl.col("ged_sb_best").cast(pl.Float64)
    )
    units = real.select("month_id", "unit_id", neighbours=pl.lit([], dtype=pl.List(pl.Int64)))
    chains = {
        "year": ["moving_sum(12)"],
        "since": ["gte(25)", "time_since"],
        "ln_lag": ["ln", "tlag(1)"],
        "near": ["countrylag"],
    }
    frame, report = run(queryset_of(**chains), units, real, 397, 400)
    assert report.rows == real.filter(pl.col("month_id").is_between(397, 400)).height
    assert report.nulls["target"] == 0
    assert frame.sort("month_id", "unit_id").equals(frame)
    assert frame["near"].sum() == 0
    syria = real.filter(pl.col("unit_id") == 652).sort("month_id")
    past = dict(zip(syria["month_id"].to_list(), syria["x"].to_list(), strict=True))
    for month in range(397, 401):
        assert column(frame, "year", 652)[month] == sum(past[m] for m in range(month - 11, month + 1))
        assert column(frame, "ln_lag", 652)[month] == pytest.approx(math.log1p(past[month - 1]), rel=1e-6)
        last = max((m for m in range(109, month) if past[m] >= 25), default=108)
        assert column(frame, "since", 652)[month] == month - 1 - last
