"""How fast querysets of grid cells are, and how their cost grows with cells and months.

    python -m benchmarks.grid_features                        13,110 cells x 436 months, 5.7 M rows
    python -m benchmarks.grid_features --plot cost.png        and a plot of the cost at four sizes
    python -m benchmarks.grid_features --cells 64818 --months 409
    python -m benchmarks.grid_features --transforms           only each transform alone

Events are sparse and clustered, like those of a grid-month system: about 60,000 cell-months. Prints seconds for each
transform alone on one column (wall, best of three, and CPU), for a queryset of thirty columns over the whole history
with its peak memory, for one month appended to it, and for the queryset at four sizes with the slope of the cost.
Where views_transformation_library can be imported, its transforms between cells are timed on a smaller panel beside
ours, and the values compared.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import ReadyPanel, chained, peak_gigabytes, plot_growth, timed
from views_dagster.calendar import FIRST_MONTH
from views_dagster.features.compute import compute
from views_dagster.features.lattice import Cells, Lattice
from views_dagster.features.querysets import Queryset
from views_dagster.geography import gid_of

Z = "replace_na(0)"
CHAINS = (
    [Z],
    ["fill"],
    ["ln"],
    ["gte(25)"],
    ["tlag(1)"],
    ["delta(12)"],
    ["moving_sum(12)"],
    ["moving_average(12)"],
    ["rollmax(12)"],
    ["time_since"],
    ["decay(24)"],
    ["gte(25)", "time_since", "decay(24)"],
    ["onset(12)"],
    ["mean"],
    ["demean"],
    ["entropy(12)"],
    ["countrylag"],
    ["spatial_lag"],
    ["spatial_lag(1, 4, 1, 1)"],
    ["sptime_dist(1, 1)"],
    ["sptime_dist(5, 1)"],
    ["treelag(0.7, 0)"],
    ["treelag(0.7, 1)"],
    ["treelag(0, 2)"],
)


class Table(ReadyPanel):
    """Raw rows of one level, which may be events, or list units."""

    level: str = "pgm"
    events: bool = False
    parents: str | None = None

    def columns(self, level: str) -> frozenset[str]:
        return super().columns(level) if level == self.level else frozenset()

    @property
    def absent_is_zero(self) -> bool:
        return self.events

    @property
    def parent_level(self) -> str | None:
        return self.parents

    @property
    def lists_units(self) -> bool:
        return self.parents is not None


@dataclass(frozen=True)
class World:
    """Cells in parents of some hundred cells, with events and parents' values, over months from `FIRST_MONTH` on."""

    gid: np.ndarray[Any, np.dtype[np.int64]]
    months: int
    raw: Mapping[str, pl.LazyFrame]

    @property
    def last(self) -> int:
        return FIRST_MONTH + self.months - 1

    @classmethod
    def of(cls, cells: int, months: int) -> "World":
        generator = np.random.default_rng(0)
        width = round((cells * 3.6) ** 0.5)
        # Domains are no rectangles: 1.8 places of the rectangle for each cell, as in Africa and the Middle East.
        where = np.sort(generator.permutation(round(cells * 1.8))[:cells])
        row, column = np.divmod(where, width)
        gid = gid_of(row + 30, column + 10)
        month = np.arange(FIRST_MONTH, FIRST_MONTH + months, dtype=np.int32)
        parent = (row // 15) * 100 + column // 15
        units = pl.DataFrame(
            {
                "month_id": np.repeat(month, cells),
                "unit_id": np.tile(gid, months),
                "parent_id": np.tile(parent, months),
                "height": np.tile(generator.random(cells).astype(np.float32), months),
            }
        )
        # A fifth of the cells ever see events, some of them in most months.
        risk = np.where(generator.random(cells) < 0.2, generator.beta(0.3, 5, cells), 0)
        hit = generator.random((months, cells)) < risk
        which, unit = np.nonzero(hit)
        size = np.exp(generator.normal(1.5, 1.5, len(unit))).round() + 1
        events = pl.DataFrame({"month_id": month[which], "unit_id": gid[unit], "a": size})
        events = events.with_columns(b=pl.Series(generator.permutation(size)), c=pl.Series(generator.permutation(size)))
        every_month = pl.DataFrame(
            {"month_id": month, "unit_id": np.full(months, gid[0]), "a": 0.0, "b": 0.0, "c": 0.0}
        )
        events = pl.concat([events, every_month]).unique(["month_id", "unit_id"], keep="first")
        parents = np.unique(parent)
        of_parents = pl.DataFrame({"month_id": np.repeat(month, len(parents)), "unit_id": np.tile(parents, months)})
        of_parents = of_parents.with_columns(
            pl.when(pl.Series(generator.random(len(of_parents)) < 0.9)).then(
                pl.Series(name, generator.random(len(of_parents)))
            ) for name in "pq"
        )  # fmt: skip
        return cls(gid, months, {"cells": units.lazy(), "events": events.lazy(), "parents": of_parents.lazy()})


SOURCES = {
    "cells": Table(names=("height",), parents="cm"),
    "events": Table(names=("a", "b", "c"), events=True),
    "parents": Table(names=("p", "q"), level="cm"),
}


def queryset() -> Queryset:
    """Thirty columns like those of the conflict system at grid level."""
    columns: dict[str, list[str]] = {}
    for name in "abc":
        origin = f"events.{name}"
        columns |= {
            f"ln_{name}": [origin, Z, "ln"],
            f"ln_{name}_lag": [origin, Z, "ln", "tlag(1)", Z],
            f"ln_{name}_sum": [origin, Z, "moving_sum(12)", "ln"],
            f"{name}_average": [origin, Z, "moving_average(36)"],
            f"{name}_decay_1": [origin, Z, "gte(1)", "time_since", "decay(24)", Z],
            f"{name}_decay_25": [origin, Z, "gte(25)", "time_since", "decay(24)", Z],
            f"{name}_near": [origin, Z, "spatial_lag", "ln"],
        }
    columns |= {
        "near_12": ["events.a", Z, "moving_sum(12)", "spatial_lag(0, 2)"],
        "near_decay": ["events.a", Z, "gte(1)", "time_since", "decay(12)", Z, "spatial_lag"],
        "distance": ["events.a", "sptime_dist(1, 1)"],
        "distance_10": ["events.a", "sptime_dist(1, 10)"],
        "far": ["events.a", Z, "treelag(0.7, 1)", "ln"],
        "height": ["cells.height"],
        "p": ["parents.p", "fill", "replace_na(-1)"],
        "p_missing": ["parents.p", "fill", "is_na"],
        "q_change": ["parents.q", "fill", "delta(12)", Z],
    }
    written = {name: {"from": origin, "transforms": chain} for name, (origin, *chain) in columns.items()}
    target = {"from": "events.a", "transforms": [Z]}
    return Queryset.model_validate(
        {"level": "pgm", "units": "cells", "targets": {"target": target}, "columns": written}
    )


def transforms_alone(world: World) -> None:
    """Each chain on one dense column of every cell and month."""
    units, months = len(world.gid), world.months
    generator = np.random.default_rng(1)
    values = np.where(generator.random((units, months)) < 0.0105, generator.integers(1, 500, (units, months)), 0.0)
    known = pl.Series(generator.random(units * months) < 0.9)
    unknown_tenth = pl.when(known).then(pl.Series("x", values.reshape(-1)))
    frame = pl.select(month=pl.Series(np.tile(np.arange(months, dtype=np.int32), units)), x=unknown_tenth)
    cells = Cells(Lattice.of(world.gid), np.ones((units, months), dtype=bool))
    print(f"each transform on one column, {units:,} cells x {months} months ({units * months / 1e6:.1f} M rows)")
    print(f"{'':36s} {'wall s':>8s} {'CPU s':>8s} {'ms a month':>11s}")
    for chain in CHAINS:
        plan = frame.lazy().select(chained(chain, cells))
        wall, cpu = timed(plan.collect, times=1 if "sptime" in chain[0] else 3)
        print(f"{' > '.join(chain):36s} {wall:8.3f} {cpu:8.3f} {1000 * wall / months:11.2f}")


def whole_queryset(world: World, *, append: bool = True) -> float:
    """Seconds for the queryset over all months."""
    chosen = queryset()

    def run(first: int) -> object:
        return compute(chosen, SOURCES, world.raw, first, world.last)

    wall, cpu = timed(lambda: run(FIRST_MONTH))
    rows = len(world.gid) * world.months
    print(
        f"queryset of {len(chosen.columns)} columns, {len(world.gid):,} cells x {world.months} months ({rows:,} rows): "
        f"{wall:.2f} s wall, {cpu:.2f} s CPU, peak {peak_gigabytes():.1f} GiB"
    )
    if append:
        wall, cpu = timed(lambda: run(world.last), times=3)
        print(f"one month appended: {wall:.2f} s wall, {cpu:.2f} s CPU")
    return wall


def growth(sizes: list[tuple[int, int]], plot: Path | None) -> None:
    """Cost of the queryset at several sizes, and the slope of log seconds over log rows."""
    rows = [cells * months for cells, months in sizes]
    seconds = [whole_queryset(World.of(cells, months), append=False) for cells, months in sizes]
    slope = np.polyfit(np.log(rows), np.log(seconds), 1)[0]
    print(f"seconds grow with rows to the power {slope:.2f}")
    if plot is not None:
        plot_growth(plot, "A queryset of 30 columns", "wall", sizes, seconds, float(slope))


def beside_views(rows: int = 30, columns: int = 40, months: int = 24) -> None:
    """Values and seconds of VIEWS' transforms between cells and ours on one panel."""
    import pandas as pd

    try:
        from views_transformation_library import spacetime_distance, spatial_tree, splag4d
    except ImportError as error:
        print(f"not beside views_transformation_library: {error}")
        return
    generator = np.random.default_rng(2)
    row, column = np.mgrid[150 : 150 + rows, 380 : 380 + columns].reshape(2, -1)
    gid = np.sort(gid_of(row, column)[generator.random(rows * columns) < 0.8])
    units = len(gid)
    values = np.where(generator.random((units, months)) < 0.03, generator.integers(1, 300, (units, months)), 0.0)
    values[generator.random((units, months)) < 0.1] = np.nan
    index = pd.MultiIndex.from_product([range(1, months + 1), gid.tolist()], names=["month_id", "priogrid_gid"])
    frame = pd.DataFrame({"x": values.T.reshape(-1)}, index=index)
    cells = Cells(Lattice.of(gid), np.ones((units, months), dtype=bool))
    ours = pl.DataFrame({"x": pl.Series(values.reshape(-1), nan_to_null=True)}).lazy()
    pairs: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("spatial_lag(1, 1, 0, 0)", lambda: splag4d.get_splag4d(frame, True, 1, 1, 0, 0)),
        ("spatial_lag(1, 3, 1, 1)", lambda: splag4d.get_splag4d(frame, True, 1, 3, 1, 1)),
        ("sptime_dist(1, 1, 0.5)", lambda: spacetime_distance.get_spacetime_distances(frame, "distances", 1, 1.0)),
        ("sptime_dist(1, 10, 0.5)", lambda: spacetime_distance.get_spacetime_distances(frame, "distances", 1, 10.0)),
        *(
            (f"treelag(0.7, {kernel})", lambda kernel=kernel: spatial_tree.get_tree_lag(frame, 0.7, kernel))
            for kernel in range(3)
        ),
    )
    print(f"beside views_transformation_library, {units} cells x {months} months")
    print(f"{'':26s} {'theirs s':>9s} {'ours s':>8s} {'times':>7s}   largest difference")
    for text, theirs in pairs:
        plan = ours.select(chained([text], cells))
        plan.collect()
        start = time.perf_counter()
        expected = theirs()["x"].reindex(index).to_numpy().reshape(months, units).T
        seconds, (wall, _) = time.perf_counter() - start, timed(plan.collect, times=3)
        difference = np.abs(plan.collect().to_series().to_numpy().reshape(units, months) - expected)
        print(f"{text:26s} {seconds:9.2f} {wall:8.4f} {seconds / wall:7.0f}   {difference.max():.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=13110)
    parser.add_argument("--months", type=int, default=436)
    parser.add_argument("--plot", type=Path, help="measure four sizes and save a plot of the cost here")
    parser.add_argument("--transforms", action="store_true", help="only each transform alone")
    parser.add_argument("--queryset", action="store_true", help="only the queryset")
    chosen = parser.parse_args()
    world = World.of(chosen.cells, chosen.months)
    events = world.raw["events"].select(pl.len()).collect().item()
    print(f"{events:,} cell-months with events, {pl.thread_pool_size()} threads")
    if not chosen.transforms:
        whole_queryset(world)
    if not chosen.queryset:
        transforms_alone(world)
    if chosen.plot:
        growth([(1600, 218), (3200, 436), (6555, 436), (13110, 436)], chosen.plot)
    beside_views()


if __name__ == "__main__":
    main()
