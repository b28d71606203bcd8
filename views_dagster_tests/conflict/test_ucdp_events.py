from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from views_dagster.calendar import from_date, from_key
from views_dagster.conflict.event_reader import EventReader
from views_dagster.conflict.ucdp_events import (
    EVENT_MONTH_SCHEMA,
    EVENT_SCHEMA,
    clean,
    normalise,
    published_columns,
    require_every_month,
    to_event_months,
)
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.sources.base import RawMonths
from views_dagster_tests.conflict.events import as_published, events, row


class _Events(EventReader):
    kind: Literal["made"] = "made"

    def read(self, first: int, last: int) -> RawMonths:
        raise NotImplementedError


def test_every_published_variant_becomes_the_same_events(shared_data: Path) -> None:
    candidate = pl.read_parquet(shared_data / "conflict/ged_candidate_23_0_10.parquet")
    subset = normalise(candidate, origin="28 columns")
    full = normalise(as_published(candidate).cast(pl.String), origin="49 columns, all text")
    assert dict(subset.schema) == dict(EVENT_SCHEMA)
    assert full.equals(subset)
    first = subset.filter(pl.col("id") == 492699).row(0, named=True)
    assert first["date_start"] == date(2023, 10, 2)
    assert first["month_id"] == 526
    assert (first["country_id"], first["type_of_violence"], first["best"]) == (700, 3, 1)


def test_country_may_be_called_gwno_and_the_end_may_be_absent(shared_data: Path) -> None:
    published = pl.read_parquet(shared_data / "conflict/ged_events.parquet")
    kept = normalise(published, origin="ged_events")
    assert kept["country_id"].to_list() == published["gwno"].to_list()
    assert kept["date_end"].equals(kept["date_start"].alias("date_end"))
    assert kept["month_id"].to_list() == published["month_id"].to_list()
    assert kept["where_prec"].null_count() == kept.height
    assert kept["best"].sum() == published["best"].cast(pl.Int64).sum()


@pytest.mark.parametrize("column", ["id", "date_start", "type_of_violence", "best", "low", "high"])
def test_a_missing_required_column_is_named(column: str) -> None:
    with pytest.raises(SourceError, match=rf"GEDEvent_v25_1.csv has no column {column};"):
        normalise(pl.DataFrame([row()]).drop(column), origin="GEDEvent_v25_1.csv")


def test_a_missing_country_column_is_named_with_its_alias() -> None:
    with pytest.raises(SourceError, match="country_id or gwno"):
        normalise(pl.DataFrame([row()]).drop("country_id"), origin="x.csv")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("best", "many"),
        ("best", 2.5),
        ("best", "2.5"),
        ("id", "A-17"),
        ("latitude", "15 N"),
        ("latitude", float("inf")),
        ("date_start", "02/10/2023"),
        ("date_start", "2023-02-30"),
        ("date_start", 20231002),
        ("type_of_violence", 3000),
    ],
)
def test_a_value_of_an_unreadable_type_is_named(column: str, value: object) -> None:
    with pytest.raises(SourceError, match=rf"x.csv: column {column} holds .*first in row 1\); expected a"):
        normalise(pl.DataFrame([row(**{column: value})]), origin="x.csv")


@pytest.mark.parametrize(
    "written",
    [
        "2023-10-02",
        "2023-10-02 00:00:00.000",
        "2023-10-02 00:00",
        "2023-10-02T00:00:00",
        "2023-10-02T00:00:00Z",
        date(2023, 10, 2),
        datetime(2023, 10, 2),
    ],
)
def test_dates_in_every_published_spelling(written: object) -> None:
    assert events(row(date_start=written))["date_start"].to_list() == [date(2023, 10, 2)]


def test_text_numbers_empty_text_and_unknown_columns() -> None:
    kept = normalise(
        pl.DataFrame([row(best=" 5.0", where_prec="", latitude="15.5") | {"new_column": "x"}]), origin="x.csv"
    )
    assert kept.select("best", "where_prec", "latitude").row(0) == (5, None, 15.5)
    assert kept.columns == list(EVENT_SCHEMA)


