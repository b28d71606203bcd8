"""`DiagnosisEnsemble`: the band fractions of several models as one."""

import io
from pathlib import Path
from typing import Any, Final

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from resources.storage import BEGINS, ROW_KEYS
from views_dagster import calendar
from views_dagster.components.artifact_rows import stored_beside
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import MONTHS, line_of, named_members, system_folder
from views_dagster.components.column_set import ColumnSet
from views_dagster.components.diagnosis import (
    DIAGNOSIS_KEYS,
    DiagnosisAttributes,
    DiagnosisEntry,
    diagnosis_checks,
    diagnosis_entries,
    diagnosis_metadata,
    from_frame,
    to_frame,
)
from views_dagster.components.diagnosis_model import VALIDATION_FILE
from views_dagster.components.diagnosis_scaffolding import DiagnosisEnsembleScaffolder
from views_dagster.components.forecasting import ENSEMBLES, MODELS
from views_dagster.errors import ForecastError
from views_dagster.precipitation.column_arrays import to_columns
from views_dagster.precipitation.ensembles import AnyPool
from views_dagster.precipitation.learners.base import Diagnosis
from views_dagster.reports.tables import markdown_table

ROWS: Final = ("valid_time", "box_id")
"""What tells the rows of a month apart."""


class DiagnosisEnsembleAttributes(DiagnosisAttributes):
    """Settings of an ensemble of band fractions."""

    members: tuple[str, ...] = Field(min_length=2, description="Names of models of the same column set.")
    method: AnyPool = Field(description="How members become one; `kind` picks it.")
    leading: bool = Field(default=False, description="Shown first to people who read the release; one may be.")


@dg.scaffold_with(DiagnosisEnsembleScaffolder)
class DiagnosisEnsemble(DiagnosisEntry[DiagnosisEnsembleAttributes]):
    """An ensemble, `ensembles/<name>`: its members' fractions pooled."""

    attributes_type = DiagnosisEnsembleAttributes
    room = table_group = ENSEMBLES

    def is_present(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether it is not retired and this deployment has its members."""
        models = diagnosis_entries(context, system, MODELS)
        members = [models[member] for member in self.attributes.members if member in models]
        return self.attributes.maturity != "retired" and all(
            member.attributes.maturity == "retired" or member.is_present(context, system) for member in members
        )

    def column_set(self, context: dg.ComponentLoadContext, folder: Path) -> tuple[str, ColumnSet]:
        """That of its members."""
        name, first = next(iter(self._members(context, folder).items()))
        return first.column_set(context, folder.parents[1] / MODELS / name)

    def begins(self, context: dg.ComponentLoadContext, folder: Path) -> int:
        """When all its members have begun."""
        members = self._members(context, folder)
        return max(model.begins(context, folder.parents[1] / MODELS / name) for name, model in members.items())

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The ensemble's asset and the checks of its fractions; nothing where it is not present."""
        system = system_folder(context)
        if not self.is_present(context, system):
            return dg.Definitions()
        name, settings = context.path.name, self.attributes
        members = self._members(context, context.path)
        features, column_set = self.column_set(context, context.path)
        grid, begins, key = column_set.grid(context, system), self.begins(context, context.path), self.key(name)
        ins = {
            "features": dg.AssetIn(key=["features", features]),
            **{f"forecast_{member}": dg.AssetIn(key=model.key(member)) for member, model in members.items()},
        }
        if settings.method.needs_validation:
            ins |= {f"artifact_{member}": dg.AssetIn(key=["artifacts", member]) for member in members}

        @dg.asset(
            key=key,
            group_name="ensembles",
            description=settings.description,
            partitions_def=MONTHS,
            ins=ins,
            metadata={
                ROW_KEYS: list(DIAGNOSIS_KEYS),
                BEGINS: calendar.to_key(begins),
                "method": settings.method.model_dump(mode="json"),
            },
            tags={"system": system.name, "maturity": settings.maturity},
            kinds={"python"},
            code_version=self.code_version,
        )
        def ensemble(
            context: dg.AssetExecutionContext, features: pl.LazyFrame, **upstream: pl.LazyFrame
        ) -> pl.DataFrame:
            month = calendar.from_key(context.partition_key)
            if month < begins:
                return pl.DataFrame()
            held = features.sort(ROWS).collect()
            columns = to_columns(held, column_set.attributes)
            said = {
                member: _said_of(upstream[f"forecast_{member}"].collect(), held, member, context.partition_key)
                for member in members
            }
            validation, observed = None, None
            if settings.method.needs_validation:
                rows = {
                    member: _validation_rows(upstream[f"artifact_{member}"].collect(), member).sort(ROWS)
                    for member in members
                }
                first = next(iter(rows.values()))
                other = [member for member in members if not rows[member].select(ROWS).equals(first.select(ROWS))]
                if other:
                    raise ForecastError(
                        f"{other[0]} validated on other columns than {next(iter(rows))}; give members the same split, "
                        "or use a linear pool"
                    )
                validation = {member: from_frame(each) for member, each in rows.items()}
                width = len(column_set.attributes.edges) + 1
                observed = np.ascontiguousarray(first["observed"].list.to_array(width).to_numpy(), dtype=np.float32)
            weights = settings.method.weigh(list(members), validation, observed)
            diagnosis = settings.method.combine(said, weights)
            table = pl.DataFrame({"member": list(weights), "weight": list(weights.values())})
            context.add_output_metadata(
                {
                    "weights": dg.MetadataValue.md(markdown_table(table.sort("weight", descending=True), rows=50)),
                    **diagnosis_metadata(name, month, columns, diagnosis, grid),
                }
            )
            return to_frame(diagnosis, columns, month=month, model=name)

        return dg.Definitions(assets=[ensemble], asset_checks=[diagnosis_checks(key, settings, (features, column_set))])

    def _members(self, context: dg.ComponentLoadContext, folder: Path) -> dict[str, DiagnosisEntry[Any]]:
        """The models by name, all of one column set; `folder` is the ensemble's own."""
        settings, system = self.attributes, folder.parents[1]
        members = named_members(folder, settings.members, diagnosis_entries(context, system, MODELS))
        if not settings.method.needs_validation:
            try:
                settings.method.weigh(list(members))
            except ForecastError as error:
                raise CatalogueError(f"{line_of(folder, ['method', 'weights'])}: method.weights: {error}") from None
        sets = {name: model.column_set(context, system / MODELS / name)[0] for name, model in members.items()}
        if len(set(sets.values())) != 1:
            raise CatalogueError(
                f"{line_of(folder, ['members'])}: members: they learn from different column sets: "
                + ", ".join(f"{name} from {features}" for name, features in sets.items())
            )
        return members


def _said_of(forecast: pl.DataFrame, features: pl.DataFrame, member: str, month: str) -> Diagnosis:
    """What a member says of the rows of the features, which are in the order of `ROWS`.

    Raises:
        ForecastError: it speaks of other boxes or times.
    """
    forecast = forecast.sort(ROWS)
    if not forecast.select(ROWS).equals(features.select(ROWS)):
        raise ForecastError(
            f"forecasts/{member} of {month} is of other boxes or times than its features are now; make it again with:\n"
            f"  dagster asset materialize --select forecasts/{member} --partition {month}"
        )
    return from_frame(forecast)


def _validation_rows(artifact: pl.DataFrame, member: str) -> pl.DataFrame:
    """What a member said of the columns that validated it, and what was observed there."""
    return pl.read_parquet(io.BytesIO(stored_beside(artifact, VALIDATION_FILE, member)))
