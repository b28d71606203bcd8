"""What all sources of events share: the panels that event-months add up to, of countries and of cells."""

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl
from pydantic import Field

from views_dagster.conflict.ucdp_cells import MEMORY_MONTHS, place_events
from views_dagster.conflict.ucdp_events import DEATHS, VIOLENCE, Dating
from views_dagster.errors import QuerysetError
from views_dagster.sources.base import PanelReader

_MEASURES: Final = tuple(f"{violence}_{name}" for violence in VIOLENCE for name in (*DEATHS, "count"))
_LOCATED: Final = tuple(f"{violence}_located" for violence in VIOLENCE)


class EventReader(PanelReader, ABC):
    """Base of the readers whose rows are event-months (`EVENT_MONTH_SCHEMA`); a unit-month without one saw nothing."""

    dating: Dating = Field(
        default="split_by_day",
        description="An event that spans months is split evenly by day, or dated by its start.",
    )

    @property
    def row_keys(self) -> Sequence[str]:
        return ("month_id", "id")

    @property
    def absent_is_zero(self) -> bool:
        return True

    @property
    def panel_memory(self) -> int:
        """Events that are not located are placed where those of the same year were."""
        return MEMORY_MONTHS - 1

    def columns(self, level: str) -> frozenset[str]:
        """`{sb,ns,os}_{best,low,high}`, deaths, and `{sb,ns,os}_count`, events that touch the month.

        At pgm, also `{sb,ns,os}_located`, the best estimate of exactly located events alone, and only these count in
        `{sb,ns,os}_count`.

        Raises:
            QuerysetError: events are not offered at `level`.
        """
        _require_level(level)
        return frozenset((*_MEASURES, *_LOCATED) if level == "pgm" else _MEASURES)

    def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """Sums by month and unit: `month_id`, `unit_id`, deaths as Float64, counts as Int64.

        At pgm, `units` (`month_id`, `unit_id`, `parent_id`) says which cells there are; `place_events` says how events
        come to lie in them and which months of `raw` that takes.

        Raises:
            QuerysetError: events are not offered at `level`, or at pgm without units.
        """
        _require_level(level)
        if level == "pgm":
            if units is None:
                raise QuerysetError("events at level pgm are placed on cells: name the source of the cells as units")
            return place_events(raw, units).cells.lazy()
        of_type = {violence: pl.col("type_of_violence") == code for violence, code in VIOLENCE.items()}
        return raw.group_by("month_id", pl.col("country_id").cast(pl.Int64).alias("unit_id")).agg(
            *(pl.col(name).filter(of_type[v]).sum().alias(f"{v}_{name}") for v in VIOLENCE for name in DEATHS),
            *(of_type[v].sum().cast(pl.Int64).alias(f"{v}_count") for v in VIOLENCE),
        )

    def placed(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame) -> Mapping[str, float]:
        """At pgm, the summary of `place_events`: deaths placed exactly, spread, and outside the domain."""
        return place_events(raw, units).summary if level == "pgm" else {}


def _require_level(level: str) -> None:
    if level not in ("cm", "pgm"):
        raise QuerysetError(f"events are offered at level cm and pgm, not {level}")
