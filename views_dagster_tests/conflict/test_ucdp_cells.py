from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from views_dagster.calendar import from_key
from views_dagster.conflict.cells import PrioGrid
from views_dagster.conflict.ucdp_cells import place_events
from views_dagster.conflict.ucdp_events import DEATHS, EVENT_MONTH_SCHEMA, VIOLENCE, normalise, to_event_months
from views_dagster.conflict.ucdp_files import UcdpFiles
from views_dagster.errors import GeographyError
from views_dagster.geography import gid_of, latitude_of, longitude_of

SOUTH, WEST, SIDE = 100, 300, 7
LEFT, RIGHT, TINY, ELSEWHERE = 10, 20, 30, 99
MONTH = 500


def gid(row: int, column: int) -> int:
    """Cell of the test land by its position, from its south-west corner (0, 0)."""
    return int(gid_of(SOUTH + row, WEST + column))


def holder(row: int, column: int, month: int = MONTH) -> int | None:
    """Columns 0..2 are `LEFT`, 4..6 `RIGHT`, 3 sea but for the one cell of `TINY`; row 6 of `RIGHT` joins in `MONTH`."""
    if column == 3:
        return TINY if row == 3 else None
    if column > 3:
        return RIGHT if row < 6 or month >= MONTH else LEFT
    return LEFT


def land(months: Sequence[int] = (MONTH,)) -> pl.DataFrame:
    rows = [
        (month, gid(row, column), parent)
        for month in months
        for row in range(SIDE)
        for column in range(SIDE)
        if (parent := holder(row, column, month)) is not None
    ]
    return pl.DataFrame(rows, schema={"month_id": pl.Int32, "unit_id": pl.Int64, "parent_id": pl.Int64}, orient="row")


def event(row: int, column: int, **changes: Any) -> dict[str, Any]:
    """A state-based event of best 4 (2 to 8) with its coordinates in a cell of the test land, in `LEFT`."""
    cell = gid(row, column)
    return {
        "month_id": MONTH,
        "type_of_violence": 1,
        "country_id": LEFT,
        "where_prec": 1,
        "latitude": float(latitude_of(cell)),
        "longitude": float(longitude_of(cell)),
        "priogrid_gid": cell,
        "best": 4.0,
        "low": 2.0,
        "high": 8.0,
        **changes,
    }


def months_of(*events: dict[str, Any]) -> pl.LazyFrame:
    schema = {name: EVENT_MONTH_SCHEMA[name] for name in event(0, 0)}
    return pl.LazyFrame(list(events), schema=schema)


def placed(*events: dict[str, Any], column: str = "sb_best", month: int = MONTH) -> dict[int, float]:
    months = sorted({MONTH, month})
    cells = place_events(months_of(*events), land(months).lazy()).cells
    there = cells.filter((pl.col("month_id") == month) & (pl.col(column) > 0))
    return dict(zip(there["unit_id"], there[column], strict=True))


@pytest.mark.parametrize("precision", [1, 2, 3, None])
def test_a_located_event_lies_in_its_cell(precision: int | None) -> None:
    one = event(2, 1, where_prec=precision)
    assert placed(one) == placed(one, column="sb_located") == {gid(2, 1): 4.0}
    assert placed(one, column="sb_low") == {gid(2, 1): 2.0}
    assert placed(one, column="sb_high") == {gid(2, 1): 8.0}
    assert placed(one, column="sb_count") == {gid(2, 1): 1}
    assert placed({**one, "type_of_violence": 3}, column="os_best") == {gid(2, 1): 4.0}


def test_a_located_event_lies_in_its_cell_whoever_holds_it() -> None:
    assert placed(event(2, 5)) == {gid(2, 5): 4.0}


def test_coordinates_win_over_a_given_cell() -> None:
    there = place_events(months_of(event(2, 1, priogrid_gid=gid(0, 0)), event(2, 1)), land().lazy())
    assert there.cells["unit_id"].to_list() == [gid(2, 1)]
    assert there.summary["events_with_another_gid"] == 1


def test_a_given_cell_stands_in_for_coordinates() -> None:
    assert placed(event(2, 1, latitude=None, longitude=None)) == {gid(2, 1): 4.0}
    with pytest.raises(GeographyError, match="259201"):
        placed(event(2, 1, latitude=None, longitude=None, priogrid_gid=259201))


def test_a_located_event_at_sea_lies_in_the_nearest_cell_of_its_country() -> None:
    assert placed(event(2, 3)) == {gid(2, 2): 4.0}
    assert placed(event(2, 3, country_id=RIGHT)) == {gid(2, 4): 4.0}
    assert placed(event(1, 3, country_id=TINY)) == {gid(3, 3): 4.0}
    done = place_events(months_of(event(0, 3, country_id=TINY), event(2, 3)), land().lazy())
    assert done.summary == {
        "events": 2,
        "deaths": 8.0,
        "deaths_placed_exactly": 4.0,
        "deaths_spread": 0.0,
        "deaths_outside_domain": 4.0,
        "events_moved_to_nearest_cell": 1,
        "events_with_another_gid": 0,
    }


