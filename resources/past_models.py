"""Models of earlier months, found again in MLflow by name and version, and what they say of rows of today.

Files are checked against the sha256 that their record holds, and loaded only with the libraries they were trained with.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from pydantic import TypeAdapter, ValidationError

from resources.tracking import DIGEST, MODEL, MONTH, Tracking
from views_dagster import calendar
from views_dagster.errors import ArtifactError, PlatformError
from views_dagster.forecasts import Forecast
from views_dagster.learners import registry
from views_dagster.learners.artifacts import RECORD_FILE
from views_dagster.learners.base import FittedModel
from views_dagster.learners.registry import AnyLearner, ArtifactRecord
from views_dagster.names import listed, nearest
from views_dagster.panel import KEYS, Panel
from views_dagster.precipitation.column_arrays import to_columns
from views_dagster.precipitation.column_sets import ColumnSet, Levels
from views_dagster.precipitation.learners import registry as diagnosis_registry
from views_dagster.precipitation.learners.base import FittedDiagnosis
from views_dagster.precipitation.learners.inputs import Inputs
from views_dagster.precipitation.learners.registry import AnyDiagnosisLearner, DiagnosisRecord
from views_dagster.seeds import seed_for

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FILES: Final = "model"
DRAWS: Final = "draws"
_NAME: Final = re.compile(r"[a-z0-9_]+")
_DIGEST: Final = re.compile(r"[0-9a-f]{6,64}")
_RECORDS: Final[TypeAdapter[ArtifactRecord | DiagnosisRecord]] = TypeAdapter(ArtifactRecord | DiagnosisRecord)
_LEARNERS: Final[TypeAdapter[Any]] = TypeAdapter(AnyLearner)
_DIAGNOSIS_LEARNERS: Final[TypeAdapter[Any]] = TypeAdapter(AnyDiagnosisLearner)
_PAGE: Final = 1000
_CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class _Found:
    """A trained model and the MLflow run that holds it."""

    run: "Run"
    record: ArtifactRecord | DiagnosisRecord
    fitted: FittedModel | FittedDiagnosis


def past_model(name: str, version: str, *, tracking: Tracking | None = None) -> FittedModel | FittedDiagnosis:
    """A trained model of any earlier month, ready to predict: of either system, as its record says.

    Args:
        name: of the model.
        version: its month, `2024-01` (of several trainings the newest), or the digest of its artifact, or at least the
            first six digits of it; rows of a release and the manifest name digests.
        tracking: where to look; by default what the environment configures, as for every run.

    Raises:
        ArtifactError: no such model or version, with those that there are; or its files are gone, were changed, or
            were trained with other versions of libraries than are installed.
        PlatformError: the tracker cannot be reached.
    """
    return _find(name, version, tracking).fitted


def diagnose(name: str, version: str, rows: pl.DataFrame, *, tracking: Tracking | None = None) -> pl.DataFrame:
    """What a model of band fractions, of any earlier month, says of rows of a column set.

    Args:
        name, version, tracking: as for `past_model`.
        rows: of the table of a column set with the model's variables, levels and bands, of any months.

    Returns:
        Rows like those of `forecasts/<name>`, by time and box.

    Raises:
        ArtifactError, PlatformError: as `past_model`; or the model forecasts panels.
        PanelError: the rows lack a variable, or are on other levels or bands.
    """
    from views_dagster.components.diagnosis import to_frame

    found = _find(name, version, tracking)
    if not isinstance(found.record, DiagnosisRecord) or not isinstance(found.fitted, FittedDiagnosis):
        raise ArtifactError(f"{name} forecasts units and steps, not fractions in bands; ask `forecast`")
    columns = to_columns(rows, _column_set(found.record.variables))
    table = to_frame(found.fitted.predict(columns), columns, month=found.record.last_month, model=name)
    return table.with_columns(pl.Series("month_id", columns.month_id))


def forecast(
    name: str, version: str, rows: pl.DataFrame, *, draws: int | None = None, tracking: Tracking | None = None
) -> Forecast:
    """What a forecasting model of any earlier month says from the last month of rows of a queryset.

    Args:
        name, version, tracking: as for `past_model`.
        rows: of the queryset's table, of all months up to the one to forecast from; that may be a later one than the
            model's own.
        draws: how many; by default as many as it was run with.

    Raises:
        ArtifactError, PlatformError: as `past_model`; or the model diagnoses columns.
        PanelError: the rows lack a column, or cannot be learned from.
    """
    found = _find(name, version, tracking)
    if not isinstance(found.record, ArtifactRecord) or not isinstance(found.fitted, FittedModel):
        raise ArtifactError(f"{name} diagnoses fractions in bands, it has no steps; ask `diagnose`")
    record = found.record
    names = [*KEYS, record.target, *record.feature_names]
    panel = Panel.from_frame(
        rows.select(each for each in names if each in rows.columns), target=record.target, features=record.feature_names
    )
    count = int(found.run.data.params[DRAWS]) if draws is None else draws
    return found.fitted.predict(panel, draws=count, seed=seed_for(name, "predict", panel.origin))


def _find(name: str, version: str, tracking: Tracking | None) -> _Found:
    if tracking is None:
        from views_dagster.definitions import default_resources

        with default_resources()["tracking"].process_config_and_initialize_cm() as tracking:
            return _find(name, version, tracking)
    with _client(tracking.tracking_uri) as client:
        run = _run(client, tracking.experiment, name, version)
        files = _files(client, run)
    called = f"{name} {run.data.tags[MONTH]} ({run.data.tags[DIGEST][:12]})"
    try:
        return _loaded(run, files)
    except ArtifactError as error:
        raise ArtifactError(f"{called}, MLflow run {run.info.run_id}: {error}") from error


def _loaded(run: "Run", files: dict[str, bytes]) -> _Found:
    if RECORD_FILE not in files:
        raise ArtifactError(f"there is no {RECORD_FILE} among its files, only {sorted(files)}; train the month again")
    try:
        record = _RECORDS.validate_json(files[RECORD_FILE])
        if isinstance(record, DiagnosisRecord):
            learner = _DIAGNOSIS_LEARNERS.validate_python(record.learner)
            return _Found(run, record, diagnosis_registry.load_artifact(files, learner=learner))
        learner = _LEARNERS.validate_python(record.learner)
    except ValidationError as error:
        raise ArtifactError(
            f"it was trained by a version of the platform with other settings: {error}; check that version out, or "
            "train the month again"
        ) from error
    fitted = registry.load_artifact(
        files, learner=learner, feature_names=record.feature_names, target=record.target, origin=record.origin
    )
    return _Found(run, record, fitted)


def _column_set(variables: Inputs) -> ColumnSet:
    """The part of a column set's settings that says how its stored rows are to be read."""
    return ColumnSet(
        columns="stored",
        rain="stored",
        levels=Levels.model_validate({"unit": variables.level_unit, "values": variables.levels}),
        profiles={name: name for name in variables.profile_names},
        surface={name: name for name in variables.surface_names},
        edges=variables.edges,
    )


