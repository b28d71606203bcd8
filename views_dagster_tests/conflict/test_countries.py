from pathlib import Path
from typing import Any

import polars as pl
import pytest

from views_dagster.calendar import from_key
from views_dagster.conflict.countries import COUNTRY_SCHEMA, Countries
from views_dagster.conflict.ucdp_files import UcdpFiles
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.panel import KEYS

JANUARY = from_key("2024-01")


def _csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def adjacency(tmp_path: Path) -> Path:
    """1-2 given once, 2-3 in both orders, 3 with itself, and a pair without a number."""
    return _csv(tmp_path / "adjacency.csv", "gwno_a,gwno_b", "1,2", "2,3", "3,2", "3,3", "3,")


@pytest.fixture
def country_months(tmp_path: Path, adjacency: Path) -> Countries:
    rows = ["1,Aland,528", "2,Bland,528", "3,Cland,528", "4,Dland,528", "1,Aland,529", "3,Cland,529"]
    return Countries(states=_csv(tmp_path / "states.csv", "gwno,country,month_id", *rows), adjacency=adjacency)


def test_neighbours_are_symmetric_and_only_those_that_exist(country_months: Countries) -> None:
    months = country_months.read(528, 529)
    assert dict(months.frame.schema) == dict(COUNTRY_SCHEMA)
    assert months.frame.select("month_id", "unit_id", "name", "neighbours").rows() == [
        (528, 1, "Aland", [2]),
        (528, 2, "Bland", [1, 3]),
        (528, 3, "Cland", [2]),
        (528, 4, "Dland", []),
        (529, 1, "Aland", []),
        (529, 3, "Cland", []),
    ]
    assert months.repairs == {"pairs_without_number": 1}
    assert sorted(months.provenance) == ["adjacency.csv", "states.csv"]
    assert country_months.latest_month() == 529


def test_states_offer_units_and_no_feature(country_months: Countries) -> None:
    assert country_months.columns("cm") == frozenset()
    raw = country_months.read(529, 529).frame.lazy()
    assert country_months.panel(raw, "cm").collect().rows() == [(529, 1), (529, 3)]
    with pytest.raises(QuerysetError, match="level cm, not pgm"):
        country_months.columns("pgm")


def test_a_list_of_states_exists_in_every_month_that_its_dates_touch(tmp_path: Path, adjacency: Path) -> None:
    path = _csv(
        tmp_path / "list.csv",
        "gwcode,country_name,start,end",
        "1,Aland,1816-01-01,9999-12-31",
        "2,Bland,1816-01-01,2023-12-01",
        "3,Cland,2024-01-31,",
        "4,Dland,1816-01-01,2023-11-30",
        "345,Eland,1918-12-01,2024-01-04",
        "340,Fland,2024-01-05,9999-12-31",
    )
    reader = Countries(states=path, adjacency=adjacency)
    assert reader.read(528, 530).frame.select("month_id", "unit_id", "name").rows() == [
        (528, 1, "Aland"),
        (528, 2, "Bland"),
        (528, 345, "Eland"),
        (529, 1, "Aland"),
        (529, 3, "Cland"),
        (529, 345, "Fland"),
        (530, 1, "Aland"),
        (530, 3, "Cland"),
        (530, 345, "Fland"),
    ]
    assert reader.latest_month() is None


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["gwno,country,month_id", "1,Aland,528"], "has no state in 2024-01"),
        (["gwno,country,month_id", "1,Aland,529", "1,Aland,529"], "state 1 more than once in 2024-01"),
        (["gwno,country,month_id", ",Aland,529"], "column gwno is empty in 1 rows"),
        (["gwno,country,month_id", "PER,Aland,529"], "column gwno holds 'PER'"),
        (["gwno,country", "1,Aland"], "expected a country-month table"),
        (["gwcode,country_name,start,end", "1,Aland,,2030-01-01"], "column start is empty"),
        (["gwcode,country_name,start,end", "1,Aland,2024-02-01,2024-01-01"], "state 1 ends before it starts"),
        (["gwcode,country_name,start,end", "1,Aland,1.1.1990,2024-01-01"], "column start holds '1.1.1990'"),
        (["gwno,country,month_id"], "has no rows"),
    ],
)
def test_states_that_cannot_be_right(tmp_path: Path, adjacency: Path, lines: list[str], problem: str) -> None:
    reader = Countries(states=_csv(tmp_path / "states.csv", *lines), adjacency=adjacency)
    with pytest.raises(SourceError, match=problem):
        reader.read(JANUARY, JANUARY)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["gwno_a,gwno_b", "1,", ",2"], "holds no pair of states"),
        (["a,b", "1,2"], "none of the expected columns"),
        (["gwno_a,gwno_b", "1,Peru"], "column gwno_b holds 'Peru'"),
    ],
)
def test_adjacencies_that_cannot_be_right(tmp_path: Path, lines: list[str], problem: str) -> None:
    states = _csv(tmp_path / "states.csv", "gwno,country,month_id", "1,Aland,529")
    with pytest.raises(SourceError, match=problem):
        Countries(states=states, adjacency=_csv(tmp_path / "adjacency.csv", *lines)).read(JANUARY, JANUARY)


@pytest.mark.parametrize("states", ["ucdp_country_month.parquet", "gw_states.parquet"])
def test_real_states_appear_and_vanish(shared_data: Path, states: str) -> None:
    reader = Countries(
        states=shared_data / "conflict" / states, adjacency=shared_data / "conflict/country_adjacency.parquet"
    )
    frame = reader.read(from_key("1990-01"), from_key("2023-12")).frame

    def neighbours(unit: int, month: str) -> Any:
        rows = frame.filter((pl.col("unit_id") == unit) & (pl.col("month_id") == from_key(month)))["neighbours"]
        return rows[0].to_list() if len(rows) else None

    uganda, sudan, south_sudan, iceland, east_germany, serbia, montenegro = 500, 625, 626, 395, 265, 345, 341
    assert neighbours(south_sudan, "2010-12") is None
    assert south_sudan not in neighbours(sudan, "2010-12")
    assert south_sudan in neighbours(sudan, "2012-01")
    assert uganda in neighbours(south_sudan, "2012-01")
    assert neighbours(iceland, "2000-01") == []
    assert neighbours(east_germany, "1990-01") is not None
    assert neighbours(east_germany, "1992-01") is None
    assert montenegro in neighbours(serbia, "2023-12")
    pairs = frame.explode("neighbours", empty_as_null=False).select("month_id", "unit_id", "neighbours").drop_nulls()
    mirrored = pairs.select("month_id", pl.col("neighbours").alias("unit_id"), pl.col("unit_id").alias("neighbours"))
    assert pairs.join(mirrored, on=pairs.columns, how="anti").is_empty()
    assert mirrored.join(frame, on=KEYS, how="anti").is_empty()


def test_every_real_event_happens_in_a_state(shared_data: Path) -> None:
    folder = shared_data / "conflict"
    first, last = from_key("1990-01"), from_key("2020-12")
    reader = UcdpFiles(annual=folder / "ged_events.parquet")
    panel = reader.panel(reader.read(first, last).frame.lazy(), "cm").collect()
    for states in ("ucdp_country_month.parquet", "gw_states.parquet"):
        known = Countries(states=folder / states, adjacency=folder / "country_adjacency.parquet").read(first, last)
        assert panel.join(known.frame, on=KEYS, how="anti").is_empty()
