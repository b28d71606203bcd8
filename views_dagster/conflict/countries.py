"""Which states exist in which month, and which of them are neighbours."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import polars as pl
from pydantic import Field

from views_dagster.calendar import describe_months, first_day, to_key
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.panel import KEYS
from views_dagster.sources.base import PanelReader, RawMonths
from views_dagster.sources.columns import typed
from views_dagster.sources.files import UserPath, digest, read_table

COUNTRY_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "month_id": pl.Int32(),
    "unit_id": pl.Int64(),
    "name": pl.String(),
    "iso3": pl.String(),
    "neighbours": pl.List(pl.Int64()),
}
"""One row a month and existing state: `unit_id` its Gleditsch-Ward number, `neighbours` ascending and never null."""

LEVEL: Final = "cm"

_COUNTRY_MONTHS: Final[Mapping[str, pl.DataType]] = {
    "gwno": pl.Int64(),
    "month_id": pl.Int32(),
    "country": pl.String(),
}
_STATE_LIST: Final[Mapping[str, pl.DataType]] = {
    "gwcode": pl.Int64(),
    "country_name": pl.String(),
    "start": pl.Date(),
    "end": pl.Date(),
}
_OPTIONAL: Final[Mapping[str, pl.DataType]] = {"iso3": pl.String()}


class Countries(PanelReader):
    """The states of the world, month by month."""

    kind: Literal["countries"] = "countries"
    states: UserPath = Field(
        description="A country-month table (`gwno`, `country`, `month_id`, and `iso3` if known), whose rows are the "
        "states that exist; or a list of states (`gwcode`, `country_name`, `start`, `end`, and `iso3` if known), each "
        "of which exists in every month that its dates, both included, touch."
    )
    adjacency: UserPath = Field(
        description="Pairs of neighbours (`gwno_a`, `gwno_b`) in either order; a pair without both numbers is left out "
        "and counted. The same pairs hold in every month in which both states exist."
    )
    recode: Mapping[int, int] = Field(
        default_factory=lambda: {340: 345},
        description="Numbers in the files that other sources write otherwise: UCDP keeps 345 for Serbia after 2006, "
        "where the list of states begins 340.",
    )

    def columns(self, level: str) -> frozenset[str]:
        """No feature, at level cm; QuerysetError at another."""
        if level != LEVEL:
            raise QuerysetError(f"states are units of level {LEVEL}, not {level}")
        return frozenset()

    @property
    def row_keys(self) -> Sequence[str]:
        return KEYS

    def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
        return raw.select(*KEYS, *self.columns(level))

    def read(self, first: int, last: int) -> RawMonths:
        """Rows of `COUNTRY_SCHEMA` of months `first..last` (month ids, inclusive), sorted by month and unit.

        Repair: `pairs_without_number`, rows of the adjacency file that are left out.

        Raises:
            SourceError: a file is missing, damaged, empty or of another form; a month has no state; a state appears
                twice in a month; a state of a list has no start or ends before it; the adjacency file holds no pair.
        """
        states = self._states(first, last)
        absent = set(range(first, last + 1)) - set(states["month_id"].unique().to_list())
        if absent:
            raise SourceError(f"{self.states} has no state in {describe_months(absent)}; use a file that covers it")
        pairs, dropped = self._pairs()
        neighbours = (
            states.select(*KEYS)
            .join(pairs, on="unit_id")
            .join(states.select(*KEYS), left_on=["month_id", "neighbour"], right_on=KEYS, how="semi")
            .group_by(*KEYS)
            .agg(pl.col("neighbour").sort().alias("neighbours"))
        )
        frame = states.join(neighbours, on=KEYS, how="left").sort(*KEYS)
        return RawMonths(
            frame=frame.with_columns(pl.col("neighbours").fill_null([])).select(
                pl.col(name).cast(wanted) for name, wanted in COUNTRY_SCHEMA.items()
            ),
            repairs={"pairs_without_number": dropped},
            provenance={path.name: f"sha256 {digest(path)}" for path in (self.states, self.adjacency)},
        )

    @property
    def lists_units(self) -> bool:
        return True

    def latest_month(self) -> int | None:
        """The last month of a country-month table; None for a list of states, which has no end."""
        table, is_list = self._read_states()
        return None if is_list else int(table["month_id"].to_numpy().max())

    def _read_states(self) -> tuple[pl.DataFrame, bool]:
        """The file of states, typed, numbers recoded to `unit_id`; and whether it is a list of states."""

        def keep(available: Sequence[str]) -> list[str]:
            for required in (_COUNTRY_MONTHS, _STATE_LIST):
                if set(required) <= set(available):
                    return [*required, *(name for name in _OPTIONAL if name in available)]
            raise SourceError(
                f"{self.states} has the columns {', '.join(available)}; expected a country-month table "
                f"({', '.join(_COUNTRY_MONTHS)}) or a list of states ({', '.join(_STATE_LIST)})"
            )

        table = read_table(self.states, keep=keep)
        is_list = "gwcode" in table.columns
        number, name = ("gwcode", "country_name") if is_list else ("gwno", "country")
        required = _STATE_LIST if is_list else _COUNTRY_MONTHS
        wanted = {column: _OPTIONAL.get(column) or required[column] for column in table.columns}
        table = table.select(typed(table[column], dtype, origin=str(self.states)) for column, dtype in wanted.items())
        for column in required:
            if column != "end" and table[column].has_nulls():
                raise SourceError(f"{self.states}: column {column} is empty in {table[column].null_count()} rows")
        if "iso3" not in table.columns:
            table = table.with_columns(iso3=pl.lit(None, dtype=pl.String))
        return table.rename({number: "unit_id", name: "name"}).with_columns(self._recoded("unit_id")), is_list

    def _states(self, first: int, last: int) -> pl.DataFrame:
        """`month_id`, `unit_id`, `name`, `iso3` of the states in each month, each once."""
        table, is_list = self._read_states()
        if not is_list:
            states = table.filter(pl.col("month_id").is_between(first, last))
            repeated = states.filter(pl.struct(KEYS).is_duplicated())
            if repeated.height:
                raise SourceError(
                    f"{self.states} has state {repeated['unit_id'][0]} more than once in "
                    f"{to_key(repeated['month_id'][0])}; keep one row of each state and month"
                )
            return states.select(*KEYS, "name", "iso3")
        backwards = table.filter(pl.col("end") < pl.col("start"))
        if backwards.height:
            raise SourceError(
                f"{self.states}: state {backwards['unit_id'][0]} ends before it starts; correct its dates"
            )
        months = range(first, last + 1)
        calendar = pl.DataFrame(
            {
                "month_id": pl.Series(months, dtype=pl.Int32),
                "first_day": [first_day(month_id) for month_id in months],
                "next_month": [first_day(month_id + 1) for month_id in months],
            }
        )
        return (
            calendar.join(table, how="cross")
            .filter(
                pl.col("start") < pl.col("next_month"),
                pl.col("end").is_null() | (pl.col("end") >= pl.col("first_day")),
            )
            # A state that is followed by another under the same number within the month is the later one.
            .sort(*KEYS, "start")
            .unique(KEYS, keep="last", maintain_order=True)
            .select(*KEYS, "name", "iso3")
        )

    def _pairs(self) -> tuple[pl.DataFrame, int]:
        """Neighbouring states as `unit_id`, `neighbour`, each pair in both orders, and the rows left out."""
        names = ["gwno_a", "gwno_b"]
        table = read_table(self.adjacency, keep=lambda available: names if set(names) <= set(available) else [])
        table = table.select(typed(table[name], pl.Int64(), origin=str(self.adjacency)) for name in names)
        known = table.drop_nulls().select(self._recoded(*names))
        one_way = known.rename({"gwno_a": "unit_id", "gwno_b": "neighbour"})
        other_way = one_way.select(pl.col("neighbour").alias("unit_id"), pl.col("unit_id").alias("neighbour"))
        pairs = pl.concat([one_way, other_way]).filter(pl.col("unit_id") != pl.col("neighbour")).unique()
        if pairs.is_empty():
            raise SourceError(f"{self.adjacency} holds no pair of states; it needs numbers in {' and '.join(names)}")
        return pairs, table.height - known.height

    def _recoded(self, *columns: str) -> pl.Expr:
        return pl.col(columns).replace(dict(self.recode))
