"""Experiment tracking: dagster-mlflow owns the parent run of a Dagster run; each model and month is a nested run.

MLflow takes seconds to import and to create its database, so both wait until something is logged.
"""

import fcntl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from views_dagster.errors import PlatformError

MODEL, MONTH, DIGEST, DAGSTER_RUN = "model", "month", "artifact_digest", "dagster_run_id"
STUDY, TRIAL = "study", "trial"


class Tracking(dg.ConfigurableResource["Tracking"]):
    """MLflow, by the URI of a server or of a local database."""

    tracking_uri: str = Field(description="MLflow tracking URI: sqlite:///path/to/mlflow.db or http(s)://server.")
    artifact_location: str = Field(
        default="", description="Where a new experiment keeps its files; empty leaves that to the server."
    )
    experiment: str = Field(default="views_dagster", description="MLflow experiment; made where absent.")
    study_storage: str = Field(
        default="", description="SQLAlchemy URL of the database of hyperparameter sweeps; shared by all their workers."
    )
    one_machine: bool = Field(default=True, description="Whether all steps see the same local files.")
    _parent: Any = PrivateAttr(default=None)

    def studies(self) -> str:
        """URL of the database of sweeps.

        Raises:
            PlatformError: it is a file, which is gone with the pod that has it.
        """
        if not self.one_machine and self.study_storage.startswith("sqlite"):
            raise PlatformError(
                "a sweep's trials are kept in a local file, but each step has a disk of its own; set VIEWS_STUDIES to "
                "a database that all steps reach: postgresql+psycopg2://user@host/sweeps"
            )
        return self.study_storage

    def log_model(
        self,
        context: dg.AssetExecutionContext,
        *,
        model: str,
        month: str,
        digest: str,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        files: Mapping[str, bytes],
    ) -> str:
        """Record one trained model as a nested run and return its MLflow run id.

        The run is found again by its tags: `model`, `month`, `artifact_digest`, the `artifact` of the release's rows.
        Training the same model and month again adds a run; equal artifacts have equal digests.

        Raises:
            PlatformError: MLflow does not answer, or does not take what it is told.
        """
        import mlflow

        with self._answering(context), mlflow.start_run(run_name=f"{model} {month}", nested=True) as run:
            mlflow.set_tags({**tags, MODEL: model, MONTH: month, DIGEST: digest, DAGSTER_RUN: context.run_id})
            mlflow.log_params({name: str(value)[:6000] for name, value in parameters.items()})
            mlflow.log_metrics(dict(metrics))
            with tempfile.TemporaryDirectory() as folder:
                for name, content in files.items():
                    target = Path(folder, name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                mlflow.log_artifacts(folder, "model")
            return str(run.info.run_id)

    def log_trial(
        self,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        *,
        study: str,
        model: str,
        month: str,
        number: int,
        state: str,
        parameters: Mapping[str, Any],
        score: float | None,
    ) -> str:
        """Record one finished trial of a sweep as a nested run and return its MLflow run id.

        The same trial again, as when a process was killed before it knew that this was done, is the same run.

        Raises:
            PlatformError: MLflow does not answer, or does not take what it is told.
        """
        import mlflow

        tried = {name: str(value)[:6000] for name, value in parameters.items()}
        with self._answering(context):
            runs = mlflow.search_runs(
                experiment_names=[self.experiment],
                filter_string=f"tags.{STUDY} = '{study}' and tags.{TRIAL} = '{number}'",
                output_format="list",
            )
            # A study whose database was lost may have tried something else under this number.
            known = next((run.info.run_id for run in runs if run.data.params.items() <= tried.items()), None)
            with mlflow.start_run(run_id=known, run_name=f"{study} trial {number}", nested=True) as run:
                tags = {STUDY: study, TRIAL: str(number), "state": state}
                mlflow.set_tags({**tags, MODEL: model, MONTH: month, DAGSTER_RUN: context.run_id})
                mlflow.log_params(tried)
                if score is not None:
                    mlflow.log_metrics({"score": score})
                return str(run.info.run_id)

    @contextmanager
    def _answering(self, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Iterator[None]:
        """Within, the parent run has begun, and what MLflow refuses is told with its remedy."""
        lost = "did not keep the record of this step, so nothing of the step is stored"
        remedy = "; then run the step again, or the run from its failure"
        with _told(self.tracking_uri, lost, remedy):
            self._start_parent(context)
            yield

    def _start_parent(self, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> None:
        if self._parent is not None:
            return
        import mlflow
        from dagster_mlflow.resources import MlFlow
        from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT

        mlflow.set_tracking_uri(self.tracking_uri)
        if self.tracking_uri != _without_password(self.tracking_uri):
            # MLflow prints the address of every run that ends.
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
        with _first_use(self.tracking_uri):
            if mlflow.get_experiment_by_name(self.experiment) is None:
                try:
                    mlflow.create_experiment(self.experiment, artifact_location=self.artifact_location or None)
                except mlflow.MlflowException:
                    # Another process made it in between; otherwise the reason stands.
                    if mlflow.get_experiment_by_name(self.experiment) is None:
                        raise
        self._parent = MlFlow(
            SimpleNamespace(
                log=context.log,
                dagster_run=context.run,
                run_id=context.run_id,
                resource_config={"experiment_name": self.experiment, "mlflow_tracking_uri": self.tracking_uri},
            )
        )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """End the parent run when Dagster lets go of the resource: runs without a job of ours have no hook for it."""
        if self._parent is not None:
            failures = dg.DagsterEventType.STEP_FAILURE
            failed = context.run_id and context.instance and context.instance.all_logs(context.run_id, of_type=failures)
            parent, self._parent = self._parent, None
            with _told(self.tracking_uri, "was not told that the run has ended, and keeps showing it as running"):
                parent.end_run("FAILED" if failed else "FINISHED")


@contextmanager
def _told(tracking_uri: str, trouble: str, remedy: str = "") -> Iterator[None]:
    """Within, MLflow's errors become a PlatformError that has the trouble, what to check, and no password."""
    from mlflow import MlflowException

    try:
        yield
    except MlflowException as error:
        shown = _without_password(tracking_uri)
        said = " ".join(str(error).replace(tracking_uri, shown).split())[:500]
        raise PlatformError(
            f"MLflow at {shown} {trouble}: {said}\n"
            f"Check MLFLOW_TRACKING_URI, that the server runs and that it lets us in{remedy}"
        ) from None


def _without_password(uri: str) -> str:
    """The URI without what stands before the host's name, if it has one: the path of a file may have an @."""
    scheme, found, rest = uri.partition("://")
    return uri if not found or rest.startswith("/") else f"{scheme}://{rest.rpartition('@')[2]}"


@contextmanager
def _first_use(tracking_uri: str) -> Iterator[None]:
    """One process at a time where the first one to come makes a local database; a server sees to that itself."""
    prefix = "sqlite:///"
    if not tracking_uri.startswith(prefix):
        yield
        return
    path = Path(f"{tracking_uri.removeprefix(prefix)}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
