"""Reconciliation: cells scaled so that, draw by draw, those of a country sum to the country's own forecast.

Top-down by forecast proportions (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., section
11.3), within each draw: a cell keeps its share of its country in that possible future, the country's forecast says how
much there is to share. Which draw of the countries belongs to which draw of the cells is decided by their order.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import describe_months, to_key
from views_dagster.errors import ForecastError
from views_dagster.forecasts import Forecast
from views_dagster.names import listed

_THREADS: Final = 4


@dataclass(frozen=True)
class ReconciliationReport:
    """What reconciling found and did.

    Attributes:
        cells: number of cells.
        countries: (C,) int64, those that hold cells, ascending.
        all_zero: (C,) int64, number of (step, draw) pairs in which a country expects something and all its cells are 0.
        unplaced: (C,) float64, the country's totals in these pairs, summed over steps and averaged over draws. They are
            missing from the reconciled cells, unless spread.
        largest_factor: (C,) float64, the largest number that a country's cells were multiplied by; 0 where they are
            zero throughout.
        without_cells: (N,) int64, countries of the country forecast that hold no cell, ascending; nothing is done.
    """

    cells: int
    countries: NDArray[np.int64]
    all_zero: NDArray[np.int64]
    unplaced: NDArray[np.float64]
    largest_factor: NDArray[np.float64]
    without_cells: NDArray[np.int64]

    def to_frame(self) -> pl.DataFrame:
        """A row a country that holds cells: `unit_id`, `all_zero_draws`, `unplaced`, `largest_factor`."""
        return pl.DataFrame(
            {
                "unit_id": self.countries,
                "all_zero_draws": self.all_zero,
                "unplaced": self.unplaced,
                "largest_factor": self.largest_factor,
            }
        )


class Scaled(NamedTuple):
    """Scaled draws (U, K, S) float32, and for each of C countries what `ReconciliationReport` says of it."""

    draws: NDArray[np.float32]
    all_zero: NDArray[np.int64]
    unplaced: NDArray[np.float64]
    largest_factor: NDArray[np.float64]


def reconcile(
    cells: Forecast, countries: Forecast, held_by: pl.DataFrame, *, spread_zero_draws: bool = False
) -> tuple[Forecast, ReconciliationReport]:
    """The forecast of the cells, scaled to that of the countries; `scale_draws` says how.

    Args:
        cells: forecast at the finer level.
        countries: forecast of the same month and steps, with as many draws or with one, which then holds in every draw.
        held_by: `unit_id` (cell) and `parent_id` (the country that holds it), one row a cell; others may be there.

    Raises:
        ForecastError: forecasts of different months or steps, or with numbers of draws that do not fit; cells without
            a country or with several; countries that hold cells and are not forecast. Each is named.
    """
    if cells.origin != countries.origin:
        raise ForecastError(
            f"the cells are forecast from {to_key(cells.origin)}, the countries from {to_key(countries.origin)}; "
            "reconcile forecasts of one month"
        )
    if not np.array_equal(cells.steps, countries.steps):
        differing = np.setxor1d(cells.steps, countries.steps)
        raise ForecastError(
            f"only one of the two forecasts predicts {describe_months((cells.origin + differing).tolist())} "
            f"(steps {listed(differing)}); reconcile forecasts with the same steps"
        )
    holders = _holders(cells.units, held_by)
    holding = np.unique(holders)
    if len(missing := np.setdiff1d(holding, countries.units)):
        raise ForecastError(
            f"the country forecast lacks {listed(missing)}, which hold {int(np.isin(holders, missing).sum())} of the "
            "cells; forecast every country of the month, or correct which country holds these cells"
        )
    scaled = scale_draws(
        cells.draws,
        countries.draws[np.searchsorted(countries.units, holding)],
        np.searchsorted(holding, holders),
        spread_zero_draws=spread_zero_draws,
    )
    report = ReconciliationReport(
        cells=len(cells.units),
        countries=holding,
        all_zero=scaled.all_zero,
        unplaced=scaled.unplaced,
        largest_factor=scaled.largest_factor,
        without_cells=np.setdiff1d(countries.units, holding),
    )
    return Forecast(origin=cells.origin, units=cells.units, steps=cells.steps, draws=scaled.draws), report


def scale_draws(
    cells: NDArray[np.float32],
    totals: NDArray[np.float32],
    country: NDArray[np.int64],
    *,
    spread_zero_draws: bool = False,
) -> Scaled:
    """Multiply each country's cells, for each step and draw, by its total / their sum; zeros stay zero.

    Sums and factors are float64, the product is rounded to float32 once: sums of the result agree with the totals to
    about 1e-7 of them, except for totals near the smallest float32, 1e-38. No factor overflows. A total of zero sets
    its cells to zero. Where all cells of a country are zero and its total is not, they stay zero and are counted, or,
    with `spread_zero_draws`, share the total in proportion to their means over draws at that step; evenly where
    these are zero too.

    Args:
        cells: (U, K, S), not negative, finite.
        totals: (C, K, S) or (C, K, 1), not negative, finite.
        country: (U,), position in `totals` of the country that holds each cell.

    Raises:
        ForecastError: shapes that do not fit, a negative or non-finite value, a position that is not in `totals`.
    """
    _check_shapes(cells, totals, country)
    _check_values("totals", totals)
    count, draws = len(totals), cells.shape[2]
    all_zero, unplaced, largest = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)
    scaled = np.empty_like(cells, dtype=np.float32)
    order = np.argsort(country, kind="stable")
    bounds = np.searchsorted(country[order], np.arange(count + 1))

    def scale(position: int) -> None:
        rows = order[bounds[position] : bounds[position + 1]]
        block, total = cells[rows].astype(np.float32, copy=False), totals[position].astype(np.float64)
        sums = block.sum(axis=0, dtype=np.float64)
        if not (np.isfinite(sums).all() and block.min() >= 0):
            _check_values("cells", cells)
        factor = np.divide(total, sums, out=np.zeros_like(sums), where=sums > 0)
        empty = (sums == 0) & (total > 0)
        largest[position] = factor.max()
        if empty.any():
            left = np.where(empty, total, 0.0)
            all_zero[position] = empty.sum()
            unplaced[position] = left.sum() / draws
        np.multiply(block, factor, out=block, casting="unsafe")
        if spread_zero_draws and empty.any():
            block += (_shares(cells[rows])[:, :, None] * left).astype(np.float32)
        scaled[rows] = block

    # A country at a time: its sums take a tenth of what np.add.reduceat over all cells does. numpy lets other threads
    # run, and no two countries share a cell.
    with ThreadPoolExecutor(max_workers=min(_THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(scale, np.flatnonzero(np.diff(bounds)).tolist()))
    return Scaled(scaled, all_zero, unplaced, largest)


def choose_draws(forecast: Forecast, draws: int, *, seed: int) -> Forecast:
    """`draws` whole draws of a forecast, each one still a possible future of all units and steps together.

    A stratified sample (Cochran 1977, Sampling Techniques, chapter 5): draws are ordered by their sum over units and
    steps, cut into as many equally large parts as draws are wanted, and one is chosen at random from each, so that mild
    and severe futures keep their part. Each draw is equally likely to be chosen, which leaves every mean unbiased; one
    that lies in two parts may be chosen for both. With more draws than there are, each is taken about equally often.
    The chosen ones keep their order, and as many draws as there are come back as they are.
    """
    available = forecast.draws.shape[2]
    if available == draws:
        return forecast
    severity = np.argsort(forecast.draws.sum(axis=(0, 1), dtype=np.float64), kind="stable")
    within = np.random.default_rng(seed).random(draws)
    # The last place may round up to the end.
    places = np.minimum(((np.arange(draws) + within) * available / draws).astype(np.int64), available - 1)
    chosen = np.sort(severity[places])
    return Forecast(
        origin=forecast.origin,
        units=forecast.units,
        steps=forecast.steps,
        draws=np.ascontiguousarray(forecast.draws[:, :, chosen]),
    )


def _holders(cells: NDArray[np.int64], held_by: pl.DataFrame) -> NDArray[np.int64]:
    """(U,) the country that holds each cell."""
    wanted = pl.DataFrame({"unit_id": cells})
    known = held_by.select(pl.col("unit_id", "parent_id").cast(pl.Int64)).join(wanted, on="unit_id", how="semi")
    repeated = known.filter(pl.col("unit_id").is_duplicated())["unit_id"].unique().sort()
    if len(repeated):
        raise ForecastError(
            f"cells {listed(repeated.to_numpy())} have several countries; a cell lies in one country a month"
        )
    holders = wanted.join(known, on="unit_id", how="left", maintain_order="left")["parent_id"]
    if holders.null_count():
        without = cells[holders.is_null().to_numpy()]
        raise ForecastError(
            f"cells {listed(without)} have no country; give each forecast cell one, or leave it out of the domain"
        )
    return holders.to_numpy()


def _shares(block: NDArray[np.float32]) -> NDArray[np.float64]:
    """(U, K) shares of one country's cells in a total that no cell takes: as their means over draws, or evenly."""
    means = block.mean(axis=2, dtype=np.float64)
    sums = means.sum(axis=0)
    shares: NDArray[np.float64] = np.divide(means, sums, out=np.full_like(means, 1 / len(means)), where=sums > 0)
    return shares


