from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from views_dagster.calendar import from_key, year_month
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.sources.tables import MonthTable, YearTable

JANUARY, FEBRUARY = from_key("2024-01"), from_key("2024-02")


def _months(folder: Path, *rows: tuple[Any, ...]) -> Path:
    path = folder / "months.parquet"
    pl.DataFrame(rows, schema=["unit", "month_id", "deaths", "rain"], orient="row", strict=False).write_parquet(path)
    return path


def _month_table(path: Path, **settings: Any) -> MonthTable:
    defaults = {"path": path, "level": "cm", "unit": "unit", "month_id": "month_id", "columns": {"sb": "deaths"}}
    return MonthTable.model_validate(defaults | settings)


def _year_table(path: Path, **settings: Any) -> YearTable:
    defaults = {"path": path, "level": "cm", "unit": "unit", "columns": {"gdp": "gdp"}, "publication_lag": 12}
    return YearTable.model_validate(defaults | settings)


def test_month_table_by_hand(tmp_path: Path) -> None:
    path = _months(
        tmp_path, (2, JANUARY, 4, 0.5), (1, JANUARY, None, 1.5), (1, FEBRUARY, 3, 2.5), (None, JANUARY, 9, 9.0)
    )
    reader = _month_table(path, columns={"sb": "deaths", "wet": "rain"})
    months = reader.read(JANUARY, JANUARY)
    assert dict(months.frame.schema) == {
        "month_id": pl.Int32,
        "unit_id": pl.Int64,
        "sb": pl.Float64,
        "wet": pl.Float64,
    }
    assert months.frame.rows() == [(JANUARY, 1, None, 1.5), (JANUARY, 2, 4.0, 0.5)]
    assert months.repairs == {"rows_without_unit": 1}
    assert list(months.provenance) == ["months.parquet"]
    assert reader.columns("cm") == {"sb", "wet"}
    assert not reader.absent_is_zero
    assert reader.panel(months.frame.lazy(), "cm").collect().equals(months.frame)
    assert reader.latest_month() == FEBRUARY


def test_months_from_year_and_month_columns(tmp_path: Path) -> None:
    path = tmp_path / "months.csv"
    path.write_text('unit,y,m,deaths,text\n1,2024,1,3,"a, b"\n1,2024,2.0,,"two\nlines"\n')
    reader = _month_table(path, month_id=None, year="y", month="m")
    assert reader.read(JANUARY, FEBRUARY).frame.rows() == [(JANUARY, 1, 3.0), (FEBRUARY, 1, None)]
    assert reader.latest_month() == JANUARY


def test_a_month_that_is_not_in_the_file_is_named(tmp_path: Path) -> None:
    path = _months(tmp_path, (1, JANUARY, 1, 1.0), (1, FEBRUARY + 1, 1, 1.0), (None, FEBRUARY, 1, 1.0))
    with pytest.raises(SourceError, match=r"months.parquet has no row for 2023-12, 2024-02, only for"):
        _month_table(path).read(JANUARY - 1, FEBRUARY + 1)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ((1, JANUARY, 5, 1.0), r"2 rows that share their unit and month_id, first unit 1 in 2024-01"),
        (("Peru", JANUARY, 5, 1.0), r"column unit holds 'Peru'"),
        ((2, None, 5, 1.0), r"column month_id is empty in 1 rows"),
        ((2, "2024-01", 5, 1.0), r"column month_id holds '2024-01'"),
        ((2, JANUARY, "many", 1.0), r"column deaths holds 'many'"),
        ((2, JANUARY, float("inf"), 1.0), r"column deaths holds (inf|'inf')"),
        ((2, JANUARY, -1, 1.0), r"column deaths is negative in 1 rows, first -1.0 for unit 2"),
    ],
)
def test_month_tables_that_cannot_be_right(tmp_path: Path, row: tuple[Any, ...], problem: str) -> None:
    path = tmp_path / "months.csv"
    columns = ["unit", "month_id", "deaths", "rain"]
    rows = [(1, JANUARY, 1, 1.0), row]
    pl.DataFrame([[str(v) if v is not None else None for v in r] for r in rows], columns, orient="row").write_csv(path)
    with pytest.raises(SourceError, match=problem):
        _month_table(path, non_negative=["sb"]).read(JANUARY, JANUARY)


