"""What every entry that makes forecasts is to those that build on it, and the queryset that it names itself."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import dagster as dg
import polars as pl
from pydantic import Field

from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import CatalogueEntry, entries, line_of
from views_dagster.components.forecast_assets import ForecastAttributes
from views_dagster.components.queryset import Queryset, QuerysetAttributes
from views_dagster.errors import MissingMonthsError
from views_dagster.names import nearest

F = TypeVar("F", bound=ForecastAttributes)
MODELS, ENSEMBLES = "models", "ensembles"


@dataclass(frozen=True)
class Subject:
    """What an entry forecasts.

    Attributes:
        features: name of the queryset whose units and target they are.
        queryset: its settings.
        target: one of its targets.
    """

    features: str
    queryset: QuerysetAttributes
    target: str

    @property
    def features_key(self) -> dg.AssetKey:
        """Key of the table that holds the target's history."""
        return dg.AssetKey(["features", self.features])

    def __str__(self) -> str:
        return f"{self.target} at level {self.queryset.level}"


class ForecastEntry(CatalogueEntry[F], Generic[F]):
    """A component that makes a forecast table.

    Attributes:
        table_group: first part of the table's key.
    """

    adjective_noun = True
    table_group: ClassVar[str]

    @abstractmethod
    def subject(self, context: dg.ComponentLoadContext, folder: Path) -> Subject:
        """What it forecasts; `folder` is its own.

        Raises:
            CatalogueError: it names a queryset, target or other entry that does not exist.
        """

    @classmethod
    def key(cls, name: str) -> dg.AssetKey:
        """Key of the table of the entry called `name`."""
        return dg.AssetKey([cls.table_group, name])


class CombinedAttributes(ForecastAttributes):
    """What forecasts that are made from others have in common."""

    leading: bool = Field(default=False, description="Shown first to people who read the release; one may be.")


def forecast_entries(context: dg.ComponentLoadContext, system: Path, *rooms: str) -> dict[str, ForecastEntry[Any]]:
    """All entries of these rooms, by name, whatever their class."""
    # The class is compared with, never called.
    kind: type[ForecastEntry[Any]] = ForecastEntry  # type: ignore[type-abstract]
    return {name: entry for room in rooms for name, entry in entries(context, system, room, kind).items()}


def are_present(context: dg.ComponentLoadContext, system: Path, parts: Iterable[ForecastEntry[Any]]) -> bool:
    """Whether this deployment has all these entries; a retired one counts, since naming it is a mistake to be told."""
    return all(part.attributes.maturity == "retired" or part.is_present(context, system) for part in parts)


def queryset_is_present(context: dg.ComponentLoadContext, system: Path, features: str) -> bool:
    """Whether this deployment has the queryset; one that does not exist counts, since that is a mistake to be told."""
    queryset = entries(context, system, "features", Queryset).get(features)
    return queryset is None or queryset.is_present(context, system)


def queryset_with(context: dg.ComponentLoadContext, folder: Path, features: str, target: str) -> QuerysetAttributes:
    """The queryset that the entry in `folder` names, which has its target.

    Raises:
        CatalogueError: no such queryset or target.
    """
    known: Mapping[str, Queryset] = entries(context, folder.parents[1], "features", Queryset)
    if features not in known:
        raise CatalogueError(
            f"{line_of(folder, ['features'])}: features: there is no queryset {features}{nearest(features, known)}"
        )
    queryset = known[features].attributes
    if target not in queryset.targets:
        raise CatalogueError(
            f"{line_of(folder, ['target'])}: target: {features} has no target {target}"
            f"{nearest(target, queryset.targets)}"
        )
    return queryset


def require_made_with(rows: pl.DataFrame, columns: Sequence[str], table: str) -> None:
    """Check that the months of a feature table were made since its queryset has all of `columns`.

    Raises:
        MissingMonthsError: a column is absent, or null in every row of a month; names the command that makes them.
    """
    made = rows.group_by("month_id").agg(pl.col(name).is_not_null().any() for name in columns if name in rows.columns)
    for column in columns:
        without = made if column not in rows.columns else made.filter(~pl.col(column))
        if without.height:
            months = sorted(without["month_id"].to_list())
            raise MissingMonthsError(
                f"{table} of {calendar.describe_months(months)} has no column {column}: it was made before the "
                "queryset had it, or its transforms leave nothing. Make these months again with:\n"
                f"  dagster asset materialize --select {table} --partition-range "
                f"{calendar.to_key(months[0])}...{calendar.to_key(months[-1])}"
            )
