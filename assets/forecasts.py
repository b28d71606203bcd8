"""The month's release: every deployed model and ensemble of the conflict system in one table, and its manifest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import dagster as dg
import polars as pl

from resources.storage import ROW_KEYS, Storage
from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import MONTHLY_FRESHNESS, MONTHS, line_of
from views_dagster.components.forecast_assets import FORECAST_KEYS, MAP, PLOT, WORST_HIT
from views_dagster.components.forecasting import ENSEMBLES, MODELS, forecast_entries
from views_dagster.components.lineage import ancestry, recorded, vintage
from views_dagster.components.metadata import frame_head
from views_dagster.conflict.release import ROW_KEYS as RELEASE_KEYS
from views_dagster.conflict.release import manifest, release_rows, release_table
from views_dagster.conflict.released import (
    CELL_LEVEL,
    MANIFESTS,
    located_cells,
    unit_names,
    worst_hit,
    worst_hit_cells,
)
from views_dagster.forecasts import Forecast
from views_dagster.storage.digests import combine, digest_months
from views_dagster.storage.tables import TableStore

KEY = dg.AssetKey(["forecasts"])
MANIFEST_SCHEMA = {"month_id": pl.Int32(), "manifest": pl.String()}


def deployed(context: dg.ComponentLoadContext, system: Path) -> list[dg.AssetKey]:
    """Keys of the forecasts of every deployed model and ensemble of a system."""
    return [
        entry.key(name)
        for name, entry in forecast_entries(context, system, MODELS, ENSEMBLES).items()
        if entry.attributes.maturity == "deployed" and entry.is_present(context, system)
    ]


def leading(context: dg.ComponentLoadContext, system: Path) -> dict[str, dg.AssetKey]:
    """What people are shown first, by level: the deployed ensemble that says so, else the first ensemble or model.

    Raises:
        CatalogueError: several ensembles of a level say so.
    """
    found: dict[str, dg.AssetKey] = {}
    flagged: dict[str, str] = {}
    for room in (ENSEMBLES, MODELS):
        for name, entry in forecast_entries(context, system, room).items():
            if entry.attributes.maturity != "deployed" or not entry.is_present(context, system):
                continue
            folder = system / room / name
            level = entry.subject(context, folder).queryset.level
            if getattr(entry.attributes, "leading", False):
                if level in flagged:
                    raise CatalogueError(
                        f"{line_of(folder, ['leading'])}: leading: {flagged[level]} says so too; leave it to one "
                        f"of level {level}"
                    )
                flagged[level], found[level] = name, entry.key(name)
            found.setdefault(level, entry.key(name))
    return found


@dg.definitions
def release(context: dg.ComponentLoadContext) -> dg.Definitions:
    """The asset `forecasts`."""
    system = context.path.parent / "conflict"
    keys = deployed(context, system)
    lead = leading(context, system)
    inputs = {"__".join(key.path): key for key in keys}

    @dg.asset(
        key=KEY,
        group_name="forecasts",
        description=(
            "The month's release: one row a model, country or cell, step and target with mean, median, quantiles, "
            "90 % highest-density interval and probabilities of at least 1, 25, 100 and 1000 deaths. The manifest "
            "beside it names the vintage of everything it was made from and is written last."
        ),
        partitions_def=MONTHS,
        ins={name: dg.AssetIn(key=key) for name, key in inputs.items()},
        metadata={ROW_KEYS: list(RELEASE_KEYS)},
        kinds={"deltalake"},
        freshness_policy=MONTHLY_FRESHNESS,
        required_resource_keys={"io_manager"},
    )
    def forecasts(context: dg.AssetExecutionContext, **upstream: pl.LazyFrame) -> dg.MaterializeResult[None]:
        storage = cast(Storage, context.resources.io_manager)
        month, instance = context.partition_key, context.instance
        month_id = calendar.from_key(month)
        tables = {name: key.to_user_string() for name, key in inputs.items()}
        made_from = ancestry(instance, set(tables.values()), month)
        rows = []
        for name, table in tables.items():
            frame = upstream[name].collect()
            vintage(instance, table, month, combine(digest_months(frame, FORECAST_KEYS)))
            first = frame.row(0, named=True)
            rows.append(
                release_rows(
                    Forecast.from_frame(frame),
                    model=first["model"],
                    level=first["level"],
                    target=first["target"],
                    artifact=made_from.get(f"artifacts/{first['model']}", {}).get("digest"),
                )
            )
        released = release_table(rows)
        version = storage.save(context.get_step_execution_context(), KEY, released, keys=["month_id", *RELEASE_KEYS])
        document = manifest(
            month_id=month_id,
            release={
                "table": "forecasts",
                "table_version": version,
                "rows": released.height,
                "leading": {level: key.path[-1] for level, key in lead.items()},
            },
            made_from=made_from,
        )
        written = pl.DataFrame({"month_id": [month_id], "manifest": [json.dumps(document)]}, MANIFEST_SCHEMA)
        storage.store.write(MANIFESTS, written, [month_id], {"dagster_run_id": context.run_id})
        return dg.MaterializeResult(
            metadata={
                "leading": ", ".join(key.to_user_string() for key in lead.values()),
                **_first_look(instance, storage.store, released, month, lead),
                "models": len(tables),
                "manifest": dg.MetadataValue.json(document),
                "head": frame_head(released),
            }
        )

    return dg.Definitions(assets=[forecasts])


def _first_look(
    instance: dg.DagsterInstance, store: TableStore, released: pl.DataFrame, month: str, lead: Mapping[str, dg.AssetKey]
) -> dict[str, Any]:
    """The hardest-hit units of each level by its leading forecast, and the pictures of that."""
    month_id = calendar.from_key(month)
    look: dict[str, Any] = {}
    for level, key in lead.items():
        seen = recorded(instance, key.to_user_string(), month)
        pictures = seen.metadata if seen is not None else {}
        if level == CELL_LEVEL:
            cells = located_cells(store, month_id)
            look[f"{WORST_HIT}_cells"] = frame_head(worst_hit_cells(released, cells, model=key.path[-1], count=10))
            look |= {MAP: pictures[MAP]} if MAP in pictures else {}
        else:
            names = unit_names(store, month_id)
            look[WORST_HIT] = frame_head(worst_hit(released, names, model=key.path[-1], count=10, level=level))
            look |= {PLOT: pictures[PLOT]} if PLOT in pictures else {}
    return look
