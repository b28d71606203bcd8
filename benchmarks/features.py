"""How fast querysets are: each transform alone, and a whole queryset, on a grid of units and months.

    python -m benchmarks.features            13,110 units x 436 months, the size of a grid-month system
    python -m benchmarks.features 200 436    the size of a country-month system

Prints wall seconds (best of three) for each transform on one column with 10 % unknown, then seconds and peak memory for
thirty columns with neighbours.
"""

import sys
from typing import Any

import numpy as np
import polars as pl

from benchmarks import ReadyPanel, chained, peak_gigabytes, timed
from views_dagster.calendar import FIRST_MONTH
from views_dagster.features.compute import compute
from views_dagster.features.querysets import Queryset
from views_dagster.features.registry import Neighbours

CHAINS = (
    ["replace_na(0)"],
    ["fill"],
    ["ln"],
    ["gte(25)"],
    ["tlag(1)"],
    ["tlag(12)"],
    ["delta(12)"],
    ["moving_sum(12)"],
    ["moving_average(12)"],
    ["moving_average(60)"],
    ["rollmax(12)"],
    ["time_since"],
    ["decay(24)"],
    ["gte(25)", "time_since", "decay(24)"],
    ["onset(12)"],
    ["mean"],
    ["demean"],
    ["entropy(12)"],
    ["countrylag"],
)


def queryset() -> Queryset:
    """Thirty columns like those of the conflict system."""

    def column(name: str, *transforms: str) -> dict[str, Any]:
        return {"from": f"events.{name}", "transforms": ["replace_na(0)", *transforms]}

    columns: dict[str, dict[str, Any]] = {}
    for name in "abc":
        columns |= {
            f"ln_{name}": column(name, "ln"),
            f"ln_{name}_lag": column(name, "ln", "tlag(1)", "replace_na(0)"),
            f"ln_{name}_sum": column(name, "moving_sum(12)", "ln"),
            f"{name}_average": column(name, "moving_average(36)"),
            f"{name}_decay_1": column(name, "gte(1)", "time_since", "decay(24)", "replace_na(0)"),
            f"{name}_decay_25": column(name, "gte(25)", "time_since", "decay(24)", "replace_na(0)"),
            f"{name}_max": column(name, "rollmax(60)"),
            f"{name}_delta": column(name, "delta(12)", "replace_na(0)"),
            f"{name}_near": column(name, "countrylag", "ln"),
            f"{name}_near_sum": column(name, "countrylag", "moving_sum(12)", "ln"),
        }
    return Queryset.model_validate(
        {"level": "unit", "units": "units", "targets": {"target": column("a")}, "columns": columns}
    )


def main(units: int = 13110, months: int = 436) -> None:
    generator = np.random.default_rng(0)
    rows = units * months
    counts = np.where(generator.random(rows) < 0.02, generator.integers(1, 500, rows), 0).astype(float)
    month = np.tile(np.arange(months, dtype=np.int32), units)
    known = pl.Series(generator.random(rows) < 0.9)
    grid = pl.DataFrame({"month": month, "x": counts}).with_columns(x=pl.when(known).then("x"))
    unit = np.repeat(np.arange(units, dtype=np.int64), months)
    width = round(units**0.5)
    offsets = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    beside = (np.arange(units)[:, None] + offsets) % units
    row, of = np.meshgrid(np.arange(rows), np.arange(len(offsets)), indexing="ij")
    neighbours = Neighbours(row.ravel(), (beside[unit[row], of] * months + month[row]).ravel())
    del row, of

    print(f"{units} units x {months} months = {rows:,} rows, {pl.thread_pool_size()} threads")
    for chain in CHAINS:
        seconds, _ = timed(grid.lazy().select(chained(chain, neighbours)).collect, times=3)
        print(f"{' > '.join(chain):36s} {seconds:7.3f} s")
    del neighbours, grid

    # Sparse events, and neighbours that are the same list object in every month.
    lists = pl.DataFrame({"unit_id": np.arange(units, dtype=np.int64), "neighbours": beside.tolist()})
    table = pl.DataFrame({"month_id": month + np.int32(FIRST_MONTH), "unit_id": unit})
    events = table.with_columns(pl.Series(name, generator.permutation(counts)) for name in "abc")
    events = events.filter(pl.sum_horizontal("a", "b", "c") > 0)
    raw = {"units": table.join(lists, on="unit_id", maintain_order="left").lazy(), "events": events.lazy()}
    last = FIRST_MONTH + months - 1
    chosen = queryset()
    readers = {name: ReadyPanel(names=("a", "b", "c")) for name in ("units", "events")}
    seconds, _ = timed(lambda: compute(chosen, readers, raw, FIRST_MONTH, last))
    print(f"queryset of {len(chosen.columns)} columns, {rows:,} rows: {seconds:.2f} s, peak {peak_gigabytes():.1f} GiB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
