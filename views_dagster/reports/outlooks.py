"""What maps show of a forecast of cells: the next month, the next year, the chance of any, and what changed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import to_key
from views_dagster.errors import GeographyError
from views_dagster.forecasts import Forecast
from views_dagster.reports.maps import Ids, Layer, difference, draw_maps
from views_dagster.reports.scales import Values, shared_largest

YEAR: Final = 12


@dataclass(frozen=True)
class Outlook:
    """What is expected in the months after `origin`, at most a year of them.

    Attributes:
        origin: last observed month id.
        units: (U,) int64 cells.
        months: (K,) int64 month ids, ascending, K <= 12.
        means: (U, K) float64, expected in each month.
        at_least_one: (U,) float64, probability of at least one in the first of the months.
    """

    origin: int
    units: Ids
    months: Ids
    means: Values
    at_least_one: Values

    @classmethod
    def of(cls, forecast: Forecast) -> "Outlook":
        """The first year of a forecast."""
        near = forecast.steps <= YEAR
        first: NDArray[np.float32] = forecast.draws[:, 0]
        return cls(
            origin=forecast.origin,
            units=forecast.units,
            months=forecast.origin + forecast.steps[near],
            means=forecast.mean[:, near].astype(np.float64),
            at_least_one=(first >= 1).mean(axis=1),
        )


def outlook_map(
    outlook: Outlook, previous: pl.DataFrame | None, parents: pl.DataFrame, *, measure: str, title: str
) -> bytes:
    """Four maps as PNG bytes: the next month, the next year, the chance of at least one next month, and the change.

    The change is that of the next year's sum over the months that the earlier forecast spoke of too, month by month:
    its step k + 1 against step k now. Cells that it did not speak of are drawn as land. The first two maps have one
    scale.

    Args:
        previous: `unit_id`, `target_month` and `mean` of an earlier forecast; None, or without rows, where there is
            none.
        parents: `unit_id` and `parent_id` of the cells in the forecast's month.
        measure: what is counted, without the time it is counted over.

    Raises:
        GeographyError: a cell without a parent, or a unit that is no cell.
    """
    cells = pl.DataFrame({"unit_id": outlook.units}).join(
        parents.select(pl.col("unit_id", "parent_id").cast(pl.Int64)), on="unit_id", how="left", maintain_order="left"
    )
    lost = cells.filter(pl.col("parent_id").is_null())["unit_id"].to_list()
    if lost:
        raise GeographyError(
            f"{len(lost)} cells of {title} have no parent after {to_key(outlook.origin)}, first {lost[:5]}; "
            "the table of units must name the parent of every cell"
        )
    following, last = to_key(outlook.origin + 1), to_key(int(outlook.months[-1]))
    span = following if following == last else f"{following} to {last}"
    total, first = outlook.means.sum(axis=1), outlook.means[:, 0]
    largest = shared_largest(first, total)
    layers = [
        Layer(first, "amount", f"expected in {following}", measure, largest),
        Layer(total, "amount", f"expected in {span}", measure, largest),
        Layer(outlook.at_least_one, "chance", f"chance of at least one in {following}", "probability"),
        change_of(outlook, previous, measure),
    ]
    return draw_maps(layers, outlook.units, cells["parent_id"].to_numpy(), title=title)


def means_of(rows: pl.DataFrame, units: Ids, months: Ids) -> Values:
    """(U, K) float64 of `mean` from rows of `unit_id`, `target_month`, `mean`, each once; NaN where there is no row.

    `units` (U,) and `months` (K,) are ascending; rows of others are left out.
    """
    rows = rows.filter(pl.col("unit_id").is_in(units.tolist()), pl.col("target_month").is_in(months.tolist()))
    means = np.full((len(units), len(months)), np.nan)
    place = (np.searchsorted(units, rows["unit_id"]), np.searchsorted(months, rows["target_month"]))
    means[place] = rows["mean"].to_numpy()
    return means


def change_of(outlook: Outlook, previous: pl.DataFrame | None, measure: str) -> Layer:
    """The next year's sum now less what was expected of the same months before."""
    title = "change since the previous forecast"
    before = None if previous is None else means_of(previous, outlook.units, outlook.months)
    if before is None or np.isnan(before).all():
        return difference(outlook.means.sum(axis=1), None, title=title, measure=measure)
    both = ~np.isnan(before).all(axis=0)
    spoken = outlook.months[both]
    return difference(
        outlook.means[:, both].sum(axis=1),
        before[:, both].sum(axis=1),
        title=f"{title}, {to_key(int(spoken[0]))} to {to_key(int(spoken[-1]))}",
        measure=measure,
    )