@pytest.mark.parametrize("precision", [4, 5, 7])
def test_an_event_of_a_region_is_spread_around_its_point(precision: int) -> None:
    nearby = [gid(row, column) for row in range(3) for column in range(3)]
    assert placed(event(0, 0, where_prec=precision)) == pytest.approx(dict.fromkeys(nearby, 4 / 9), abs=2e-6)
    assert placed(event(0, 0, where_prec=precision), column="sb_located") == {}
    assert placed(event(0, 0, where_prec=precision), column="sb_count") == {}


def test_a_region_does_not_reach_across_the_border() -> None:
    right = [gid(row, column) for row in range(5) for column in (4,)]
    there = placed(event(2, 2, where_prec=4, country_id=RIGHT))
    assert there == pytest.approx(dict.fromkeys(right, 0.8), abs=2e-6)


def everywhere(country: int, month: int = MONTH) -> list[int]:
    return [gid(row, column) for row in range(SIDE) for column in range(SIDE) if holder(row, column, month) == country]


def test_an_event_of_a_country_without_memory_is_spread_evenly() -> None:
    assert placed(event(0, 0, where_prec=6)) == pytest.approx(dict.fromkeys(everywhere(LEFT), 4 / 21), abs=2e-6)


def test_a_region_with_fewer_than_two_cells_in_reach_is_the_country() -> None:
    far = event(6, 6, where_prec=4)
    assert placed(far) == pytest.approx(dict.fromkeys(everywhere(LEFT), 4 / 21), abs=2e-6)


def test_an_event_of_a_country_follows_the_memory_of_its_type() -> None:
    located = [event(6, 0, month_id=MONTH - 11, best=6.0), event(0, 0, month_id=MONTH - 12), event(2, 1, best=3.0)]
    other_type = event(0, 2, type_of_violence=2, best=50.0)
    unlocated = event(3, 1, where_prec=6, best=9.0, low=9.0, high=9.0)
    south_west = {gid(row, column): 6 / 4 for row in (5, 6) for column in (0, 1)}
    block = {gid(row, column): 3 / 9 for row in (1, 2, 3) for column in (0, 1, 2)}
    expected = {**south_west, **block}
    expected[gid(2, 1)] += 3.0
    there = placed(*located, other_type, unlocated, month=MONTH)
    assert there == pytest.approx(expected, abs=2e-6)


def test_a_memory_of_one_cell_is_none() -> None:
    lonely = [event(3, 3, country_id=TINY, where_prec=1), event(3, 3, country_id=TINY, where_prec=6)]
    assert placed(*lonely) == {gid(3, 3): 8.0}
    assert place_events(months_of(*lonely), land().lazy()).summary["deaths_spread"] == 4.0


def test_who_the_country_is() -> None:
    unknown = event(0, 5, country_id=ELSEWHERE, where_prec=6)
    assert placed(unknown) == pytest.approx(dict.fromkeys(everywhere(RIGHT), 4 / 21), abs=2e-6)
    assert placed(event(0, 3, country_id=ELSEWHERE, where_prec=6)) == {}
    assert placed(event(0, 3, country_id=ELSEWHERE, where_prec=7)) == {}
    assert placed(event(0, 0, latitude=None, longitude=None, priogrid_gid=None)) == pytest.approx(
        dict.fromkeys(everywhere(LEFT), 4 / 21), abs=2e-6
    )


def test_land_that_changed_hands_is_remembered_by_its_holder_of_the_month() -> None:
    """Row 6 of the right was `LEFT` until `MONTH`: what happened there is no memory of `LEFT` any more."""
    before = event(6, 5, month_id=MONTH - 1, best=7.0)
    assert placed(before, event(0, 0, where_prec=6)) == pytest.approx(dict.fromkeys(everywhere(LEFT), 4 / 21), abs=2e-6)
    now = placed(before, event(0, 5, country_id=RIGHT, where_prec=6))
    assert set(now) == {gid(row, column) for row in (5, 6) for column in (4, 5, 6)}
    then = placed(event(0, 0, month_id=MONTH - 1, where_prec=6), month=MONTH - 1)
    assert set(then) == set(everywhere(LEFT, MONTH - 1)) != set(everywhere(LEFT))


def test_no_events_are_no_cells() -> None:
    done = place_events(months_of(), land().lazy())
    assert done.cells.height == 0
    assert set(done.summary.values()) == {0}


