from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from views_dagster.calendar import from_date, from_key
from views_dagster.conflict.cells import FILE_COLUMNS, PrioGrid
from views_dagster.conflict.countries import Countries
from views_dagster.conflict.demo_cells import DemoCells
from views_dagster.conflict.demo_world import demo_countries
from views_dagster.conflict.successions import SUCCESSIONS
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.geography import CELLS, gid_at, latitude_of, longitude_of
from views_dagster.sources.base import PanelReader

JANUARY = from_key("2024-01")
HEADER = f"gid,gwno,in_views_africa_me,in_priogrid_v2,{','.join(FILE_COLUMNS.values())}"
STATIC = "0.5,10,1000,3,600,120"


def _file(path: Path, *cells: str, header: str = HEADER) -> Path:
    """A table of cells: each is `gid,gwno,in africa_me,in priogrid_v2`."""
    path.write_text("\n".join([header, *(f"{cell},{STATIC}" for cell in cells)]) + "\n")
    return path


def _holders(reader: PanelReader, month: str) -> dict[int, int]:
    frame = reader.read(from_key(month), from_key(month)).frame
    return dict(frame.select("unit_id", "parent_id").iter_rows())


KHARTOUM, JUBA, ASMARA, ADDIS, GROZNY, TBILISI = (
    int(gid_at(*place)) for place in ((15.5, 32.5), (4.85, 31.6), (15.3, 38.9), (9.0, 38.7), (43.3, 45.7), (41.7, 44.8))
)


def test_every_month_has_every_cell_with_its_holder(tmp_path: Path) -> None:
    path = _file(tmp_path / "cells.csv", "151987,626,true,true", "151986,625,true,true", "8,2,false,true")
    frame = PrioGrid(cells=path).read(from_key("2011-06"), from_key("2011-07")).frame
    assert frame.columns == ["month_id", "unit_id", "parent_id", *sorted(FILE_COLUMNS)]
    assert frame.select("month_id", "unit_id", "parent_id").rows() == [
        (378, 151986, 625),
        (378, 151987, 625),
        (379, 151986, 625),
        (379, 151987, 626),
    ]
    first = frame.row(0, named=True)
    assert {name: first[name] for name in FILE_COLUMNS} == {
        "land_share": 0.5,
        "agriculture": 10.0,
        "city_population": 1000.0,
        "cities": 3.0,
        "largest_city_population": 600.0,
        "capital_distance": 120.0,
    }
    assert frame.schema["unit_id"] == frame.schema["parent_id"] == pl.Int64
    assert frame.schema["land_share"] == pl.Float32


def test_what_a_source_of_cells_offers() -> None:
    readers: tuple[PanelReader, ...] = (PrioGrid(), PrioGrid(cells=Path("cells.csv")), DemoCells())
    for reader in readers:
        assert (reader.parent_level, reader.lists_units, reader.absent_is_zero) == ("cm", True, False)
        with pytest.raises(QuerysetError, match="units of level pgm, not cm"):
            reader.columns("cm")
    assert [reader.invented for reader in readers] == [False, False, True]
    assert readers[0].columns("pgm") == readers[1].columns("pgm") == set(FILE_COLUMNS)
    panel = readers[0].panel(readers[0].read(JANUARY, JANUARY).frame.lazy(), "pgm").collect()
    assert panel.columns == ["month_id", "unit_id", *sorted(FILE_COLUMNS)]
    known = {name for name in FILE_COLUMNS if not panel[name].is_null().any()}
    assert known == {"land_share"}, "the embedded table knows the land share alone, and it of every cell"
    assert all(panel[name].is_null().all() for name in set(FILE_COLUMNS) - known)


def test_a_cell_without_a_country_is_its_administrators_or_its_neighbours(tmp_path: Path) -> None:
    """El Aaiun in Western Sahara is in the embedded table; cells 1 and 3 in the Antarctic are not."""
    laayoune = int(gid_at(27.1, -13.2))
    path = _file(tmp_path / "c.csv", f"{laayoune},,1,1", "1,,1,1", "3,,1,1", "5,560,1,1", f"{KHARTOUM},625,1,1")
    months = PrioGrid(cells=path, domain="global").read(JANUARY, JANUARY)
    assert dict(months.frame.select("unit_id", "parent_id").iter_rows()) == {
        1: 560,
        3: 560,
        5: 560,
        laayoune: 600,
        KHARTOUM: 625,
    }
    assert months.repairs == {
        "cells_without_country": 3,
        "edge_cells_given_to_neighbours": 0,
        "values_of_nearest_cell": 0,
    }


def test_cells_of_africa_me_in_a_country_next_to_it_belong_to_the_nearest_inside(tmp_path: Path) -> None:
    path = _file(tmp_path / "c.csv", "100,630,1,1", "101,700,1,1", "90,640,1,1", "102,700,0,1")
    months = PrioGrid(cells=path).read(JANUARY, JANUARY)
    assert dict(months.frame.select("unit_id", "parent_id").iter_rows()) == {90: 640, 100: 630, 101: 630}
    assert months.repairs["edge_cells_given_to_neighbours"] == 1
    assert _holders(PrioGrid(cells=path, domain="global"), "2024-01")[101] == 700


