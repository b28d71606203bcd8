"""What models and ensembles of band fractions share: settings, the stored table, its checks, and what the UI shows."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import Attributes, CatalogueEntry, entries, line_of
from views_dagster.components.checks import suite_checks
from views_dagster.components.column_set import ColumnSet
from views_dagster.components.forecast_assets import Maturity
from views_dagster.components.metadata import number, picture
from views_dagster.drift.results import CheckResult, not_evaluated
from views_dagster.names import nearest
from views_dagster.precipitation import bands
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.column_arrays import as_lists
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.drift.diagnoses import DIAGNOSIS_CHECKS, DiagnosisSummary, check_diagnosis
from views_dagster.precipitation.drift.settings import DiagnosisDriftSettings
from views_dagster.precipitation.learners.base import Diagnosis
from views_dagster.precipitation.mix_pictures import band_mix_over_time
from views_dagster.precipitation.pictures import animate_exceedance, band_maps, exceedance_maps
from views_dagster.reports.tables import image_markdown
from views_dagster.storage.tables import TableStore

DIAGNOSIS_KEYS: Final = ("month_id", "model", "valid_time", "box_id")
SHOWN_EDGE: Final = 1
"""Which of the edges the animation shows: the second, 0.5 mm/h, is what most people call rain."""


class DiagnosisAttributes(Attributes):
    """What models and ensembles of band fractions have in common."""

    maturity: Maturity = Field(
        default="candidate",
        description="candidate: materialised, not released; deployed: in the month's release; retired: no assets.",
    )
    drift: DiagnosisDriftSettings = Field(
        default_factory=DiagnosisDriftSettings, description="Thresholds of the checks of each month's fractions."
    )


D = TypeVar("D", bound=DiagnosisAttributes)


class DiagnosisEntry(CatalogueEntry[D], Generic[D]):
    """A component that makes a table of band fractions.

    Attributes:
        table_group: first part of the table's key.
    """

    adjective_noun = True
    table_group: ClassVar[str]

    @abstractmethod
    def column_set(self, context: dg.ComponentLoadContext, folder: Path) -> tuple[str, ColumnSet]:
        """Name and entry of the column set whose boxes it is about; `folder` is its own.

        Raises:
            CatalogueError: it names something that does not exist.
        """

    @abstractmethod
    def begins(self, context: dg.ComponentLoadContext, folder: Path) -> int:
        """Month id of the first month that it has."""

    @classmethod
    def key(cls, name: str) -> dg.AssetKey:
        """Key of the table of the entry called `name`."""
        return dg.AssetKey([cls.table_group, name])


def diagnosis_entries(context: dg.ComponentLoadContext, system: Path, *rooms: str) -> dict[str, DiagnosisEntry[Any]]:
    """All entries of these rooms, by name, whatever their class."""
    # The class is compared with, never called.
    kind: type[DiagnosisEntry[Any]] = DiagnosisEntry  # type: ignore[type-abstract]
    return {name: entry for room in rooms for name, entry in entries(context, system, room, kind).items()}


def column_set_of(context: dg.ComponentLoadContext, folder: Path, name: str) -> ColumnSet:
    """The column set that the entry in `folder` names.

    Raises:
        CatalogueError: there is none of that name, or it names what its sources do not offer.
    """
    system = folder.parents[1]
    known: Mapping[str, ColumnSet] = entries(context, system, ColumnSet.room, ColumnSet)
    if name not in known:
        raise CatalogueError(
            f"{line_of(folder, ['features'])}: features: there is no column set {name}{nearest(name, known)}"
        )
    if known[name].is_present(context, system):
        known[name].require_sound(context, system / ColumnSet.room / name)
    return known[name]


def to_frame(diagnosis: Diagnosis, columns: Columns, *, month: int, model: str) -> pl.DataFrame:
    """Rows of a stored diagnosis: `DIAGNOSIS_KEYS`, `latitude`, `longitude`, `fractions` (lists) and `rain_mean`."""
    return pl.DataFrame(
        {
            "month_id": np.full(len(columns), month, dtype=np.int32),
            "model": pl.Series([model]).new_from_index(0, len(columns)),
            "valid_time": columns.valid_time.astype("datetime64[us]"),
            "box_id": columns.box_id,
            "latitude": columns.latitude,
            "longitude": columns.longitude,
            "fractions": as_lists("fractions", diagnosis.fractions),
            "rain_mean": diagnosis.rain_mean,
        }
    )


def from_frame(rows: pl.DataFrame) -> Diagnosis:
    """Undo `to_frame`: the diagnosis of the rows, in their order."""
    fractions = rows["fractions"].list.to_array(len(rows["fractions"][0])).to_numpy()
    return Diagnosis(np.ascontiguousarray(fractions, dtype=np.float32), rows["rain_mean"].to_numpy())


def diagnosis_checks(
    key: dg.AssetKey, settings: DiagnosisAttributes, column_set: tuple[str, ColumnSet]
) -> dg.AssetChecksDefinition:
    """Checks of a month's fractions: that they are whole and plausible, which blocks, and how they drift."""
    return suite_checks(key, "output", DIAGNOSIS_CHECKS, partial(_checked, key, settings, column_set), partitioned=True)


