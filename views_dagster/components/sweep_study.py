"""What the steps of a sweep have in common: the study they work on, whom they tell of a trial, and what they report."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import dagster as dg
import polars as pl

from resources.tracking import Tracking
from views_dagster import calendar
from views_dagster.components.catalogue import line_of
from views_dagster.components.metadata import frame_head, number, picture
from views_dagster.learners.artifacts import library_versions
from views_dagster.storage.digests import digest_frame
from views_dagster.tuning import pictures
from views_dagster.tuning.importance import importances
from views_dagster.tuning.proposal import propose
from views_dagster.tuning.records import SweepResult, TrialRecord
from views_dagster.tuning.space import StartingPoint, SweepSettings
from views_dagster.tuning.sweep import study_name
from views_dagster.tuning.worker import Sweep

LIBRARIES: Final = ("lightgbm", "numpy", "scikit-learn", "scipy", "torch")
"""Packages whose version can change a score: trials scored with other ones do not compare."""

Arguments = Callable[[pl.LazyFrame, int, Path], Mapping[str, Any]]
"""Given the features, the month and a folder for files, the objective's arguments."""

Context = dg.AssetExecutionContext | dg.OpExecutionContext


@dataclass(frozen=True)
class SweepStudy:
    """A model's sweep, in any month.

    Attributes:
        name: of the model.
        folder: the model's own.
        start: its learner as it is.
        objective, arguments: as a `Sweep` takes them.
        measure: what the objective is, in words.
        begins: first month that has a sweep.
    """

    name: str
    folder: Path
    settings: SweepSettings
    start: StartingPoint
    objective: str
    arguments: Arguments
    measure: str
    begins: int

    def is_before(self, partition: str) -> bool:
        """Whether the month is too early for a sweep."""
        return calendar.from_key(partition) < self.begins

    @contextmanager
    def prepared(self, partition: str, tracking: Tracking, features: pl.LazyFrame) -> Iterator[tuple[Sweep, str]]:
        """The sweep of a month, whose files last as long as the context, and the digest of the features.

        Equal features make the same study, whichever step asks.
        """
        storage_url = tracking.studies()
        rows = features.collect()
        data = digest_frame(
            rows, [key for key in ("month_id", "valid_time", "box_id", "unit_id") if key in rows.columns]
        )
        with tempfile.TemporaryDirectory() as scratch:
            given = dict(self.arguments(rows.lazy(), calendar.from_key(partition), Path(scratch)))
            about = {
                "data": data,
                "measure": self.measure,
                "libraries": library_versions(LIBRARIES, version),
                # What is in the folder is the data again, and the folder is another one each time.
                **{label: value for label, value in given.items() if not str(value).startswith(scratch)},
            }
            del rows
            sweep = Sweep(
                study=study_name(self.name, partition, self.settings, self.start, about=about),
                storage_url=storage_url,
                settings=self.settings,
                start=self.start,
                objective=self.objective,
                arguments=given,
            )
            yield sweep, data

    def teller(self, context: Context, tracking: Tracking, sweep: Sweep) -> Callable[[TrialRecord], None]:
        """What tells the tracker of a finished trial."""

        def tell(record: TrialRecord) -> None:
            tracking.log_trial(
                context,
                study=sweep.study,
                model=self.name,
                month=context.partition_key,
                number=record.number,
                state=record.state,
                parameters=record.values,
                score=record.score,
            )

        return tell

    def report(self, context: Context, result: SweepResult, data: str) -> pl.DataFrame:
        """Show what was found with the asset; returns its rows."""
        best, study, space = result.best, result.study, self.settings.space
        present = None if result.current is None else result.current.score
        path = "/".join(self.folder.parts[-4:]) + "/defs.yaml"
        change = propose((self.folder / "defs.yaml").read_text(), best.values, self.start, file=path)
        context.log.info(
            f"best of {len(result.trials)} trials: {best.score:.6g} with {best.values}; "
            + (
                f"to take it over, save this and run patch -p1 on it:\n{change}"
                if change
                else "the settings as they are"
            )
        )
        shown = {"history": pictures.history(result, measure=self.measure, title=study)}
        shown["slices"] = pictures.slices(result, space, measure=self.measure, title=study)
        if shares := importances(result, space):
            shown["importance"] = pictures.importance(shares, title=study)
        context.add_output_metadata(
            {
                **{label: picture(png, f"{label} of {study}") for label, png in shown.items()},
                "proposed_change": dg.MetadataValue.md(
                    f"```diff\n{change}```\nSave it and run `patch -p1 < change.diff` in the project's folder, or edit "
                    f"`{line_of(self.folder, ['learner'])}`."
                    if change
                    else "The settings as they are were the best."
                ),
                "best_score": number(best.score if best.score is not None else float("nan")),
                **({} if present is None else {"present_score": number(present)}),
                "trials": len(result.trials),
                "pruned": result.count("pruned"),
                "failed": result.count("failed"),
                "study": study,
                "head": frame_head(result.to_frame().sort("score", nulls_last=True)),
                "features_digest": data,
            }
        )
        month = calendar.from_key(context.partition_key)
        return result.to_frame().select(pl.lit(month, pl.Int32).alias("month_id"), pl.all())
