"""The cells of the PRIO-GRID: which there are, what is known of them for good, and which country holds each when."""

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import polars as pl
from pydantic import Field

from views_dagster.calendar import describe_months
from views_dagster.conflict.successions import SUCCESSIONS
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.geography import CELLS, column_of, row_of
from views_dagster.panel import KEYS
from views_dagster.sources.base import PanelReader, RawMonths
from views_dagster.sources.columns import typed
from views_dagster.sources.files import UserPath, digest, read_table

LEVEL: Final = "pgm"
CELL_KEYS: Final[Mapping[str, pl.DataType]] = {
    "month_id": pl.Int32(),
    "unit_id": pl.Int64(),
    "parent_id": pl.Int64(),
}
"""A cell in a month: `unit_id` its PRIO-GRID id, `parent_id` the Gleditsch-Ward number of the country that holds it."""

FILE_COLUMNS: Final[Mapping[str, str]] = {
    "land_share": "land_frac",
    "agriculture": "agri_gc",
    "city_population": "city_pop",
    "cities": "n_cities",
    "largest_city_population": "max_city_pop",
    "capital_distance": "dist_capital_km",
}
"""Static columns by their names in a file of cells; the embedded table has the land share alone."""

_HIGHEST: Final[Mapping[str, float]] = {"land_share": 1.0, "agriculture": 100.0}
_ROUNDING: Final = 1e-4

AFRICA_ME: Final = (402, 698)
"""First and last Gleditsch-Ward number of the states of Africa and the Middle East, which hold all between."""

_EMBEDDED: Final = Path(__file__).with_name("cells.parquet")
_REPAIRS: Final = ("cells_without_country", "edge_cells_given_to_neighbours", "values_of_nearest_cell")
_FLAGS: Final = {"africa_me": "in_views_africa_me", "global": "in_priogrid_v2"}


def require_cell_level(what: str, level: str) -> None:
    """QuerysetError unless `level` is that of cells."""
    if level != LEVEL:
        raise QuerysetError(f"{what} are units of level {LEVEL}, not {level}")


class CellReader(PanelReader, ABC):
    """Base of the readers of cells: `parent_id`, the country that holds each, and what is known of them for good."""

    @property
    def row_keys(self) -> Sequence[str]:
        return KEYS

    @property
    def parent_level(self) -> str:
        return "cm"

    @property
    def lists_units(self) -> bool:
        return True

    def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
        return raw.select(*KEYS, *sorted(self.columns(level)))