def _check_shapes(cells: NDArray[np.float32], totals: NDArray[np.float32], country: NDArray[np.int64]) -> None:
    if cells.ndim != 3 or totals.ndim != 3 or cells.shape[1] != totals.shape[1] or country.shape != cells.shape[:1]:
        raise ForecastError(
            f"cells {cells.shape}, totals {totals.shape} and countries of the cells {country.shape} do not fit; "
            "expected (cells, steps, draws), (countries, steps, draws) and (cells,)"
        )
    if totals.shape[2] not in (1, cells.shape[2]):
        raise ForecastError(
            f"the cells have {cells.shape[2]} draws, the countries {totals.shape[2]}; "
            "give the countries as many draws as the cells, or one"
        )
    if len(country) and not (country.min() >= 0 and country.max() < len(totals)):
        raise ForecastError(f"positions of countries run from 0 to {len(totals) - 1}, got {listed(np.unique(country))}")


def _check_values(what: str, values: NDArray[np.float32]) -> None:
    for problem, bad in (("not finite", ~np.isfinite(values)), ("negative", values < 0)):
        if bad.any():
            row, step, draw = (int(i) for i in np.argwhere(bad)[0])
            raise ForecastError(
                f"{int(bad.sum())} values of the {what} are {problem}, first {values[row, step, draw]} "
                f"in row {row}, step position {step}, draw {draw}"
            )