def _run(client: "MlflowClient", experiment: str, name: str, version: str) -> "Run":
    """The newest finished run of the model that is of this version."""
    known = client.get_experiment_by_name(experiment)
    if known is None:
        raise ArtifactError(f"MLflow has no experiment {experiment}: no model was trained here yet")
    runs = _runs(client, known.experiment_id, f"tags.{MODEL} = '{name}'") if _NAME.fullmatch(name) else []
    if not runs:
        if _NAME.fullmatch(name) and _is_ensemble(name):
            raise ArtifactError(f"{name} is an ensemble, which is no trained model: take its members")
        names = {run.data.tags[MODEL] for run in _runs(client, known.experiment_id, f"tags.{MODEL} LIKE '%'")}
        raise ArtifactError(f"MLflow knows no trained model {name}{nearest(name, names)}")
    if _is_month(version):
        found = [run for run in runs if run.data.tags[MONTH] == version]
    elif _DIGEST.fullmatch(version):
        found = [run for run in runs if run.data.tags[DIGEST].startswith(version)]
    else:
        raise ArtifactError(
            f"{version!r} is no version of {name}: write a month, such as 2024-01, or six or more digits of the "
            f"artifact's digest. It has {_versions(runs)}"
        )
    if not found:
        raise ArtifactError(f"{name} has no version {version}. It has {_versions(runs)}")
    digests = {run.data.tags[DIGEST] for run in found}
    if not _is_month(version) and len(digests) > 1:
        raise ArtifactError(f"{version} begins the digests of several artifacts of {name}: {listed(sorted(digests))}")
    return found[0]


def _is_ensemble(name: str) -> bool:
    """Whether the catalogue has an ensemble of this name, of either system."""
    from views_dagster.definitions import PROJECT_ROOT

    return any((PROJECT_ROOT / "assets").glob(f"*/ensembles/{name}/defs.yaml"))


def _runs(client: "MlflowClient", experiment: str, wanted: str) -> "list[Run]":
    """Runs with a trained model, newest first."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment],
            f"{wanted} and tags.{DIGEST} LIKE '%' and attributes.status = 'FINISHED'",
            max_results=_PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _versions(runs: "list[Run]") -> str:
    """Months with their digests, newest month first."""
    newest = {run.data.tags[MONTH]: run.data.tags[DIGEST][:12] for run in reversed(runs)}
    return listed([f"{month} ({digest})" for month, digest in sorted(newest.items(), reverse=True)], most=12)


def _files(client: "MlflowClient", run: "Run") -> dict[str, bytes]:
    """What the run holds below `model/`, by path."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            top = Path(client.download_artifacts(run.info.run_id, FILES, folder))
        except (MlflowException, OSError) as error:
            raise ArtifactError(
                f"the files of {run.data.tags[MODEL]} {run.data.tags[MONTH]} cannot be fetched from "
                f"{run.info.artifact_uri}: {error}. Where they are gone, train the month again"
            ) from error
        return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@contextmanager
def _client(uri: str) -> "Iterator[MlflowClient]":
    """A client of a tracker that is there; MLflow itself would make a database that is not, and wait for a server."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    _reach(uri)
    try:
        yield MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        raise PlatformError(f"MLflow at {_shown(uri)} does not answer: {error}; check MLFLOW_TRACKING_URI") from error


def _reach(uri: str) -> None:
    if uri.startswith("sqlite:///"):
        if not Path(uri.removeprefix("sqlite:///")).is_file():
            raise PlatformError(
                f"there is no MLflow database {uri}: no model was trained in this VIEWS_HOME yet, or "
                "MLFLOW_TRACKING_URI names another place"
            )
    elif uri.startswith(("http://", "https://")):
        import httpx

        try:
            httpx.get(f"{uri.rstrip('/')}/health", timeout=_CONNECT_SECONDS)
        except httpx.HTTPError as error:
            raise PlatformError(
                f"the MLflow server {_shown(uri)} cannot be reached ({error}); start it, or check MLFLOW_TRACKING_URI"
            ) from error


def _shown(uri: str) -> str:
    """The URI without a password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _is_month(version: str) -> bool:
    try:
        calendar.from_key(version)
    except ValueError:
        return False
    return True