class PrioGrid(CellReader):
    """The cells of a domain and the country that holds each, month by month."""

    kind: Literal["prio_grid"] = "prio_grid"
    domain: Literal["africa_me", "global"] | Annotated[tuple[int, ...], Field(min_length=1)] = Field(
        default="africa_me",
        description="`africa_me` (Africa and the Middle East, as VIEWS has it), `global` (all land), or Gleditsch-Ward "
        "numbers of countries: their cells, in the months in which one of them holds the cell.",
    )
    cells: UserPath | None = Field(
        default=None,
        description="A table of cells: `gid`, `gwno` (today's country), the flags `in_views_africa_me` and "
        f"`in_priogrid_v2`, and {', '.join(FILE_COLUMNS.values())}. Without one, the embedded table of land shares and "
        "countries after Natural Earth, whose `africa_me` differs from VIEWS' in some cells on coasts and borders.",
    )

    def columns(self, level: str) -> frozenset[str]:
        """What is known of cells for good; the embedded table knows the land share alone, the others are null in it.

        `land_share` 0..1, `agriculture` % of the area, `city_population` and `largest_city_population` people in towns,
        `cities` towns, `capital_distance` km.

        Raises:
            QuerysetError: another level than pgm.
        """
        require_cell_level("cells", level)
        return frozenset(FILE_COLUMNS)

    def read(self, first: int, last: int) -> RawMonths:
        """`CELL_KEYS` and the static columns (Float32) of months `first..last`, sorted by month and cell.

        Repairs count cells of the domain. `cells_without_country`: the file leaves their country open. They belong to
        the country of the embedded table, in which dependencies belong to the state that administers them, Western
        Sahara to Morocco and Palestine to Israel; one that is not there, to that of the nearest cell with a country.
        `edge_cells_given_to_neighbours`: cells of VIEWS' Africa and Middle East that lie mostly in a country outside.
        They belong to the country of the nearest cell inside, so that no country has a mere strip of cells.
        `values_of_nearest_cell`: a static value is unknown, as the distance to the capital where there is no country,
        and that of the nearest cell is taken.

        Raises:
            SourceError: the file is missing, damaged or lacks a column; it repeats a cell, holds one off the grid, or a
                value that cannot be;
                a country of the domain never holds a cell, or none of them does in a month.
        """
        table = self._domain()
        static = sorted(self.columns(LEVEL))
        months = pl.DataFrame({"month_id": pl.Series(range(first, last + 1), dtype=pl.Int32)})
        cells = table.sort("gid").join(SUCCESSIONS, left_on="gwno", right_on="state", how="left")
        frame = months.join(cells, how="cross", maintain_order="left_right").select(
            "month_id",
            pl.col("gid").alias("unit_id"),
            pl.when(pl.col("month_id") < pl.col("since")).then("predecessor").otherwise("gwno").alias("parent_id"),
            *static,
        )
        if not isinstance(self.domain, str):
            frame = frame.filter(pl.col("parent_id").is_in(self.domain))
            absent = set(range(first, last + 1)) - set(frame["month_id"].unique())
            if absent:
                raise SourceError(
                    f"domain: none of the countries {', '.join(map(str, self.domain))} holds a cell in "
                    f"{describe_months(absent)}; add their predecessors, or ask for later months"
                )
            table = table.join(frame.select("unit_id"), left_on="gid", right_on="unit_id", how="semi")
        return RawMonths(
            frame=frame,
            repairs={name: int(table[name].sum()) for name in _REPAIRS},
            provenance={self._path.name: f"sha256 {digest(self._path)}"},
        )

    def _domain(self) -> pl.DataFrame:
        """Cells that may be in the domain: `gid`, `gwno` (today's country), static columns and flags of `_REPAIRS`."""
        table = self._table()
        static = sorted(self.columns(LEVEL))
        table = _with_owners(table.with_columns(cells_without_country=pl.col("gwno").is_null()), self._path)
        on_edge = pl.lit(False)
        if self.domain == "africa_me":
            inside = pl.col("gwno").is_between(*AFRICA_ME)
            table = table.filter(pl.col(_FLAGS["africa_me"]) if self.cells else inside)
            on_edge = ~inside
        elif self.domain != "global":
            table = _of_countries(table, self.domain)
        table = table.with_columns(edge_cells_given_to_neighbours=on_edge).with_columns(
            pl.when(~pl.col("edge_cells_given_to_neighbours")).then(pl.col(name)).alias(name)
            for name in ("gwno", "capital_distance")
            if name in table.columns
        )
        known = [name for name in static if table[name].null_count() < table.height]
        table = table.with_columns(values_of_nearest_cell=pl.any_horizontal(pl.col(known).is_null()))
        for column in ("gwno", *static):
            table = _with_nearest(table, column)
        return table

    @property
    def _path(self) -> Path:
        return self.cells or _EMBEDDED

    def _table(self) -> pl.DataFrame:
        """All cells: `gid`, `gwno`, the flag of the domain if it needs one, static columns by their names here."""
        if self.cells is None:
            table = pl.read_parquet(_EMBEDDED).cast({"gid": pl.Int64, "gwno": pl.Int64})
            unknown = [name for name in FILE_COLUMNS if name not in table.columns]
            return table.with_columns(pl.lit(None, dtype=pl.Float32).alias(name) for name in unknown)
        flag = _FLAGS[self.domain] if isinstance(self.domain, str) else _FLAGS["global"]
        table = read_table(self.cells, keep=self._wanted([flag]))
        origin = str(self.cells)
        flags = typed(
            table[flag].cast(pl.String).str.to_lowercase().replace({"true": "1", "false": "0"}),
            pl.Int8(),
            origin=origin,
        ).eq(1)
        table = table.select(
            typed(table["gid"], pl.Int64(), origin=origin),
            typed(table["gwno"], pl.Int64(), origin=origin),
            flags.fill_null(False).alias(flag),
            *(
                typed(table[column], pl.Float64(), origin=origin).cast(pl.Float32).alias(name)
                for name, column in FILE_COLUMNS.items()
            ),
        )
        strange = table.filter(~pl.col("gwno").is_between(1, 999))
        if strange.height:
            raise SourceError(
                f"{origin}: {strange.height} cells have a gwno that is no Gleditsch-Ward number (1 to 999): gid "
                f"{', '.join(map(str, strange['gid'].head(5)))}; correct it, or leave it empty"
            )
        if not table[flag].any():
            raise SourceError(f"{origin}: no cell has the flag {flag}; write true or 1 for those of the domain")
        off = table.filter(~pl.col("gid").is_between(1, CELLS) | pl.col("gid").is_null())
        if off.height:
            raise SourceError(
                f"{origin}: {off.height} rows have a gid that is no cell of the PRIO-GRID (1 to {CELLS}): "
                f"{', '.join(map(str, off['gid'].head(5)))}; correct or remove them"
            )
        for name, column in FILE_COLUMNS.items():
            highest = _HIGHEST.get(name, float("inf"))
            odd = table.filter((pl.col(name) < 0) | (pl.col(name) > highest * (1 + _ROUNDING)))
            if odd.height:
                raise SourceError(
                    f"{origin}: column {column} is {odd[name][0]:g} in cell {odd['gid'][0]}, and beyond 0 to "
                    f"{highest:g} in {odd.height} cells; correct it, or leave it empty"
                )
        repeated = table.filter(pl.col("gid").is_duplicated())
        if repeated.height:
            ids = repeated["gid"].unique().sort()
            raise SourceError(
                f"{origin} has {repeated.height} rows that share their gid: {', '.join(map(str, ids.head(5)))}; "
                "keep one row of each cell"
            )
        return table if self.domain == "africa_me" else table.filter(flag)

    def _wanted(self, flags: Sequence[str]) -> Any:
        wanted = ["gid", "gwno", *flags, *FILE_COLUMNS.values()]

        def keep(available: Sequence[str]) -> list[str]:
            if missing := [name for name in wanted if name not in available]:
                raise SourceError(f"{self.cells} has no column {', '.join(missing)}; it has {', '.join(available)}")
            return wanted

        return keep


