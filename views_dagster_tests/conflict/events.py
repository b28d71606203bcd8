"""Events made for tests, and the real Candidate release in the form in which UCDP publishes it."""

from datetime import date
from typing import Any

import polars as pl

from views_dagster.conflict.ucdp_events import normalise

PUBLISHED_COLUMNS = [
    "id",
    "relid",
    "year",
    "active_year",
    "code_status",
    "type_of_violence",
    "conflict_dset_id",
    "conflict_new_id",
    "conflict_name",
    "dyad_dset_id",
    "dyad_new_id",
    "dyad_name",
    "side_a_dset_id",
    "side_a_new_id",
    "side_a",
    "side_b_dset_id",
    "side_b_new_id",
    "side_b",
    "number_of_sources",
    "source_article",
    "source_office",
    "source_date",
    "source_headline",
    "source_original",
    "where_prec",
    "where_coordinates",
    "where_description",
    "adm_1",
    "adm_2",
    "latitude",
    "longitude",
    "geom_wkt",
    "priogrid_gid",
    "country",
    "country_id",
    "region",
    "event_clarity",
    "date_prec",
    "date_start",
    "date_end",
    "deaths_a",
    "deaths_b",
    "deaths_civilians",
    "deaths_unknown",
    "best",
    "high",
    "low",
    "gwnoa",
    "gwnob",
]


def row(**changes: Any) -> dict[str, Any]:
    """One published event: id 1, state-based, Sudan, 2024-01-10, 3 to 8 deaths, best 5; with `changes`."""
    return {
        "id": 1,
        "date_start": date(2024, 1, 10),
        "date_end": changes.get("date_start", date(2024, 1, 10)),
        "type_of_violence": 1,
        "country_id": 625,
        "country": "Sudan",
        "conflict_name": "Sudan: Government",
        "side_a": "Government of Sudan",
        "side_b": "RSF",
        "where_prec": 1,
        "latitude": 15.5,
        "longitude": 32.5,
        "priogrid_gid": 151986,
        "best": 5,
        "low": 3,
        "high": 8,
    } | changes


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    """Published events as `EVENT_SCHEMA`."""
    return normalise(pl.DataFrame(rows, infer_schema_length=None), origin="made events")


def as_published(candidate: pl.DataFrame) -> pl.DataFrame:
    """The real Candidate rows with all 49 columns and UCDP's dates, their texts with commas, quotes and line breaks."""
    text = pl.lit('A "reliable", second-hand report\nof 3, perhaps 4, dead', dtype=pl.String)
    dates = [pl.col(name).dt.strftime("%Y-%m-%d 00:00:00.000") for name in ("date_start", "date_end")]
    full = candidate.with_columns(
        *dates,
        *(text.alias(name) for name in ("source_article", "source_headline", "where_description")),
        active_year=pl.lit("true"),
        geom_wkt=pl.format("POINT ({} {})", "longitude", "latitude"),
        number_of_sources=pl.lit("-1"),
    )
    absent = (pl.lit(None, dtype=pl.String).alias(name) for name in PUBLISHED_COLUMNS if name not in full.columns)
    return full.with_columns(*absent).select(PUBLISHED_COLUMNS)