def test_only_the_columns_that_are_kept_need_parsing() -> None:
    assert published_columns(["id", "source_article", "gwno", "best", "month_id"]) == ["id", "gwno", "best"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"type_of_violence": None}, "have no type_of_violence"),
        ({"type_of_violence": 4}, "type_of_violence other than 1 \\(sb\\), 2 \\(ns\\), 3 \\(os\\)"),
        ({"where_prec": 0}, "where_prec other than 1..7"),
        ({"country_id": None}, "have no country_id"),
        ({"country_id": 0}, "no Gleditsch-Ward number"),
        ({"country_id": 1000}, "no Gleditsch-Ward number"),
        ({"id": None}, "have no id"),
        ({"date_start": None}, "have no date_start"),
        ({"best": None}, "have no best"),
        ({"low": -1}, "have negative deaths"),
        ({"date_end": date(2032, 1, 31)}, "end more than 732 days after they start"),
        ({"latitude": 90.5}, "lie off the globe"),
        ({"longitude": -181.0}, "lie off the globe"),
    ],
)
def test_events_that_cannot_be_right_are_refused(changes: dict[str, Any], problem: str) -> None:
    rows = events(row(), row(**({"id": 77} | changes)))
    identity = "None" if "id" in changes else "77"
    with pytest.raises(SourceError, match=rf"a.csv: 1 events .*{problem}.*: id {identity};"):
        clean(rows, origin="a.csv")


def test_one_id_with_differing_content_is_refused() -> None:
    with pytest.raises(SourceError, match="2 events appear more than once with differing content: id 7;"):
        clean(events(row(id=7), row(id=7, best=6), row(id=8)))


def test_more_than_five_ids_are_shortened() -> None:
    with pytest.raises(SourceError, match="id 0, 1, 2, 3, 4 and 2 more;"):
        clean(events(*(row(id=i, best=-1) for i in range(7))))


def test_repairs_are_made_and_counted() -> None:
    cleaned, repairs = clean(
        events(
            row(id=1, best=0, low=0, high=0),
            row(id=2),
            row(id=2),
            row(id=3, low=6),
            row(id=4, high=4),
            row(id=5, date_start=date(2024, 1, 31), date_end=date(2024, 1, 1)),
            row(id=6, date_end=None),
            row(id=7, latitude=None, longitude=None),
        )
    )
    assert repairs == {"duplicate_events": 1, "bounds_widened": 2, "end_before_start": 1, "end_date_missing": 1}
    assert cleaned["id"].to_list() == [1, 2, 3, 4, 5, 6, 7]
    assert cleaned.select("low", "best", "high").rows()[2:4] == [(5, 5, 8), (3, 5, 5)]
    assert cleaned["date_end"].to_list()[4:6] == [date(2024, 1, 31), date(2024, 1, 10)]


def test_repairs_of_other_months_are_made_but_not_counted() -> None:
    rows = events(row(id=1, low=6), row(id=2, low=6, date_start=date(2020, 5, 5)))
    cleaned, repairs = clean(rows, months=(from_key("2024-01"), from_key("2024-12")))
    assert repairs["bounds_widened"] == 1
    assert cleaned["low"].to_list() == [5, 5]


def test_split_by_day_by_hand() -> None:
    """30 January to 1 February are three days: two thirds and one third of 9 deaths."""
    made = to_event_months(
        events(row(date_start=date(2024, 1, 30), date_end=date(2024, 2, 1), best=9, low=3, high=12)),
        dating="split_by_day",
    )
    assert dict(made.schema) == dict(EVENT_MONTH_SCHEMA)
    assert made.select("month_id", "best", "low", "high").rows() == [(529, 6.0, 2.0, 8.0), (530, 3.0, 1.0, 4.0)]
    assert made["share"].to_list() == pytest.approx([2 / 3, 1 / 3], abs=2**-19)


def test_dating_by_start_keeps_the_event_whole() -> None:
    made = to_event_months(events(row(date_start=date(2024, 1, 30), date_end=date(2024, 3, 1))), dating="start")
    assert made.select("month_id", "best", "share").rows() == [(529, 5.0, 1.0)]


def test_an_event_without_deaths_stays() -> None:
    assert to_event_months(events(row(best=0, low=0, high=0)), dating="split_by_day").height == 1