def _of_countries(table: pl.DataFrame, countries: Sequence[int]) -> pl.DataFrame:
    """The cells that one of the countries holds today or held before a succession."""
    held = table.join(SUCCESSIONS, left_on="gwno", right_on="state", how="left")
    known = set(held["gwno"]) | set(held["predecessor"].drop_nulls())
    if strange := sorted(set(countries) - known):
        raise SourceError(
            f"domain: no cell of the PRIO-GRID ever belongs to country {', '.join(map(str, strange))}; correct the "
            "Gleditsch-Ward number, or leave out a country too small to hold a cell"
        )
    return held.filter(pl.col("gwno").is_in(countries) | pl.col("predecessor").is_in(countries)).select(table.columns)


def _with_owners(table: pl.DataFrame, origin: Path) -> pl.DataFrame:
    """The cells (`gid`, `gwno`, ...) with no country left open, in their order; see `PrioGrid.read`."""
    if not table["gwno"].has_nulls():
        return table
    embedded = pl.read_parquet(_EMBEDDED).select(pl.col("gid").cast(pl.Int64), owner=pl.col("gwno").cast(pl.Int64))
    owned = table.join(embedded, on="gid", how="left", maintain_order="left")
    owned = _with_nearest(owned.with_columns(pl.coalesce("gwno", "owner").alias("gwno")).drop("owner"), "gwno")
    if owned["gwno"].has_nulls():
        raise SourceError(f"{origin}: no cell has a country; fill in gwno")
    return owned


def _with_nearest(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """The cells (`gid`, ...) with the value of the nearest cell that has one where `column` is null."""
    unknown = table[column].is_null()
    if not unknown.any() or unknown.all():
        return table
    from scipy.spatial import KDTree

    places = np.column_stack([of(table["gid"].to_numpy()) for of in (row_of, column_of)])
    _, nearest = KDTree(places[~unknown.to_numpy()]).query(places[unknown.to_numpy()])
    values = table[column].drop_nulls().gather(np.asarray(nearest))
    return table.with_columns(table[column].scatter(unknown.arg_true(), values))
