"""The cells of the demo world as a source, in the columns of the PRIO-GRID."""

from functools import lru_cache
from typing import Final, Literal

import numpy as np
import polars as pl
from pydantic import Field

from views_dagster.conflict.cells import CellReader, require_cell_level
from views_dagster.conflict.demo_geography import WORLD_FIRST, demo_map
from views_dagster.conflict.demo_readers import demo_latest_month, demo_provenance
from views_dagster.conflict.demo_world import require_covered
from views_dagster.errors import SourceError
from views_dagster.geography import COLUMNS as WORLD_COLUMNS
from views_dagster.geography import column_of, gid_of, latitude_of, longitude_of, row_of
from views_dagster.sources.base import RawMonths

COLUMNS: Final = ("capital_distance", "city_population", "land_share")
_EARTH_RADIUS_KM: Final = 6371.0
_TOWNSPEOPLE: Final = 300


class DemoCells(CellReader):
    """Cells of countries of the demo world, and which country holds each when."""

    kind: Literal["demo_cells"] = "demo_cells"
    seed: int = Field(default=1, description="Which demo world; all readers of a deployment share one.")
    countries: tuple[int, ...] | Literal["all"] = Field(
        default="all",
        description="Countries whose cells make the domain, in the months in which one of them holds the cell.",
    )

    def columns(self, level: str) -> frozenset[str]:
        """`COLUMNS`, invented: km to the capital of the cell's region, people in towns, and a share of land that falls
        with the number of the eight cells around that are sea; QuerysetError at another level than pgm.
        """
        require_cell_level("cells", level)
        return frozenset(COLUMNS)

    @property
    def invented(self) -> bool:
        return True

    def latest_month(self) -> int:
        return demo_latest_month()

    def read(self, first: int, last: int) -> RawMonths:
        """`month_id`, `unit_id`, `parent_id` and `COLUMNS` (Float32) of months `first..last`, sorted by month and cell.

        Raises:
            SourceError: a month lies outside 1989-01..2035-12; a country never exists, or none of them does in a month.
        """
        require_covered(first, last)
        world = demo_map(self.seed)
        holder = world.holder[first - WORLD_FIRST : last - WORLD_FIRST + 1, world.region]
        held = np.ones_like(holder, dtype=bool)
        if self.countries != "all":
            if strange := sorted(set(self.countries) - set(np.unique(world.holder).tolist())):
                raise SourceError(
                    f"countries: the demo world of seed {self.seed} has no country {', '.join(map(str, strange))}; "
                    f"its countries are 1 to {len(world.names)}"
                )
            held = np.isin(holder, self.countries)
            if not held.any(axis=1).all():
                raise SourceError(
                    f"countries: in some of the months none of {', '.join(map(str, self.countries))} exists; add others"
                )
        month, cell = np.nonzero(held)
        static = _static(self.seed)[cell]
        frame = pl.DataFrame(
            {
                "month_id": pl.Series(month + first, dtype=pl.Int32),
                "unit_id": world.gid[cell],
                "parent_id": holder[month, cell],
            }
        )
        return RawMonths(frame=frame.hstack(static), provenance=demo_provenance(self.seed))


@lru_cache(maxsize=2)
def _static(seed: int) -> pl.DataFrame:
    """`COLUMNS` of the map's land cells, in their order."""
    world = demo_map(seed)
    latitude, longitude = np.radians(latitude_of(world.gid)), np.radians(longitude_of(world.gid))
    capital = world.capital[world.region]
    angle = np.sin((latitude - latitude[capital]) / 2) ** 2
    angle += np.cos(latitude) * np.cos(latitude[capital]) * np.sin((longitude - longitude[capital]) / 2) ** 2
    rows, columns = row_of(world.gid), column_of(world.gid)
    around = [
        gid_of(rows + north, (columns - 1 + east) % WORLD_COLUMNS + 1)
        for north in (-1, 0, 1)
        for east in (-1, 0, 1)
        if north or east
    ]
    land = (world.position[np.stack(around)] >= 0).sum(axis=0)
    values = (
        2 * _EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(angle, 1))),
        (world.people - 1) * _TOWNSPEOPLE,
        0.2 + 0.1 * land,
    )
    return pl.DataFrame(dict(zip(COLUMNS, values, strict=True))).cast(pl.Float32)