def _checked(
    key: dg.AssetKey, settings: DiagnosisAttributes, column_set: tuple[str, ColumnSet], store: TableStore, month: int
) -> Iterable[CheckResult]:
    table, (features, entry) = key.to_user_string(), column_set
    held = store.months(table)
    if month not in held:
        return not_evaluated(DIAGNOSIS_CHECKS, f"not evaluated: {table} has no rows of the month")
    edges, source = entry.attributes.edges, f"features/{features}"
    rows = store.scan(source, month, month).select("valid_time", "box_id", "fractions", "members").collect()
    _, in_year = calendar.year_month(month)
    earlier = [each for each in store.months(source) if each < month and calendar.year_month(each)[1] == in_year]
    same_season = store.scan(source, min(earlier, default=month), month - 1).filter(pl.col("month_id").is_in(earlier))
    known = {
        "observed": rows["fractions"].drop_nulls(),
        "climatology": same_season.select("fractions").drop_nulls().collect()["fractions"],
    }
    references = {
        name: fractions.list.to_array(len(edges) + 1).to_numpy().mean(axis=0)
        for name, fractions in known.items()
        if len(fractions)
    }
    members = rows["members"].drop_nulls().explode().to_numpy()
    if len(members):
        references["nwp"] = np.bincount(bands.band_of(members, edges), minlength=len(edges) + 1) / len(members)
    past = [each for each in range(month - settings.drift.history_months, month) if each in held]
    return check_diagnosis(
        store.scan(table, month, month).collect(),
        month,
        rows.select("valid_time", "box_id"),
        edges,
        [DiagnosisSummary.of(store.scan(table, each, each).collect(), each, edges) for each in past],
        references,
        settings.drift,
    )


def diagnosis_metadata(name: str, month: int, columns: Columns, diagnosis: Diagnosis, grid: BoxGrid) -> dict[str, Any]:
    """Numbers of a month, a map of its wettest time, an animation of the day around it, and the mix of bands."""
    title = f"{name} {calendar.to_key(month)}"
    edges = columns.edges
    rows = {name: diagnosis.fractions}
    if columns.observed.any():
        rows["observed"] = columns.fractions
    times, of_row = np.unique(columns.valid_time, return_inverse=True)
    amount = np.bincount(of_row, weights=diagnosis.rain_mean) / np.bincount(of_row)
    wettest = times[int(amount.argmax())]
    at = columns.valid_time == wettest
    # A day and a half, or a fortnight where there is one time a day.
    between = np.diff(times).min() if len(times) > 1 else np.timedelta64(1, "h")
    day = np.abs(columns.valid_time - wettest) <= max(np.timedelta64(18, "h"), 6 * between)
    heading = f"{title}: {str(wettest).replace('T', ' ')[:16]} UTC, the wettest time"
    bands_then = band_maps(
        {label: each[at] for label, each in rows.items()}, columns.box_id[at], grid, edges, title=heading
    )
    maps = exceedance_maps(
        {label: each[at] for label, each in rows.items()}, columns.box_id[at], grid, edges, title=heading
    )
    gif = animate_exceedance(
        {label: each[day] for label, each in rows.items()},
        columns.valid_time[day],
        columns.box_id[day],
        grid,
        edges,
        edge=edges[min(SHOWN_EDGE, len(edges) - 1)],
        title=title,
    )
    mix = band_mix_over_time(rows, columns.valid_time, edges, title=f"{title}: share of the area by band")
    mean = diagnosis.fractions.mean(axis=0, dtype=np.float64)
    return {
        "map": picture(maps, f"fractions at or above each threshold, {title}"),
        "bands": picture(bands_then, f"fractions by band, {title}"),
        "animation": dg.MetadataValue.md(image_markdown(gif, f"around the wettest time, {title}", kind="gif")),
        "band_mix": picture(mix, f"share of the area by band, {title}"),
        **{
            f"mean_fraction_{label}": number(share)
            for label, share in zip(bands.names(edges), mean.tolist(), strict=True)
        },
        "mean_rain": number(float(diagnosis.rain_mean.mean(dtype=np.float64))),
        "columns": len(columns),
        "times": len(times),
    }