FIELDS = st.fixed_dictionaries(
    {
        "month_id": st.integers(MONTH - 14, MONTH + 1),
        "type_of_violence": st.sampled_from([1, 2]),
        "country_id": st.sampled_from([LEFT, RIGHT, TINY, ELSEWHERE]),
        "where_prec": st.sampled_from([1, 2, 3, 4, 5, 6, 7, None]),
        "low": st.integers(0, 5).map(float),
        "more": st.tuples(st.integers(0, 900), st.integers(0, 30)),
        "place": st.tuples(st.integers(0, SIDE), st.integers(0, SIDE)),
    }
)


def made(fields: dict[str, Any]) -> dict[str, Any]:
    (best, high), place = fields["more"], fields["place"]
    low = fields["low"]
    rest = {name: value for name, value in fields.items() if name not in ("more", "place", "low")}
    return event(*place, low=low, best=low + best, high=low + best + high, **rest)


EVENTS = st.lists(FIELDS.map(made), max_size=25)
ALL_MONTHS = range(MONTH - 2, MONTH + 2)


def slowly(events: list[dict[str, Any]]) -> dict[tuple[int, int, int], Fraction]:
    """Best estimates by month, cell and type as the rules say, event by event and exact."""
    where = {gid(row, column): (row, column) for row in range(-2, SIDE + 3) for column in range(-2, SIDE + 3)}
    total: dict[tuple[int, int, int], Fraction] = defaultdict(Fraction)

    def held(cell: int, month: int) -> int | None:
        row, column = where[cell]
        return holder(row, column, month) if 0 <= row < SIDE and 0 <= column < SIDE else None

    def around(cell: int, month: int, country: int | None, reach: int) -> list[int]:
        row, column = where[cell]
        near = [(r, c) for r in range(row - reach, row + reach + 1) for c in range(column - reach, column + reach + 1)]
        near.sort(key=lambda at: ((at[0] - row) ** 2 + (at[1] - column) ** 2, at))
        return [gid(*at) for at in near if at in where.values() and held(gid(*at), month) == country]

    for one in events:
        month, cell, kind = one["month_id"], one["priogrid_gid"], one["type_of_violence"]
        if month not in ALL_MONTHS:
            continue
        best, located = Fraction(one["best"]), one["where_prec"] in (1, 2, 3, None)
        if located and held(cell, month) is not None:
            total[month, cell, kind] += best
            continue
        exists = {holder(row, column, month) for row in range(SIDE) for column in range(SIDE)} - {None}
        country = one["country_id"] if one["country_id"] in exists else None
        if located:
            if country is not None and (near := around(cell, month, country, 2)):
                total[month, near[0], kind] += best
            continue
        country = country or held(cell, month)
        if country is None:
            continue
        near = around(cell, month, country, 2)
        if one["where_prec"] in (4, 5, 7) and len(near) > 1:
            weights = dict.fromkeys(near, Fraction(1))
        else:
            weights = defaultdict(Fraction)
            for other in events:
                if (
                    other["where_prec"] in (1, 2, 3, None)
                    and 0 <= month - other["month_id"] < 12
                    and other["type_of_violence"] == kind
                    and other["best"] > 0
                    and (held(other["priogrid_gid"], month) or other["country_id"]) == country
                ):
                    block = around(other["priogrid_gid"], month, country, 1)
                    for one_cell in block:
                        weights[one_cell] += Fraction(other["best"]) / len(block)
            if len(weights) < 2:
                weights = dict.fromkeys(everywhere(country, month), Fraction(1))
        for one_cell, weight in weights.items():
            total[month, one_cell, kind] += best * weight / sum(weights.values())
    return {key: value for key, value in total.items() if value}


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_events_are_placed_as_the_rules_say(events: list[dict[str, Any]]) -> None:
    cells = place_events(months_of(*events), land(ALL_MONTHS).lazy()).cells
    found = {
        (row["month_id"], row["unit_id"], kind): row[f"{violence}_best"]
        for row in cells.iter_rows(named=True)
        for violence, kind in VIOLENCE.items()
        if row[f"{violence}_best"]
    }
    expected = slowly(events)
    assert found == pytest.approx({key: float(value) for key, value in expected.items()}, abs=len(events) * 2e-6)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_every_death_is_kept_and_in_order(events: list[dict[str, Any]]) -> None:
    units = land(ALL_MONTHS)
    done = place_events(months_of(*events), units.lazy())
    cells, summary = done.cells, done.summary
    placed_deaths = sum(float(cells[f"{violence}_best"].sum()) for violence in VIOLENCE)
    assert summary["deaths"] == sum(one["best"] for one in events if one["month_id"] in ALL_MONTHS)
    assert summary["deaths"] == placed_deaths + summary["deaths_outside_domain"]
    assert placed_deaths == summary["deaths_placed_exactly"] + summary["deaths_spread"]
    for violence in VIOLENCE:
        best, low, high, located = (cells[f"{violence}_{name}"] for name in (*DEATHS, "located"))
        assert ((low >= 0) & (low <= best) & (best <= high) & (located <= best)).all()
    assert cells.join(units, on=["month_id", "unit_id"], how="anti").is_empty()


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_unlocated_events_stay_in_their_country_and_never_on_one_cell(events: list[dict[str, Any]]) -> None:
    chosen = [one for one in events if one["where_prec"] in (4, 5, 6, 7) and one["country_id"] != ELSEWHERE]
    cells = place_events(months_of(*chosen), land(ALL_MONTHS).lazy()).cells
    parents = cells.join(land(ALL_MONTHS), on=["month_id", "unit_id"])
    for violence, kind in VIOLENCE.items():
        for name in DEATHS:
            sums = parents.group_by("month_id", "parent_id").agg(pl.col(f"{violence}_{name}").sum())
            expected: dict[tuple[int, int], float] = defaultdict(float)
            for one in chosen:
                if one["type_of_violence"] == kind and one["month_id"] in ALL_MONTHS:
                    expected[one["month_id"], one["country_id"]] += one[name]
            found = {(month, country): value for month, country, value in sums.iter_rows() if value}
            assert found == {key: value for key, value in expected.items() if value}
        spread = parents.filter((pl.col("parent_id") != TINY) & (pl.col(f"{violence}_best") > 1e-3))
        assert (spread.group_by("month_id", "parent_id").len()["len"] > 1).all()