def test_negative_values_are_allowed_where_nobody_says_otherwise(tmp_path: Path) -> None:
    path = _months(tmp_path, (1, JANUARY, -1, 1.0))
    assert _month_table(path).read(JANUARY, JANUARY).frame["sb"].to_list() == [-1.0]


def test_a_missing_column_or_file_or_an_empty_one_is_named(tmp_path: Path) -> None:
    path = _months(tmp_path, (1, JANUARY, 1, 1.0))
    with pytest.raises(SourceError, match=r"has no column snow; it has unit, month_id, deaths, rain"):
        _month_table(path, columns={"white": "snow"}).read(JANUARY, JANUARY)
    with pytest.raises(SourceError, match="there is no file"):
        _month_table(tmp_path / "absent.csv").read(JANUARY, JANUARY)
    with pytest.raises(SourceError, match="has no rows"):
        _month_table(_months(tmp_path)).read(JANUARY, JANUARY)


def test_a_month_outside_the_year_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "months.csv"
    path.write_text("unit,y,m,deaths\n1,2024,13,3\n")
    with pytest.raises(SourceError, match=r"column m holds 13; expected a month 1..12"):
        _month_table(path, month_id=None, year="y", month="m").read(JANUARY, JANUARY)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"month_id": None}, "either month_id, or year and month"),
        ({"year": "year"}, "either month_id, or year and month"),
        ({"columns": {}}, "at least 1"),
        ({"columns": {"unit_id": "deaths"}}, "may not be named unit_id"),
        ({"non_negative": ["ns"]}, "non_negative names ns, columns sb"),
        ({"colums": {}}, "Extra inputs"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        _month_table(Path("months.csv"), **settings)


def test_another_level_is_refused() -> None:
    with pytest.raises(QuerysetError, match="level cm, not pgm"):
        _month_table(Path("months.csv")).columns("pgm")


def _years(folder: Path, *rows: tuple[int | None, int, float | None]) -> Path:
    path = folder / "years.parquet"
    pl.DataFrame(rows, schema=["unit", "year", "gdp"], orient="row").write_parquet(path)
    return path


def test_year_table_by_hand(tmp_path: Path) -> None:
    """With a lag of 3 months the values of 2022 are first seen in March 2023, those of 2023 in March 2024."""
    path = _years(tmp_path, (1, 2022, 10.0), (1, 2023, 11.0), (2, 2022, 20.0), (3, 2023, None), (None, 2022, 99.0))
    months = _year_table(path, publication_lag=3).read(from_key("2024-02"), from_key("2024-03"))
    february, march = from_key("2024-02"), from_key("2024-03")
    assert months.frame.rows() == [
        (february, 1, 10.0),
        (february, 2, 20.0),
        (february, 3, None),
        (march, 1, 11.0),
        (march, 2, None),
        (march, 3, None),
    ]
    assert months.repairs == {"rows_without_unit": 1, "rows_without_year": 2}


def test_months_before_the_first_and_after_the_last_year_have_rows_without_values(tmp_path: Path) -> None:
    path = _years(tmp_path, (1, 2020, 1.0), (2, 2020, 2.0))
    reader = _year_table(path, publication_lag=12)
    assert reader.read(from_key("2021-11"), from_key("2021-12")).frame["gdp"].to_list() == [None, None, 1.0, 2.0]
    assert reader.read(from_key("2022-11"), from_key("2022-12")).frame["gdp"].to_list() == [1.0, 2.0, None, None]
    assert reader.latest_month() is None


@pytest.mark.parametrize(
    ("lag", "month", "year"),
    [(0, "2020-12", 2020), (0, "2021-11", 2020), (1, "2020-12", 2019), (1, "2021-01", 2020), (12, "2021-12", 2020),
     (18, "2022-05", 2019), (18, "2022-06", 2020)],
)  # fmt: skip
def test_newest_published_year(lag: int, month: str, year: int) -> None:
    assert _year_table(Path("years.csv"), publication_lag=lag).newest_year(from_key(month)) == year


@settings(max_examples=25, deadline=None)
@given(lag=st.integers(0, 40), month_id=st.integers(from_key("1995-01"), from_key("2020-12")))
def test_no_month_sees_a_value_that_was_not_published(
    tmp_path_factory: pytest.TempPathFactory, lag: int, month_id: int
) -> None:
    """Whatever is put into years that end fewer than `lag` months before, the month's rows stay the same."""
    folder = tmp_path_factory.mktemp("years")
    year, month = year_month(month_id)

    def unpublished(reference_year: int) -> bool:
        return (year - reference_year) * 12 + month - 12 < lag

    clean = [(unit, y, float(unit * 10_000 + y)) for unit in (1, 2) for y in range(1985, 2025)]
    poisoned = [(unit, y, -1e9 if unpublished(y) else value) for unit, y, value in clean]
    truth = _year_table(_years(folder, *clean), publication_lag=lag).read(month_id, month_id).frame
    seen = _year_table(_years(folder, *poisoned), publication_lag=lag).read(month_id, month_id).frame
    assert seen.equals(truth)
    newest = max(y for y in range(1985, 2025) if not unpublished(y))
    assert truth["gdp"].to_list() == [10_000.0 + newest, 20_000.0 + newest]


def test_year_tables_that_cannot_be_right(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="2 rows that share their unit and year, first unit 1 in 2020"):
        _year_table(_years(tmp_path, (1, 2020, 1.0), (1, 2020, 2.0))).read(JANUARY, JANUARY)
    with pytest.raises(SourceError, match="column unit is empty in every row"):
        _year_table(_years(tmp_path, (None, 2020, 1.0))).read(JANUARY, JANUARY)
    with pytest.raises(ValidationError, match="publication_lag"):
        _year_table(Path("years.csv"), publication_lag=-1)


def test_real_country_months(shared_data: Path) -> None:
    path = shared_data / "conflict/ucdp_country_month.parquet"
    reader = _month_table(
        path, unit="gwno", columns={"sb_best": "ged_sb_best", "ns_best": "ged_ns_best_1m"}, non_negative=["sb_best"]
    )
    months = reader.read(from_key("1990-01"), from_key("2023-12"))
    published = pl.read_parquet(path).filter(pl.col("month_id").is_between(from_key("1990-01"), from_key("2023-12")))
    assert months.frame.height == published.height
    assert months.frame["sb_best"].sum() == published["ged_sb_best"].sum()
    assert months.frame["ns_best"].null_count() == published["ged_ns_best_1m"].null_count() == 24


def test_real_covariates_are_those_of_the_year_before_last(shared_data: Path) -> None:
    """A lag of 24 months: December 2015 to November 2016 hold the values of 2013."""
    path = shared_data / "conflict/country_year_covariates.parquet"
    published = pl.read_parquet(path)
    columns = {"population": "wdi_sp_pop_totl", "infant_mortality": "wdi_sp_dyn_imrt_in"}
    reader = _year_table(path, unit="gwno", columns=columns, publication_lag=24)
    months = reader.read(from_key("2015-12"), from_key("2016-11"))
    nigeria = published.filter((pl.col("gwno") == 475) & (pl.col("year") == 2013)).select(columns.values()).row(0)
    seen = months.frame.filter(pl.col("unit_id") == 475).select(columns.keys()).unique().rows()
    assert seen == [tuple(map(float, nigeria))]
    assert months.repairs["rows_without_unit"] == published["gwno"].null_count() > 0


def test_real_democracy_scores(shared_data: Path) -> None:
    path = shared_data / "conflict/country_year_vdem.parquet"
    reader = _year_table(path, unit="gwno", columns={"polyarchy": "v2x_polyarchy_isard"}, publication_lag=4)
    frame = reader.read(from_key("2020-03"), from_key("2020-04")).frame.filter(pl.col("unit_id") == 700)
    scores = pl.read_parquet(path).filter((pl.col("gwno") == 700) & pl.col("year").is_in([2018, 2019])).sort("year")
    assert frame["polyarchy"].to_list() == scores["v2x_polyarchy_isard"].cast(pl.Float64).to_list()
