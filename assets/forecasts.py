"""The month's release: every deployed model and ensemble, one table for each system, and the manifest of both."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import dagster as dg
import polars as pl

from resources.storage import ROW_KEYS, Storage
from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import MONTHLY_FRESHNESS, MONTHS, line_of
from views_dagster.components.diagnosis import DIAGNOSIS_KEYS, DiagnosisEntry, diagnosis_entries
from views_dagster.components.forecast_assets import FORECAST_KEYS, MAP, PLOT, WORST_HIT
from views_dagster.components.forecasting import ENSEMBLES, MODELS, forecast_entries
from views_dagster.components.lineage import ancestry, recorded, vintage
from views_dagster.components.metadata import frame_head
from views_dagster.conflict.release import ROW_KEYS as RELEASE_KEYS
from views_dagster.conflict.release import manifest, release_rows, release_table
from views_dagster.conflict.released import (
    CELL_LEVEL,
    located_cells,
    unit_names,
    worst_hit,
    worst_hit_cells,
)
from views_dagster.errors import MissingMonthsError
from views_dagster.forecasts import Forecast
from views_dagster.precipitation.release import TABLE as DIAGNOSES
from views_dagster.precipitation.release import released_diagnoses, wettest_boxes
from views_dagster.storage.digests import combine, digest_months
from views_dagster.storage.manifests import MANIFESTS
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


def deployed_diagnoses(context: dg.ComponentLoadContext, system: Path) -> dict[str, DiagnosisEntry[Any]]:
    """Deployed models and ensembles of band fractions, by name; those that lead come first, then ensembles."""
    found = diagnosis_entries(context, system, ENSEMBLES, MODELS)
    there = {
        name: entry
        for name, entry in found.items()
        if entry.attributes.maturity == "deployed" and entry.is_present(context, system)
    }
    flagged = [name for name, entry in there.items() if getattr(entry.attributes, "leading", False)]
    if len(flagged) > 1:
        raise CatalogueError(
            f"{line_of(system / ENSEMBLES / flagged[1], ['leading'])}: leading: {flagged[0]} says so too; "
            "leave it to one"
        )
    return {name: there[name] for name in [*flagged, *(name for name in there if name not in flagged)]}


def inputs_of(keys: Iterable[dg.AssetKey]) -> dict[str, dg.AssetKey]:
    """Keys by the names that arguments may have."""
    return {"__".join(key.path): key for key in keys}


@dg.definitions
def release(context: dg.ComponentLoadContext) -> dg.Definitions:
    """The asset `forecasts`."""
    system = context.path.parent / "conflict"
    lead = leading(context, system)
    inputs = inputs_of(deployed(context, system))
    diagnosed = deployed_diagnoses(context, context.path.parent / "precipitation")
    diagnoses = inputs_of(entry.key(name) for name, entry in diagnosed.items())
    edges = {
        name: list(
            entry.column_set(context, context.path.parent / "precipitation" / entry.room / name)[1].attributes.edges
        )
        for name, entry in diagnosed.items()
    }

    @dg.asset(
        key=KEY,
        group_name="forecasts",
        description=(
            "The month's release: one row a model, country or cell, step and target with mean, median, quantiles, "
            "90 % highest-density interval and probabilities of at least 1, 25, 100 and 1000 deaths; beside it one row "
            "a model, time and box with the fractions in the bands of rain. The manifest names the vintage of "
            "everything they were made from and is written last."
        ),
        partitions_def=MONTHS,
        ins={name: dg.AssetIn(key=key) for name, key in {**inputs, **diagnoses}.items()},
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
        # A system may begin later than the calendar; then its tables have no rows of the month yet.
        said = {name: found for name in diagnoses if (found := upstream[name].collect()).height}
        made_from = ancestry(instance, {*tables.values(), *(diagnoses[name].to_user_string() for name in said)}, month)

        def artifact_of(model: str) -> str | None:
            digest: str | None = made_from.get(f"artifacts/{model}", {}).get("digest")
            return digest

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
                    artifact=artifact_of(first["model"]),
                )
            )
        parts: dict[str, Any] = {}
        shown: dict[str, Any] = {}
        if said:
            for name, frame in said.items():
                table = diagnoses[name].to_user_string()
                vintage(instance, table, month, combine(digest_months(frame, DIAGNOSIS_KEYS)))
            fractions = released_diagnoses(list(said.values()), artifact_of)
            first_name = next(iter(said))
            parts[DIAGNOSES] = {
                "table": DIAGNOSES,
                "table_version": storage.store.write(
                    DIAGNOSES, fractions, [month_id], {"dagster_run_id": context.run_id}
                ),
                "rows": fractions.height,
                "leading": diagnoses[first_name].path[-1],
                "edges": {name: edges[name] for name in (diagnoses[each].path[-1] for each in said)},
            }
            seen = recorded(instance, diagnoses[first_name].to_user_string(), month)
            shown["wettest_boxes"] = frame_head(wettest_boxes(said[first_name], count=10))
            shown |= {"rain_map": seen.metadata["map"]} if seen is not None and "map" in seen.metadata else {}
        if rows:
            released = release_table(rows)
            version = storage.save(
                context.get_step_execution_context(), KEY, released, keys=["month_id", *RELEASE_KEYS]
            )
            parts |= {
                "table": "forecasts",
                "table_version": version,
                "rows": released.height,
                "leading": {level: key.path[-1] for level, key in lead.items()},
            }
            shown = {
                **_first_look(instance, storage.store, released, month, lead),
                **shown,
                "head": frame_head(released),
            }
        if not parts:
            raise MissingMonthsError(
                f"nothing that is deployed here has a forecast of {month}: its sources begin later, or no model is "
                "deployed"
            )
        document = manifest(month_id=month_id, release=parts, made_from=made_from)
        written = pl.DataFrame({"month_id": [month_id], "manifest": [json.dumps(document)]}, MANIFEST_SCHEMA)
        storage.store.write(MANIFESTS, written, [month_id], {"dagster_run_id": context.run_id})
        return dg.MaterializeResult(
            metadata={
                "leading": ", ".join(key.to_user_string() for key in lead.values()),
                **shown,
                "models": len(tables) + len(said),
                "manifest": dg.MetadataValue.json(document),
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
