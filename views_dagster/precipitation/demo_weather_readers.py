"""The invented atmosphere as sources: readers of its columns, its rain and its NWP members, for catalogue entries."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from views_dagster.calendar import describe_months, first_day, from_date
from views_dagster.errors import SourceError
from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.boxes import BoxGrid, hours_long
from views_dagster.precipitation.column_arrays import as_lists
from views_dagster.precipitation.demo_atmosphere import (
    ATMOSPHERE_FIRST,
    ATMOSPHERE_LAST,
    GRID,
    LEVELS,
    PROFILES,
    SURFACE,
    atmosphere,
)
from views_dagster.precipitation.demo_rain import boxed_rain, ensemble, potential
from views_dagster.precipitation.demo_storms import HOURS
from views_dagster.precipitation.levels import LevelUnit
from views_dagster.sources.base import RawMonths, Reader

_MONTHS_KEPT = 48
"""Months that stay in memory, of about 2 MB each: readers are asked for the same months one after another."""


@dataclass(frozen=True)
class DemoMonth:
    """Rows of one month, sorted by time and box, as the three readers give them."""

    columns: pl.DataFrame
    rain: pl.DataFrame
    members: pl.DataFrame


@lru_cache(maxsize=_MONTHS_KEPT)
def demo_month(seed: int, month_id: int) -> DemoMonth:
    """One month of the world `seed`, made once for all its readers."""
    air = atmosphere(seed, month_id)
    possible = potential(air)
    rain = boxed_rain(air, possible, seed, month_id)
    members = ensemble(air, possible, seed, month_id)

    times = np.datetime64(first_day(month_id), "us") + air.times.step * hours_long(HOURS)
    count = len(times) * GRID.count
    box = np.tile(np.arange(GRID.count, dtype=np.int64), len(times))
    latitude, longitude = GRID.centres(box)
    keys = {
        "month_id": np.full(count, month_id, dtype=np.int32),
        "valid_time": np.repeat(times, GRID.count),
        "box_id": box,
    }

    def lists(name: str, values: NDArray[np.float32]) -> pl.Series:
        return as_lists(name, values.reshape(count, -1))

    columns = pl.DataFrame(
        [
            *(pl.Series(name, values) for name, values in keys.items()),
            pl.Series("latitude", latitude, dtype=pl.Float32),
            pl.Series("longitude", longitude, dtype=pl.Float32),
            lists("levels", np.tile(LEVELS, (count, 1))),
            *(lists(name, air.profiles[:, :, which]) for which, name in enumerate(PROFILES)),
            *(pl.Series(name, air.surface[:, :, which].reshape(-1)) for which, name in enumerate(SURFACE)),
        ]
    )
    fell = pl.DataFrame(
        [
            *(pl.Series(name, values) for name, values in keys.items()),
            lists("fractions", rain.fractions),
            pl.Series("rain_mean", rain.mean.reshape(-1), nan_to_null=True),
            pl.Series("rain_max", rain.highest.reshape(-1), nan_to_null=True),
            pl.Series("missing", rain.missing.reshape(-1)),
        ]
    ).with_columns(pl.when(pl.col("rain_mean").is_not_null()).then("fractions"))
    said = pl.DataFrame([*(pl.Series(name, values) for name, values in keys.items()), lists("members", members)])
    return DemoMonth(columns=columns, rain=fell, members=said)


class _DemoWeather(Reader, ABC):
    """What the three readers share."""

    seed: int = Field(default=1, description="Which invented atmosphere; all readers of a deployment share one.")

    @abstractmethod
    def _rows(self, month: DemoMonth) -> pl.DataFrame:
        """This reader's rows of a month."""

    def read(self, first: int, last: int) -> RawMonths:
        """Rows of months `first..last` (month ids, inclusive), sorted by time and box.

        Raises:
            SourceError: a month lies outside 2022-01..2035-12.
        """
        outside = [month for month in range(first, last + 1) if not ATMOSPHERE_FIRST <= month <= ATMOSPHERE_LAST]
        if outside or last < first:
            raise SourceError(
                f"the demo atmosphere has no {describe_months(outside) or 'months of an empty range'}; "
                f"ask for months within {describe_months(range(ATMOSPHERE_FIRST, ATMOSPHERE_LAST + 1))}"
            )
        frame = pl.concat([self._rows(demo_month(self.seed, month)) for month in range(first, last + 1)])
        return RawMonths(frame=frame, provenance={"demo atmosphere": f"synthetic, seed {self.seed}"})

    @property
    def grid(self) -> BoxGrid:
        """The lattice of the boxes."""
        return GRID

    @property
    def row_keys(self) -> Sequence[str]:
        return ("month_id", "valid_time", "box_id")

    @property
    def begins(self) -> int:
        return ATMOSPHERE_FIRST

    @property
    def invented(self) -> bool:
        return True

    def latest_month(self) -> int:
        """The last complete month of today's calendar."""
        return min(from_date(date.today()) - 1, ATMOSPHERE_LAST)


class DemoColumns(_DemoWeather):
    """Columns of the invented atmosphere on 16 pressure levels, as an analysis has them."""

    kind: Literal["demo_columns"] = "demo_columns"

    @property
    def fields(self) -> frozenset[str]:
        """Names of profiles, single-level and static fields."""
        return frozenset({*PROFILES, *SURFACE})

    @property
    def level_unit(self) -> LevelUnit:
        """Unit of the levels."""
        return "hPa"

    @property
    def lists_units(self) -> bool:
        return True

    def _rows(self, month: DemoMonth) -> pl.DataFrame:
        return month.columns


class DemoRain(_DemoWeather):
    """Rain of the invented atmosphere in fractions of boxes, from fine pixels as a radar sees them."""

    kind: Literal["demo_rain"] = "demo_rain"

    @property
    def edges(self) -> tuple[float, ...]:
        """Lower edges of all bands but the first, mm/h."""
        return EDGES

    def _rows(self, month: DemoMonth) -> pl.DataFrame:
        return month.rain


class DemoMembers(_DemoWeather):
    """Box mean rain in each of 18 members of a biased forecast of the invented atmosphere."""

    kind: Literal["demo_members"] = "demo_members"

    def _rows(self, month: DemoMonth) -> pl.DataFrame:
        return month.members
