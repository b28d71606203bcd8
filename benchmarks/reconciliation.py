"""Reconciliation of cells to countries: seconds and gigabytes at full scale, beside views-frames' reconciler.

`python -m benchmarks.reconciliation` prints a table; the domain is Africa and the Middle East, 13,110 cells, 36 steps.
Each figure is the fastest of several runs in this process, on arrays that are in memory. views-frames (dev extra) is
left out where it is not installed; `differs by` is the largest relative difference between its answer and ours where
its own is finite, `not finite` the number of its values that are not.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.conflict.interchange import to_prediction_frame
from views_dagster.conflict.reconciliation import choose_draws, reconcile, scale_draws
from views_dagster.forecasts import Forecast

CELLS, COUNTRIES, STEPS, ORIGIN = 13_110, 70, 36, 529


def problem(draws: int) -> tuple[Forecast, Forecast, pl.DataFrame]:
    """Cells in runs from west to east as on a map, nine draws in ten of a cell zero; countries from large to small."""
    rng = np.random.default_rng(draws)
    size = np.arange(1, COUNTRIES + 1) ** -1.5
    runs = rng.choice(COUNTRIES, CELLS, p=size / size.sum()) + 1
    holder = np.repeat(runs, rng.integers(1, 18, CELLS))[:CELLS]
    holder[:COUNTRIES] = np.arange(1, COUNTRIES + 1)
    values = rng.gamma(0.1, 10, (CELLS, STEPS, draws)).astype(np.float32)
    values[rng.random(values.shape, dtype=np.float32) < 0.9] = 0
    units, steps = np.arange(1, CELLS + 1), np.arange(1, STEPS + 1)
    totals = rng.gamma(0.5, 100, (COUNTRIES, STEPS, draws)).astype(np.float32)
    held_by = pl.DataFrame({"unit_id": units, "parent_id": holder})
    countries = np.arange(1, COUNTRIES + 1)
    return Forecast(ORIGIN, units, steps, values), Forecast(ORIGIN, countries, steps, totals), held_by


def fastest(work: Callable[[], Any], runs: int) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def theirs(cells: Forecast, countries: Forecast, held_by: pl.DataFrame) -> tuple[float, NDArray[np.float32]] | None:
    """Seconds of views-frames' reconciler on the same numbers, frames already built, and its answer (rows, draws)."""
    try:
        from views_frames_reconcile import ReconciliationModule
    except ModuleNotFoundError:
        return None
    frames = [to_prediction_frame(countries, model="c", level="cm"), to_prediction_frame(cells, model="g", level="pgm")]
    months = np.repeat(ORIGIN + cells.steps, CELLS)
    keys = np.stack([months, np.tile(held_by["unit_id"].to_numpy(), STEPS)], axis=1)
    module = ReconciliationModule(keys, np.tile(held_by["parent_id"].to_numpy(), STEPS))
    # Its factors are float32, which tiny sums overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        return fastest(lambda: module.reconcile(*frames), 2), module.reconcile(*frames).values


def row(draws: int) -> str:
    """A row of the table."""
    cells, countries, held_by = problem(draws)
    position = held_by["parent_id"].to_numpy() - 1
    arrays = fastest(lambda: scale_draws(cells.draws, countries.draws, position), 7)
    forecasts = fastest(lambda: reconcile(cells, countries, held_by), 7)
    spread = fastest(lambda: reconcile(cells, countries, held_by, spread_zero_draws=True), 3)
    reconciled, report = reconcile(cells, countries, held_by)
    found = theirs(cells, countries, held_by)
    comparison = "not installed | |"
    if found is not None:
        seconds, values = found
        ours = to_prediction_frame(reconciled, model="g", level="pgm").values
        finite = np.isfinite(values)
        difference = np.abs(ours[finite].astype(np.float64) - values[finite]) / np.where(
            ours[finite] > 0, ours[finite], 1
        )
        comparison = f"{seconds:.2f} | {difference.max():.1e} | {np.count_nonzero(~finite)}"
    unplaced = report.unplaced.sum() / (countries.draws.sum(dtype=np.float64) / draws)
    return f"| {draws} | {arrays:.3f} | {forecasts:.3f} | {spread:.3f} | {unplaced:.1%} | {comparison} |"


def main() -> None:
    print(f"{CELLS * STEPS:,} rows ({CELLS:,} cells x {STEPS} steps), {COUNTRIES} countries\n")
    print("| draws | arrays, s | forecasts, s | spread, s | unplaced | views-frames, s | differs by | not finite |")
    print("|---|---|---|---|---|---|---|---|")
    for draws in (1, 64):
        print(row(draws), flush=True)
    countries = problem(64)[1]
    many = Forecast(ORIGIN, countries.units, countries.steps, np.tile(countries.draws, 4))
    print(f"\nchoosing 64 of 256 draws of the countries: {fastest(lambda: choose_draws(many, 64, seed=1), 3):.3f} s")


if __name__ == "__main__":
    main()