def test_a_list_of_countries_has_their_cells_while_they_hold_them(tmp_path: Path) -> None:
    path = _file(tmp_path / "c.csv", "1,625,1,1", "2,626,1,1", "3,530,1,1", "4,625,1,0")
    both, sudan, south = (PrioGrid(cells=path, domain=ids) for ids in ((625, 626), (625,), (626,)))
    assert _holders(both, "2011-06") == {1: 625, 2: 625}
    assert _holders(both, "2011-07") == {1: 625, 2: 626}
    assert _holders(sudan, "2011-06") == {1: 625, 2: 625}
    assert _holders(sudan, "2011-07") == {1: 625}
    assert _holders(south, "2011-07") == {2: 626}
    with pytest.raises(SourceError, match=r"none of the countries 626 holds a cell in 2011-05\.\.2011-06"):
        south.read(from_key("2011-05"), from_key("2011-07"))
    with pytest.raises(SourceError, match="ever belongs to country 7, 8;"):
        PrioGrid(cells=path, domain=(8, 625, 7)).read(JANUARY, JANUARY)


def test_an_unknown_value_is_that_of_the_nearest_cell(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "\n".join([HEADER, "1,560,1,1,0.5,10,,3,600,120", "3,560,1,1,0.5,10,,3,600,", "9,560,1,1,1,1,7,1,1,9"])
    )
    months = PrioGrid(cells=path).read(JANUARY, JANUARY)
    assert months.frame["city_population"].to_list() == [7, 7, 7]
    assert months.frame["capital_distance"].to_list() == [120, 120, 9]
    assert months.repairs["values_of_nearest_cell"] == 2


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (["259201,2,1,1", "0,2,1,1"], "2 rows have a gid that is no cell .* 259201, 0;"),
        ([",2,1,1"], "1 rows have a gid that is no cell"),
        (["4,2,1,1", "5,2,1,1", "4,20,1,1"], "2 rows that share their gid: 4;"),
        (["4,Sudan,1,1"], "column gwno holds 'Sudan'"),
        (["4,,1,1"], "c.csv: no cell has a country"),
    ],
)
def test_tables_that_cannot_be_right(tmp_path: Path, cells: list[str], problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        PrioGrid(cells=_file(tmp_path / "c.csv", *cells), domain="africa_me").read(JANUARY, JANUARY)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ("7,10,1000,3,600,120", "column land_frac is 7 in cell 151986, and beyond 0 to 1 in 1 cells"),
        ("1,100.1,1000,3,600,120", r"column agri_gc is 100\.1 in cell 151986, and beyond 0 to 100 in 1 cells"),
        ("1,10,-9999,3,600,120", "column city_pop is -9999 in cell 151986, and beyond 0 to inf in 1 cells"),
    ],
)
def test_values_that_cells_cannot_have(tmp_path: Path, values: str, problem: str) -> None:
    path = _file(tmp_path / "cells.csv", "151987,626,true,true")
    path.write_text(f"{path.read_text()}151986,625,true,true,{values}\n")
    with pytest.raises(SourceError, match=problem):
        PrioGrid(cells=path).read(JANUARY, JANUARY)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = _file(tmp_path / "c.csv", "4,2,1,1", header=HEADER.replace("agri_gc", "crops").replace("gwno", "state"))
    with pytest.raises(SourceError, match=r"c\.csv has no column gwno, agri_gc; it has gid, state"):
        PrioGrid(cells=path).read(JANUARY, JANUARY)


def test_the_embedded_table_knows_the_world() -> None:
    reader = PrioGrid(domain="global")
    before, after = _holders(reader, "1990-01"), _holders(reader, "2024-01")
    places = (KHARTOUM, JUBA, ASMARA, ADDIS, GROZNY, TBILISI)
    assert [before[place] for place in places] == [625, 625, 530, 530, 365, 365]
    assert [after[place] for place in places] == [625, 626, 531, 530, 365, 372]
    greenland, nuuk_sea, simferopol = (int(gid_at(*place)) for place in ((70.2, -40.2), (50.0, -40.0), (44.9, 34.1)))
    assert (after[greenland], after[simferopol]) == (390, 369)
    assert nuuk_sea not in after
    shares = reader.read(JANUARY, JANUARY).frame["land_share"]
    assert shares.is_between(0.01, 1).all()
    assert 0.8 < (shares == 1).mean() < 0.85


@pytest.mark.parametrize("states", ["ucdp_country_month.parquet", "gw_states.parquet"])
@pytest.mark.parametrize("embedded", [False, True])
def test_every_holder_is_a_state_of_its_month(shared_data: Path, states: str, embedded: bool) -> None:
    folder = shared_data / "conflict"
    first, last = from_key("1990-01"), from_key("2023-12")
    existing = Countries(states=folder / states, adjacency=folder / "country_adjacency.parquet").read(first, last).frame
    cells = None if embedded else folder / "prio_grid.parquet"
    # A cell for each holder: what is true of one is of all.
    held = PrioGrid(domain="global", cells=cells).read(first, last).frame.select("month_id", "parent_id").unique()
    homeless = held.join(existing, left_on=["month_id", "parent_id"], right_on=["month_id", "unit_id"], how="anti")
    assert homeless.is_empty()