@settings(max_examples=40, deadline=None)
@given(EVENTS, EVENTS)
def test_a_month_depends_on_nothing_later_and_not_on_which_months_are_asked(
    events: list[dict[str, Any]], others: list[dict[str, Any]]
) -> None:
    later = [{**one, "month_id": MONTH + 1} for one in others]
    alone = place_events(months_of(*(e for e in events if e["month_id"] <= MONTH)), land([MONTH]).lazy()).cells
    among = place_events(months_of(*reversed([*events, *later])), land(ALL_MONTHS).lazy()).cells
    assert alone.equals(among.filter(pl.col("month_id") == MONTH))


@pytest.mark.parametrize("domain", ["africa_me", "global"])
def test_real_events_lie_where_they_were_summed_before(shared_data: Path, domain: Any) -> None:
    folder = shared_data / "conflict"
    first, last = from_key("2014-01"), from_key("2015-12")
    units = PrioGrid(domain=domain, cells=folder / "prio_grid.parquet").read(first, last).frame
    reader = UcdpFiles(annual=folder / "ged_events.parquet", dating="start")
    cells = reader.panel(reader.read(first, last).frame.lazy(), "pgm", units.lazy()).collect()
    assert set(cells.columns) == {"month_id", "unit_id", *reader.columns("pgm")}
    published = (
        pl.read_parquet(folder / "ged_pgm_sparse.parquet")
        .filter(pl.col("month_id").is_between(first, last))
        .select(
            pl.col("month_id").cast(pl.Int32),
            pl.col("priogrid_gid").cast(pl.Int64).alias("unit_id"),
            *(pl.col(f"ged_{v}_best").cast(pl.Float64).alias(f"{v}_best") for v in VIOLENCE),
            *(pl.col(f"ged_{v}_count").cast(pl.Int64).alias(f"{v}_count") for v in VIOLENCE),
        )
        .join(units, on=["month_id", "unit_id"], how="semi")
        .sort("month_id", "unit_id")
    )
    inside = cells.join(published, on=["month_id", "unit_id"], how="semi")
    if domain == "africa_me":
        assert inside.height == cells.height
        assert inside.select(published.columns).equals(published)
    else:
        # A few events off the coast lie in the nearest cell of their country.
        off = sum(int((inside[name] != published[name]).sum()) for name in published.columns)
        assert off + cells.height - inside.height < 20


def test_the_real_candidate_release_keeps_its_deaths(shared_data: Path) -> None:
    """Codes 1..6 as UCDP gives them: 453 of 2,391 events are not located."""
    folder = shared_data / "conflict"
    published = pl.read_parquet(folder / "ged_candidate_23_0_10.parquet")
    month = from_key("2023-10")
    units = PrioGrid(domain="global", cells=folder / "prio_grid.parquet").read(month - 9, month).frame
    raw = to_event_months(normalise(published, origin="the release"), dating="start")
    done = place_events(raw.lazy(), units.lazy())
    assert done.summary["deaths"] == published["best"].sum()
    assert done.summary["deaths_outside_domain"] == 0
    spread = published.filter(pl.col("where_prec") > 3)["best"].sum()
    assert done.summary["deaths_spread"] == spread
    assert sum(done.cells[f"{v}_best"].sum() for v in VIOLENCE) == published["best"].sum()