@st.composite
def _spans(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(st.dates(date(1989, 1, 1), date(2024, 12, 31)))
    low, best, high = sorted(draw(st.lists(st.integers(0, 10**9), min_size=3, max_size=3)))
    days = draw(st.one_of(st.integers(0, 100), st.integers(0, 5000)))
    return row(date_start=start, date_end=start + timedelta(days), best=best, low=low, high=high)


@settings(max_examples=40, deadline=None)
@given(st.lists(_spans(), min_size=1, max_size=20))
def test_split_conserves_totals_to_the_bit_in_any_order(rows: list[dict[str, Any]]) -> None:
    made_events = events(*(entry | {"id": number} for number, entry in enumerate(rows)))
    made = to_event_months(made_events, dating="split_by_day")
    for shuffled in (made, made.reverse(), made.sample(fraction=1.0, shuffle=True, seed=1)):
        sums = shuffled.group_by("id").agg(pl.col("best", "low", "high", "share").sum()).sort("id")
        whole = made_events.select("id", pl.col("best", "low", "high").cast(pl.Float64), share=pl.lit(1.0))
        assert sums.equals(whole)
    assert made.filter((pl.col("low") > pl.col("best")) | (pl.col("best") > pl.col("high"))).is_empty()


@settings(max_examples=20, deadline=None)
@given(_spans())
def test_split_agrees_with_counting_days(entry: dict[str, Any]) -> None:
    """Each month's part differs from the exact fraction by less than 2^-19 of a death."""
    days = [entry["date_start"] + timedelta(n) for n in range((entry["date_end"] - entry["date_start"]).days + 1)]
    in_month: dict[int, int] = {}
    for day in days:
        in_month[from_date(day)] = in_month.get(from_date(day), 0) + 1
    made = to_event_months(events(entry), dating="split_by_day")
    assert made["month_id"].to_list() == list(in_month)
    for column, total in (("best", entry["best"]), ("share", 1)):
        for part, count in zip(made[column], in_month.values(), strict=True):
            assert abs(Fraction(part) - Fraction(total * count, len(days))) < Fraction(1, 2**19)


def test_panel_sums_by_month_country_and_type() -> None:
    raw = to_event_months(
        events(
            row(id=1, best=5),
            row(id=2, best=7, low=7),
            row(id=3, best=4, type_of_violence=3),
            row(id=4, best=1, low=1, high=1, country_id=700),
            row(id=5, best=2, low=2, high=2, date_start=date(2024, 1, 31), date_end=date(2024, 2, 1)),
        ),
        dating="split_by_day",
    )
    reader = _Events()
    panel = reader.panel(raw.lazy(), "cm").sort("month_id", "unit_id").collect()
    assert set(panel.columns) == {"month_id", "unit_id"} | reader.columns("cm")
    chosen = panel.select("month_id", "unit_id", "sb_best", "sb_low", "sb_count", "os_best", "os_count", "ns_best")
    assert chosen.rows() == [
        (529, 625, 13.0, 11.0, 3, 4.0, 1, 0.0),
        (529, 700, 1.0, 1.0, 1, 0.0, 0, 0.0),
        (530, 625, 1.0, 1.0, 1, 0.0, 0, 0.0),
    ]


def test_a_level_that_is_not_offered_is_refused() -> None:
    with pytest.raises(QuerysetError, match="level cm and pgm, not village"):
        _Events().columns("village")
    with pytest.raises(QuerysetError):
        _Events().panel(pl.LazyFrame(), "village")


def test_absent_means_zero_and_rows_are_known_by_month_and_id() -> None:
    assert _Events().absent_is_zero
    assert tuple(_Events().row_keys) == ("month_id", "id")


def test_a_covered_month_without_any_event_is_an_error() -> None:
    made = to_event_months(events(row()), dating="start")
    require_every_month(made, 529, 529, origin="a.csv")
    with pytest.raises(SourceError, match=r"a.csv has not one event in 2023-12, 2024-02..2024-03"):
        require_every_month(made, 528, 531, origin="a.csv")


def test_panel_agrees_with_the_published_cell_months(shared_data: Path) -> None:
    """World sums by month and type equal those of the same events summed by grid cell, which others computed."""
    cleaned, repairs = clean(
        normalise(pl.read_parquet(shared_data / "conflict/ged_events.parquet"), origin="ged_events")
    )
    assert repairs == {"duplicate_events": 0, "bounds_widened": 1462, "end_before_start": 0, "end_date_missing": 0}
    measures = [f"{violence}_{name}" for violence in ("sb", "ns", "os") for name in ("best", "count")]
    panel = _Events().panel(to_event_months(cleaned, dating="split_by_day").lazy(), "cm")
    mine = panel.group_by("month_id").agg(pl.col(measures).sum().cast(pl.Int64)).sort("month_id").collect()
    theirs = (
        pl.read_parquet(shared_data / "conflict/ged_pgm_sparse.parquet")
        .group_by("month_id")
        .agg(pl.col(f"ged_{name}").cast(pl.Int64).sum().alias(name) for name in measures)
        .sort("month_id")
    )
    assert mine.equals(theirs)
