"""Querysets of cells: surroundings, values of the parent, what lies outside, and a month that is appended."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from views_dagster.errors import GeographyError, MissingMonthsError, QuerysetError
from views_dagster.features.compute import FeatureReport, compute
from views_dagster.features.querysets import Queryset, check, parse_step
from views_dagster.features.registry import TRANSFORMS
from views_dagster.geography import gid_of
from views_dagster_tests.features.worlds import CellUnits, Ready, cell_queryset, cells_table, queryset_of, values_table

# A block of 3 x 4 cells; the last vanishes for two months, the first appears in month 202.
CELLS = [int(gid_of(200 + row, 400 + column)) for row in range(3) for column in range(4)]
MONTHS = range(200, 208)
LIVES: dict[int, list[int]] = {cell: list(MONTHS) for cell in CELLS}
LIVES[CELLS[-1]] = [200, 201, 204, 205, 206, 207]
LIVES[CELLS[0]] = list(range(202, 208))
SOURCES = {
    "cells": CellUnits(),
    "s": Ready(level="pgm", events=True),
    "ready": Ready(level="pgm"),
    "p": Ready(),
    "parent_events": Ready(events=True),
}


def parent(cell: int, month: int) -> int:
    """The western cells lie in parent 1, which loses its northern row to parent 3 in 204; the rest in parent 2."""
    if (cell - CELLS[0]) % 720 >= 2:
        return 2
    return 3 if month >= 204 and cell >= CELLS[8] else 1


UNITS = cells_table(LIVES, parent)
EVENTS = values_table(
    {(CELLS[0], 202): 5, (CELLS[5], 200): 2, (CELLS[5], 203): 7, (CELLS[10], 205): 30}
    | {(CELLS[6], month): 1 for month in MONTHS}
)
PARENTS = values_table({(unit, month): 100.0 * unit + month - 200 for unit in (1, 2) for month in MONTHS})
RAW = {"cells": UNITS, "s": EVENTS, "ready": EVENTS, "p": PARENTS, "parent_events": PARENTS}


def run(queryset: Queryset, first: int, last: int, **raw: pl.DataFrame) -> tuple[pl.DataFrame, FeatureReport]:
    check(queryset, SOURCES)
    tables = {name: frame.lazy() for name, frame in (RAW | raw).items()}
    sources = {name: SOURCES[name] for name in queryset.sources}
    return compute(queryset, sources, {name: tables[name] for name in queryset.sources}, first, last)


def at(frame: pl.DataFrame, month: int, name: str) -> dict[int, float | None]:
    """Values of a month by position in the block."""
    rows = frame.filter(pl.col("month_id") == month)
    return {CELLS.index(unit): value for unit, value in zip(rows["unit_id"], rows[name], strict=True)}


def test_surroundings_in_a_month() -> None:
    queryset = cell_queryset(
        near=["s.x", "spatial_lag"],
        with_own=["s.x", "spatial_lag(0, 2)"],
        wide_next=["s.x", "spatial_lag(1, 2)", "tlag(1)"],
        around=["s.x", "countrylag"],
        since=["s.x", "sptime_dist(1, 2)"],
        far=["s.x", "treelag(0, 1)"],
    )
    frame, _ = run(queryset, 202, 203)
    # In 202 cell 0 has 5 and cell 6 has 1; cell 5 lies beside both, cell 11 does not exist.
    near = at(frame, 202, "near")
    assert near == {0: 0, 1: 6, 2: 1, 3: 1, 4: 5, 5: 6, 6: 0, 7: 1, 8: 0, 9: 1, 10: 1}
    assert at(frame, 202, "with_own")[6] == 1
    assert at(frame, 202, "around") == near
    assert at(frame, 203, "wide_next") == {0: 1, 1: 6, 2: 6, 3: 1, 4: 6, 5: 6, 6: 5, 7: 1, 8: 6, 9: 6, 10: 6}
    # The nearest event of cell 4 is cell 0 in the same month; a year before would be twelve times 2 away.
    assert at(frame, 202, "since")[4] == 1
    assert at(frame, 203, "since")[4] == 1
    assert at(frame, 203, "since")[0] == pytest.approx(math.sqrt(2))
    assert at(frame, 202, "far")[0] == pytest.approx(1 / np.hypot(1.99, 0.99))


def test_a_lag_of_a_decay_and_of_a_lag() -> None:
    queryset = cell_queryset(
        decayed=["s.x", "gte(5)", "time_since", "decay(12)", "replace_na(0)", "spatial_lag"],
        lagged=["s.x", "tlag(2)", "spatial_lag"],
    )
    frame, _ = run(queryset, 204, 204)
    # In the block without its first cell: 11 at most count months since the start, cell 5 was hit in 203.
    decay_of_start = 2 ** (-4 / 12)
    assert at(frame, 204, "decayed")[8] == pytest.approx(1 + 2 * decay_of_start)
    assert at(frame, 204, "lagged")[1] == 6


def test_values_of_the_parent_follow_the_borders_of_the_month() -> None:
    queryset = cell_queryset(
        own=["p.x"], lag=["p.x", "tlag(1)"], filled=["p.x", "fill"], events=["parent_events.x"], height=["cells.height"]
    )
    frame, report = run(queryset, 202, 205)
    assert at(frame, 203, "own")[8] == 103
    # Parent 3 is listed nowhere: unknown in a panel, 0 where absent means that nothing happened.
    assert at(frame, 204, "own")[8] is None
    assert at(frame, 204, "events")[8] == 0
    assert at(frame, 204, "own")[0] == 104
    assert at(frame, 204, "own")[3] == 204
    # The history of a cell is what its parents were at the time.
    assert at(frame, 204, "lag")[8] == 103
    assert at(frame, 205, "filled")[8] == 103
    assert at(frame, 202, "height")[5] == pytest.approx(CELLS[5] / 1000)
    assert report.missing["p.x"] == 2 * 2
    assert report.outside == {}


def test_rows_outside_the_domain_are_counted_and_no_cell_is_an_error() -> None:
    stranger = values_table({(1, 203): 4, (CELLS[0], 201): 2, (1, 201): 9})
    frame, report = run(cell_queryset(a=["s.x"]), 202, 204, s=pl.concat([EVENTS, stranger]))
    assert (report.outside["s"].rows, dict(report.outside["s"].sums)) == (1, {"x": 4})
    assert frame.equals(run(cell_queryset(a=["s.x"]), 202, 204)[0])
    for wrong in (0, -3, 259_201, 600_000):
        with pytest.raises(GeographyError, match=f"rows of s: {wrong}: no PRIO-GRID cells"):
            run(cell_queryset(a=["s.x"]), 202, 204, s=pl.concat([EVENTS, values_table({(wrong, 203): 1})]))
        with pytest.raises(GeographyError, match=f"{wrong}: no PRIO-GRID cells"):
            run(cell_queryset(a=["s.x"]), 202, 204, cells=pl.concat([UNITS, cells_table({wrong: MONTHS}, parent)]))
    with pytest.raises(QuerysetError, match="ready has rows of unknown units 7 "):
        run(cell_queryset(a=["ready.x"]), 202, 202, ready=values_table({(7, month): 1 for month in MONTHS}))


def test_a_source_of_other_parents_is_an_error() -> None:
    strangers = PARENTS.with_columns(pl.col("unit_id") + 100)
    with pytest.raises(QuerysetError, match="no row of p is of a unit of level cm that holds one of level pgm"):
        run(cell_queryset(a=["p.x", "replace_na(-1)"]), 202, 204, p=strangers)
    # An event in none of the parents happened elsewhere.
    frame, _ = run(cell_queryset(a=["parent_events.x"]), 202, 204, parent_events=strangers)
    assert set(frame["a"]) == {0.0}


def test_repeats_and_holes_are_errors() -> None:
    with pytest.raises(QuerysetError, match="repeats 1 rows"):
        run(cell_queryset(a=["s.x"]), 207, 207, cells=pl.concat([UNITS, UNITS.tail(1)]))
    with pytest.raises(QuerysetError, match="s has several rows"):
        run(cell_queryset(a=["s.x"]), 205, 205, s=pl.concat([EVENTS, EVENTS.filter(pl.col("month_id") == 205)]))
    # Also where the months that are asked for do not reach back to the hole.
    hole = pl.col("month_id") != 203
    with pytest.raises(MissingMonthsError, match="the units lack 1996-11"):
        run(cell_queryset(a=["s.x"]), 206, 206, cells=UNITS.filter(hole))
    with pytest.raises(MissingMonthsError, match="raw rows of s lack 1996-11"):
        run(cell_queryset(a=["s.x"]), 206, 206, s=EVENTS.filter(hole))


def test_a_source_is_given_the_units_of_the_months_that_are_needed() -> None:
    given_units: list[pl.DataFrame] = []

    class Spread(Ready):
        def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
            assert units is not None
            given_units.append(units.collect())
            assert raw.select(pl.col("month_id").min()).collect().item() >= given_units[-1]["month_id"].min()
            return raw

    sources: dict[str, Any] = {"cells": CellUnits(), "s": Spread(level="pgm")}
    raw = {"cells": UNITS.lazy(), "s": EVENTS.lazy()}
    compute(cell_queryset(a=["s.x", "tlag(2)"], b=["s.x", "moving_sum(3)", "spatial_lag"]), sources, raw, 206, 206)
    (units,) = given_units
    assert units.columns == ["month_id", "unit_id", "parent_id"]
    assert units["month_id"].unique().sort().to_list() == [204, 205, 206]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"columns": {"a": {"from": "p.y"}}}, r"columns.a.from: p has no column y at level pgm or cm; there are: x"),
        ({"targets": {"a": {"from": "p.x"}}}, "targets.a.from: p has no column x at level pgm"),
        ({"level": "cm", "units": "countries", "columns": {"a": {"from": "s.x"}}}, "s has no column x at level cm"),
        (
            {
                "level": "cm",
                "units": "countries",
                "columns": {"a": {"from": "p.x", "transforms": ["fill", "treelag(1, 0)"]}},
            },
            "columns.a.transforms: treelag works between cells of the grid, and units of level cm are none",
        ),
    ],
)
def test_levels_that_do_not_mix(written: dict[str, Any], message: str) -> None:
    base = {
        "level": "pgm",
        "units": "cells",
        "targets": {"t": {"from": "s.x"}},
        "columns": {"b": {"from": "s.x"}},
    }
    with pytest.raises(QuerysetError, match=message):
        check(Queryset.model_validate(base | written), SOURCES | {"countries": Ready(names=())})


def test_units_of_another_level_are_refused() -> None:
    class States(CellUnits):
        def columns(self, level: str) -> frozenset[str]:
            if level != "cm":
                raise QuerysetError(f"states are units of level cm, not {level}")
            return frozenset()

        @property
        def parent_level(self) -> None:
            return None

    with pytest.raises(QuerysetError, match=r"^units: states are units of level cm, not pgm"):
        check(cell_queryset(a=["s.x"]), SOURCES | {"cells": States()})


GRID_CHAINS = {
    "ring": ["s.x", "spatial_lag(1, 2, 1, 1)"],
    "near": ["s.x", "sptime_dist(2, 0.5)"],
    "tree": ["s.x", "treelag(0.7, 0)"],
    "exact": ["s.x", "treelag(0, 2)"],
    "around": ["s.x", "countrylag"],
    "long": ["s.x", "gte(2)", "time_since", "decay(3)", "replace_na(0)", "spatial_lag", "moving_average(3)"],
}


def test_every_transform_between_cells_is_poisoned() -> None:
    used = {parse_step(step).transform.name for _, *chain in GRID_CHAINS.values() for step in chain}
    assert {name for name, transform in TRANSFORMS.items() if transform.across_units} <= used


@pytest.mark.parametrize("last", [200, 203, 206])
@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_the_future_is_not_read(last: int, poison: float) -> None:
    queryset = cell_queryset(**GRID_CHAINS, parents=["p.x", "mean"])
    later = pl.col("month_id") > last
    poisoned = {
        name: pl.concat([frame, values_table({(CELLS[3], 207): 1})] if name == "s" else [frame]).with_columns(
            x=pl.when(later).then(poison).otherwise("x")
        )
        for name, frame in (("s", EVENTS), ("p", PARENTS))
    }
    # A cell that appears later and widens the rectangle, and borders that move later.
    strangers = cells_table({int(gid_of(150, 500)): range(last + 1, 209)}, parent)
    units = pl.concat([UNITS.with_columns(parent_id=pl.when(later).then(2).otherwise("parent_id")), strangers])
    frame, report = run(queryset, 200, last, cells=units, **poisoned)
    alone = {"cells": UNITS, "s": EVENTS, "p": PARENTS}
    expected, expected_report = run(queryset, 200, last, **{name: table.remove(later) for name, table in alone.items()})
    assert frame.equals(expected)
    assert report == expected_report


UNIT_STEPS = [
    "replace_na(0)", "is_na", "fill", "ln", "gte(2)", "tlag(1)", "tlag(3)", "delta(2)", "moving_sum(3)",
    "moving_average(5)", "rollmax(4)", "time_since", "decay(4)", "onset(2)", "mean", "demean", "entropy(3)", "countrylag",
]  # fmt: skip
CELL_STEPS = ["spatial_lag", "spatial_lag(0, 2, 1)", "sptime_dist(2)", "treelag(0.6, 2)", "treelag(0, 1)"]


def test_the_random_chains_hold_every_transform() -> None:
    assert {parse_step(step).transform.name for step in UNIT_STEPS + CELL_STEPS} == set(TRANSFORMS)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    chains=st.lists(st.lists(st.sampled_from(UNIT_STEPS + CELL_STEPS), max_size=5), min_size=1, max_size=4),
    origins=st.lists(
        st.sampled_from(["s.x", "ready.x", "p.x", "parent_events.x", "cells.height"]), min_size=4, max_size=4
    ),
    seed=st.integers(0, 100),
)
def test_appended_months_equal_those_of_the_whole_history(
    chains: list[list[str]], origins: list[str], seed: int
) -> None:
    columns = {f"c{i}": [origins[i], *chain] for i, chain in enumerate(chains)}
    queryset = cell_queryset(**columns)
    generator = np.random.default_rng(seed)
    events = EVENTS.with_columns(x=pl.Series(generator.integers(0, 40, len(EVENTS)) / 7))
    whole, _ = run(queryset, 200, 207, s=events, ready=events)
    parts = [
        run(queryset, first, last, s=events, ready=events)[0] for first, last in ((200, 203), (204, 204), (205, 207))
    ]
    assert pl.concat(parts).equals(whole)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    chains=st.lists(st.lists(st.sampled_from(UNIT_STEPS), max_size=5), min_size=1, max_size=4),
    seed=st.integers(0, 100),
)
def test_appended_months_of_units_without_parents(chains: list[list[str]], seed: int) -> None:
    lives = {1: range(200, 230), 2: range(207, 230), 3: [*range(200, 204), *range(211, 230)]}
    generator = np.random.default_rng(seed)
    borders = {1: [2, 3], 2: [1], 3: [1]}
    units = pl.DataFrame(
        [(month, unit, borders[unit]) for unit, months in lives.items() for month in months],
        schema={"month_id": pl.Int32, "unit_id": pl.Int64, "neighbours": pl.List(pl.Int64)},
        orient="row",
    )
    drawn = {(unit, month): generator.choice([0, 0, 1, math.nan, 1 / 3]) for unit in lives for month in lives[unit]}
    values = values_table({key: float(value) for key, value in drawn.items()})
    sources = {"countries": Ready(names=()), "s": Ready()}
    raw = {"countries": units.lazy(), "s": values.lazy()}
    queryset = queryset_of(**{f"c{i}": chain for i, chain in enumerate(chains)})
    whole, _ = compute(queryset, sources, raw, 200, 229)
    parts = [compute(queryset, sources, raw, first, last)[0] for first, last in ((200, 227), (228, 228), (229, 229))]
    assert pl.concat(parts).equals(whole)