def test_successions_are_dated_as_in_the_list_of_states(shared_data: Path) -> None:
    listed = pl.read_parquet(shared_data / "conflict/gw_states.parquet").select(
        pl.col("gwcode").cast(pl.Int64).alias("state"), pl.col("start").str.to_date().alias("start")
    )
    young = listed.filter(pl.col("start") > pl.date(1990, 1, 31))
    starts = {state: from_date(start) for state, start in young.iter_rows()}
    # Serbia stays 345 at UCDP; Abkhazia and South Ossetia are none of UCDP's states.
    assert starts | {340: 0, 396: 0, 397: 0} == {
        **dict(SUCCESSIONS.select("state", "since").iter_rows()),
        **{340: 0, 396: 0, 397: 0},
    }


@pytest.mark.parametrize(("domain", "cells"), [("africa_me", 13_110), ("global", 64_818)])
def test_the_domains_of_the_real_grid(shared_data: Path, domain: Literal["africa_me", "global"], cells: int) -> None:
    months = PrioGrid(domain=domain, cells=shared_data / "conflict/prio_grid.parquet").read(JANUARY, JANUARY)
    assert months.frame["unit_id"].n_unique() == months.frame.height == cells
    assert months.frame.null_count().sum_horizontal().item() == 0
    assert months.frame["unit_id"].is_between(1, CELLS).all()
    if domain == "africa_me":
        assert months.repairs == {
            "cells_without_country": 122,
            "edge_cells_given_to_neighbours": 54,
            "values_of_nearest_cell": 176,
        }
        assert months.frame["parent_id"].is_between(402, 698).all()


def test_the_embedded_domain_is_nearly_that_of_views(shared_data: Path) -> None:
    """13,003 of the 13,110 cells, and 13 others; of shared ones 99 % lie in the same country."""
    ours = _holders(PrioGrid(), "2024-01")
    theirs = _holders(PrioGrid(cells=shared_data / "conflict/prio_grid.parquet"), "2024-01")
    shared = ours.keys() & theirs.keys()
    assert len(shared) > 0.99 * len(theirs)
    assert len(ours.keys() - theirs.keys()) < 20
    assert sum(ours[cell] == theirs[cell] for cell in shared) > 0.985 * len(shared)


DEMO_DOMAIN = (41, 66, 67, 72, 78, 105, 126)


def test_demo_cells_lie_in_the_countries_of_their_month() -> None:
    first, last = from_key("2019-02"), from_key("2019-03")
    frame = DemoCells().read(first, last).frame
    existing = demo_countries(1).filter(pl.col("month_id").is_between(first, last))
    held = frame.select("month_id", pl.col("parent_id").alias("unit_id")).unique()
    assert set(held.rows()) == set(existing.select("month_id", "unit_id").rows())
    assert not frame.select("month_id", "unit_id").is_duplicated().any()
    assert frame.null_count().sum_horizontal().item() == 0


def test_demo_cells_of_some_countries() -> None:
    first, last = from_key("1990-01"), from_key("2024-01")
    frame = DemoCells(countries=DEMO_DOMAIN).read(first, last).frame
    assert set(frame["parent_id"]) == set(DEMO_DOMAIN)
    assert frame.select("month_id", "unit_id").rows() == sorted(frame.select("month_id", "unit_id").rows())
    by_month = frame.group_by("month_id").agg(pl.len(), pl.col("parent_id").n_unique().alias("countries"))
    counts = dict(zip(by_month["month_id"], zip(by_month["len"], by_month["countries"], strict=True), strict=True))
    # 41 secedes in 1993-05 from a country that is left out; 67 and 105 unite in 126 in 2019-03.
    assert counts[from_key("1993-04")] == (815, 5)
    assert counts[from_key("1993-05")] == (1155, 6)
    assert counts[from_key("2019-02")] == (1155, 6)
    assert counts[from_key("2019-03")] == (1155, 5)
    with pytest.raises(SourceError, match="has no country 127, 500;"):
        DemoCells(countries=(1, 500, 127)).read(first, last)
    with pytest.raises(SourceError, match="none of 126 exists"):
        DemoCells(countries=(126,)).read(first, last)


def test_what_the_demo_map_knows_of_cells() -> None:
    frame = DemoCells().read(JANUARY, JANUARY).frame
    capitals = frame.filter(pl.col("capital_distance") == 0)
    assert capitals.height == 124
    assert capitals["city_population"].min() > 0
    assert frame["land_share"].is_between(0.2, 1).all()
    assert frame["land_share"].n_unique() == 8
    two: list[dict[str, Any]] = frame.filter(pl.col("parent_id") == 66).sort("capital_distance").head(2).to_dicts()
    here, there = two
    degrees = abs(longitude_of(here["unit_id"]) - longitude_of(there["unit_id"])) + abs(
        latitude_of(here["unit_id"]) - latitude_of(there["unit_id"])
    )
    assert degrees == 0.5
    assert 20 < there["capital_distance"] < 56
