"""The month's release: every deployed model and ensemble of the conflict system in one table, and its manifest."""

import json
from pathlib import Path
from typing import cast

import dagster as dg
import polars as pl

from resources.storage import ROW_KEYS, Storage
from views_dagster import calendar
from views_dagster.components import Ensemble, ForecastModel
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import MONTHLY_FRESHNESS, MONTHS, entries
from views_dagster.components.forecast_assets import FORECAST_KEYS, PLOT
from views_dagster.components.lineage import ancestry, recorded, vintage
from views_dagster.components.metadata import frame_head
from views_dagster.conflict.release import ROW_KEYS as RELEASE_KEYS
from views_dagster.conflict.release import manifest, release_rows, release_table
from views_dagster.conflict.released import MANIFESTS, country_names, worst_hit
from views_dagster.forecasts import Forecast
from views_dagster.storage.digests import combine, digest_months

KEY = dg.AssetKey(["forecasts"])
MANIFEST_SCHEMA = {"month_id": pl.Int32(), "manifest": pl.String()}


def deployed(context: dg.ComponentLoadContext, system: Path) -> list[dg.AssetKey]:
    """Keys of the forecasts of every deployed model and ensemble of a system."""
    models = entries(context, system, "models", ForecastModel)
    ensembles = entries(context, system, "ensembles", Ensemble)
    return [
        dg.AssetKey([room, name])
        for room, found in (("forecasts", models), ("ensembles", ensembles))
        for name, entry in found.items()
        if entry.attributes.maturity == "deployed"
    ]


def flagged(context: dg.ComponentLoadContext, system: Path) -> list[dg.AssetKey]:
    """The deployed ensemble that is to be shown first, if one says so."""
    ensembles = entries(context, system, "ensembles", Ensemble)
    names = [
        name
        for name, entry in ensembles.items()
        if entry.attributes.leading and entry.attributes.maturity == "deployed"
    ]
    if len(names) > 1:
        raise CatalogueError(f"{' and '.join(names)} all say `leading: true`; leave it to one")
    return [dg.AssetKey(["ensembles", name]) for name in names]


@dg.definitions
def release(context: dg.ComponentLoadContext) -> dg.Definitions:
    """The asset `forecasts`."""
    system = context.path.parent / "conflict"
    keys = deployed(context, system)
    first_shown = flagged(context, system) or [key for key in keys if key.path[0] == "ensembles"] or keys
    inputs = {"__".join(key.path): key for key in keys}

    @dg.asset(
        key=KEY,
        group_name="forecasts",
        description=(
            "The month's release: one row a model, country, step and target with mean, median, quantiles, 90 % "
            "highest-density interval and probabilities of at least 1, 25, 100 and 1000 deaths. The manifest beside it "
            "names the vintage of everything it was made from and is written last."
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
        lead = first_shown[0]
        version = storage.save(context.get_step_execution_context(), KEY, released, keys=["month_id", *RELEASE_KEYS])
        document = manifest(
            month_id=month_id,
            release={
                "table": "forecasts",
                "table_version": version,
                "rows": released.height,
                "leading": lead.path[-1],
            },
            made_from=made_from,
        )
        written = pl.DataFrame({"month_id": [month_id], "manifest": [json.dumps(document)]}, MANIFEST_SCHEMA)
        storage.store.write(MANIFESTS, written, [month_id], {"dagster_run_id": context.run_id})
        names = country_names(storage.store, month_id)
        seen = recorded(instance, lead.to_user_string(), month)
        return dg.MaterializeResult(
            metadata={
                "leading": lead.to_user_string(),
                "worst_hit": frame_head(worst_hit(released, names, model=lead.path[-1], count=10)),
                **({PLOT: seen.metadata[PLOT]} if seen and PLOT in seen.metadata else {}),
                "models": len(tables),
                "manifest": dg.MetadataValue.json(document),
                "head": frame_head(released),
            }
        )

    return dg.Definitions(assets=[forecasts])
