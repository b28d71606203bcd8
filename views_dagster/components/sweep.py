"""The asset `sweeps/<model>`: a search for better hyperparameters of a model, whatever it learns from."""

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import dagster as dg
import polars as pl
from pydantic import BaseModel, TypeAdapter

from resources.storage import BEGINS, ROW_KEYS
from resources.tracking import Tracking
from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.catalogue import HISTORY, MONTHS, digest_of, line_of
from views_dagster.components.metadata import frame_head, number, picture
from views_dagster.learners.artifacts import library_versions
from views_dagster.storage.digests import digest_frame
from views_dagster.tuning import pictures
from views_dagster.tuning.importance import importances
from views_dagster.tuning.proposal import propose
from views_dagster.tuning.records import TrialRecord
from views_dagster.tuning.space import StartingPoint, SweepSettings, problems
from views_dagster.tuning.sweep import run_sweep, study_name
from views_dagster.tuning.worker import Sweep

SWEEP_GROUP: Final = "sweeps"
SWEEP_KEYS: Final = ("month_id", "trial")
LIBRARIES: Final = ("lightgbm", "numpy", "scikit-learn", "scipy", "torch")
"""Packages whose version can change a score: trials scored with other ones do not compare."""

Arguments = Callable[[pl.LazyFrame, int, Path], Mapping[str, Any]]
"""Given the features, the month and a folder for files, the objective's arguments."""


def sweep_asset(
    *,
    name: str,
    folder: Path,
    sweep: SweepSettings,
    learner: BaseModel,
    learners: Any,
    features: dg.AssetKey,
    objective: str,
    arguments: Arguments,
    measure: str,
    begins: int = calendar.FIRST_MONTH,
) -> dg.AssetsDefinition:
    """The asset of a model's sweep.

    Args:
        folder: the model's own.
        learners: type of all learners, against which every corner of the space is checked now.
        features: what the model learns from.
        objective, arguments: as a `Sweep` takes them.
        measure: what the objective is, in words.

    Raises:
        CatalogueError: the space names a setting that does not exist, or values that it may not have; with the lines.
    """
    start = StartingPoint.of(learner)
    if wrong := problems(sweep.space, start, TypeAdapter(learners)):
        raise CatalogueError(
            "\n".join(
                f"{line_of(folder, ['sweep', 'space', path])}: sweep.space.{path}: {what}" for path, what in wrong
            )
        )

    @dg.asset(
        key=dg.AssetKey(["sweeps", name]),
        group_name=SWEEP_GROUP,
        description=(
            f"A search for better hyperparameters of {name}, scored on events and origins of the training period "
            "alone. The best are proposed as a change of its YAML, for a person to accept."
        ),
        partitions_def=MONTHS,
        ins={"features": dg.AssetIn(key=features, partition_mapping=HISTORY)},
        metadata={ROW_KEYS: list(SWEEP_KEYS), BEGINS: calendar.to_key(begins)},
        kinds={"optuna"},
        code_version=digest_of({"sweep": sweep.model_dump(mode="json"), "learner": start.complete})[:12],
    )
    def found(context: dg.AssetExecutionContext, tracking: Tracking, features: pl.LazyFrame) -> pl.DataFrame:
        month = calendar.from_key(context.partition_key)
        if month < begins:
            return pl.DataFrame()
        rows = features.collect()
        data = digest_frame(
            rows, [key for key in ("month_id", "valid_time", "box_id", "unit_id") if key in rows.columns]
        )

        def tell(study: str, record: TrialRecord) -> None:
            tracking.log_trial(
                context,
                study=study,
                model=name,
                month=context.partition_key,
                number=record.number,
                state=record.state,
                parameters=record.values,
                score=record.score,
            )

        with tempfile.TemporaryDirectory() as scratch:
            given = dict(arguments(rows.lazy(), month, Path(scratch)))
            about = {
                "data": data,
                "measure": measure,
                "libraries": library_versions(LIBRARIES, version),
                # What is in the folder is the data again, and the folder is another one each time.
                **{label: value for label, value in given.items() if not str(value).startswith(scratch)},
            }
            study = study_name(name, context.partition_key, sweep, start, about=about)
            result = run_sweep(
                Sweep(
                    study=study,
                    storage_url=tracking.study_storage,
                    settings=sweep,
                    start=start,
                    objective=objective,
                    arguments=given,
                ),
                log=context.log.info,
                on_trial=partial(tell, study),
            )
        best = result.best
        path = "/".join(folder.parts[-4:]) + "/defs.yaml"
        change = propose((folder / "defs.yaml").read_text(), best.values, start, file=path)
        context.log.info(
            f"best of {len(result.trials)} trials: {best.score:.6g} with {best.values}; "
            + (
                f"to take it over, save this and run patch -p1 on it:\n{change}"
                if change
                else "the settings as they are"
            )
        )
        shown = {"history": pictures.history(result, measure=measure, title=study)}
        shown["slices"] = pictures.slices(result, sweep.space, measure=measure, title=study)
        if shares := importances(result, sweep.space):
            shown["importance"] = pictures.importance(shares, title=study)
        context.add_output_metadata(
            {
                **{label: picture(png, f"{label} of {study}") for label, png in shown.items()},
                "proposed_change": dg.MetadataValue.md(
                    f"```diff\n{change}```\nSave it and run `patch -p1 < change.diff` in the project's folder, or edit "
                    f"`{line_of(folder, ['learner'])}`."
                    if change
                    else "The settings as they are were the best."
                ),
                "best_score": number(best.score if best.score is not None else float("nan")),
                **({"present_score": number(result.current.score)} if result.current and result.current.score else {}),
                "trials": len(result.trials),
                "pruned": result.count("pruned"),
                "failed": result.count("failed"),
                "study": study,
                "head": frame_head(result.to_frame().sort("score", nulls_last=True)),
                "features_digest": data,
            }
        )
        return result.to_frame().select(pl.lit(month, pl.Int32).alias("month_id"), pl.all())

    return found
