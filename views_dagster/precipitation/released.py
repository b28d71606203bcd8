"""What people read of this system's part of a release: its rows, the mix of bands, and where and when it rains most."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from views_dagster.precipitation import bands
from views_dagster.precipitation.release import TABLE
from views_dagster.storage.manifests import ReleasedTable
from views_dagster.storage.tables import TableStore

RELEASED: Final = ReleasedTable(TABLE, part=TABLE)


@dataclass(frozen=True)
class Release:
    """What a complete release of one month holds of this system.

    Attributes:
        month_id: the month.
        rows: as `views_dagster.precipitation.release.released_diagnoses` makes them, lazily.
        described: the manifest's description of them.
        made_from: the vintage of each table that they come from, by its key.
    """

    month_id: int
    rows: pl.LazyFrame
    described: Mapping[str, Any]
    made_from: Mapping[str, Mapping[str, Any]]

    @property
    def leading(self) -> str:
        """The model or ensemble that people are shown first."""
        return str(self.described["leading"])

    @property
    def models(self) -> list[str]:
        """All models and ensembles, the leading one first."""
        return [self.leading, *sorted(name for name in self.described["edges"] if name != self.leading)]

    def bands(self, model: str) -> tuple[str, ...]:
        """Names of the model's bands, in mm/h."""
        return bands.names(tuple(self.described["edges"][model]))

    def table_of(self, model: str) -> str:
        """Key of the table with the model's own forecasts."""
        ensemble = f"ensembles/{model}"
        return ensemble if ensemble in self.made_from else f"forecasts/{model}"


def read_release(store: TableStore, month_id: int) -> Release:
    """The month's release.

    Raises:
        MissingMonthsError: there is none, it has nothing of this system, or it is not complete.
    """
    manifest = RELEASED.manifest(store, month_id)
    described = RELEASED.described(manifest)
    assert described is not None
    return Release(month_id, RELEASED.rows(store, month_id, manifest), described, manifest["made_from"])


def with_bands(rows: pl.LazyFrame, names: tuple[str, ...]) -> pl.LazyFrame:
    """The rows with a column `fraction <band>` for each band in place of the list `fractions`."""
    each = [pl.col("fractions").list.get(at).alias(f"fraction {name}") for at, name in enumerate(names)]
    return rows.with_columns(each).drop("fractions")


def band_mix(release: Release) -> dict[str, tuple[list[float], float]]:
    """By model the mean fraction in each of its bands and the mean rain in mm/h, over all boxes and times."""
    found = {}
    for model in release.models:
        names = release.bands(model)
        rows = with_bands(release.rows.filter(pl.col("model") == model), names)
        *mix, rain = (
            rows.select(pl.col(*(f"fraction {name}" for name in names), "rain_mean").cast(pl.Float64).mean())
            .collect()
            .row(0)
        )
        found[model] = (mix, rain)
    return found


def wettest_times(rows: pl.LazyFrame, names: tuple[str, ...], *, count: int) -> pl.DataFrame:
    """The times at which one model has most rain over all boxes, wettest first.

    Returns:
        `valid_time`, `rain_mean` in mm/h, `fraction <band>`, all means over the boxes, and `highest`, the mean rain of
        the wettest box.
    """
    shares = [f"fraction {name}" for name in names]
    return (
        with_bands(rows, names)
        .group_by("valid_time")
        .agg(
            pl.col("rain_mean", *shares).cast(pl.Float64).mean(),
            highest=pl.col("rain_mean").max(),
        )
        .sort(["rain_mean", "valid_time"], descending=[True, False])
        .head(count)
        .collect()
    )
