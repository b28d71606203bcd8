"""Tracking: one nested run a model and month, found from the release and back."""

import json
import socket
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import pytest

from resources.tracking import Tracking, _without_password
from views_dagster.calendar import from_key
from views_dagster.components.artifact_rows import model_files
from views_dagster.errors import PlatformError
from views_dagster.storage.digests import digest_frame
from views_dagster_tests.homes import Home, resources_in

NEWEST = "1992-12"
MODELS = ("quiet_echo", "still_water")


class Tracker:
    """A client of the home's MLflow database."""

    def __init__(self, home: Home) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=f"sqlite:///{home.folder / 'mlflow.db'}")

    def runs(self, **tags: str) -> list[Any]:
        experiment = self.client.get_experiment_by_name("views_dagster")
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return list(self.client.search_runs([experiment.experiment_id], wanted))


@pytest.fixture(scope="module")
def home(small_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A month released, and its models then trained once more."""
    home = small_home.copy(tmp_path_factory.mktemp("tracked"))
    home.history(NEWEST, first=NEWEST, checks=False)
    home.release(NEWEST, checks=False)
    home.run("group:trained_artifacts", NEWEST)
    return home


@pytest.fixture(scope="module")
def tracker(home: Home) -> Tracker:
    return Tracker(home)


def test_each_training_is_a_nested_run_of_a_run_that_ended(home: Home, tracker: Tracker) -> None:
    every = tracker.runs()
    nested = [run for run in every if "mlflow.parentRunId" in run.data.tags]
    parents = [run for run in every if run not in nested]
    assert len(parents) == 2
    assert sorted((run.data.tags["model"], run.data.tags["month"]) for run in nested) == [
        (model, NEWEST) for model in MODELS for _ in range(2)
    ]
    for parent in parents:
        children = [run for run in nested if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
        assert {run.data.tags["model"] for run in children} == set(MODELS)
        assert len({run.data.tags["dagster_run_id"] for run in children}) == 1
    assert {run.info.status for run in every} == {"FINISHED"}


def test_a_run_says_how_the_model_was_made(home: Home, tracker: Tracker) -> None:
    run = tracker.runs(model="quiet_echo")[0]
    assert run.data.params["features"] == "little"
    assert run.data.params["target"] == "sb_best"
    assert run.data.params["draws"] == "12"
    assert run.data.params["learner.kind"] == "conflictology"
    assert run.data.params["learner.window"] == "6"
    assert run.data.tags["maturity"] == "deployed"
    assert run.data.tags["version.numpy"] == np.__version__


def test_a_run_holds_the_files_of_the_model(home: Home, tracker: Tracker, tmp_path: Path) -> None:
    run = tracker.runs(model="quiet_echo")[0]
    folder = Path(tracker.client.download_artifacts(run.info.run_id, "model", str(tmp_path)))
    stored = model_files(home.rows("artifacts/quiet_echo", NEWEST))
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")} == stored


def test_the_model_of_a_released_row_is_found_in_the_tracker(home: Home, tracker: Tracker) -> None:
    released = home.rows("forecasts", NEWEST)
    manifest = json.loads(home.rows("release_manifests", NEWEST)["manifest"].item())
    for model in MODELS:
        assert model in released["model"].unique()
        source = manifest["made_from"][f"artifacts/{model}"]
        run = tracker.client.get_run(source["mlflow_run"])
        assert (run.data.tags["model"], run.data.tags["month"]) == (model, NEWEST)
        assert run.data.tags["artifact_digest"] == source["digest"]


def test_the_release_is_found_from_the_tracker(home: Home, tracker: Tracker) -> None:
    for model in MODELS:
        run = tracker.runs(model=model, month=NEWEST)[-1]
        artifact = home.rows(f"artifacts/{run.data.tags['model']}", run.data.tags["month"])
        assert digest_frame(artifact, ("month_id", "path")) == run.data.tags["artifact_digest"]
        assert home.store.months("forecasts") == {from_key(run.data.tags["month"])}


def test_training_again_adds_a_run_with_the_same_digest(tracker: Tracker) -> None:
    runs = tracker.runs(model="still_water", month=NEWEST)
    assert len({run.info.run_id for run in runs}) == 2
    assert len({run.data.tags["artifact_digest"] for run in runs}) == 1
    assert len({run.data.tags["features_digest"] for run in runs}) == 1


def test_metrics_of_a_backtest_are_logged(small_home: Home, tmp_path: Path) -> None:
    """A backtest needs five years before its origin."""
    home = small_home.copy(tmp_path)
    home.history("1996-06", first="1993-01", checks=False)
    home.run("key:artifacts/quiet_echo", "1996-06", checks=False)
    (run,) = Tracker(home).runs(model="quiet_echo")
    recorded = home.metadata("artifacts/quiet_echo", "1996-06")
    assert run.data.metrics["cases"] > 100
    assert run.data.metrics["crps"] >= 0
    assert run.data.metrics["crps"] == pytest.approx(recorded["backtest_crps"], rel=1e-3)
    assert recorded["mlflow_run"] == run.info.run_id


def test_a_model_that_cannot_be_trained_leaves_no_open_run(
    small_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    home = small_home.copy(tmp_path)
    log = mlflow.log_metrics

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(mlflow, "log_metrics", fails)
    assert not home.run("key:artifacts/quiet_echo", NEWEST, raise_on_error=False).success
    monkeypatch.setattr(mlflow, "log_metrics", log)
    assert mlflow.active_run() is None
    assert {run.info.status for run in Tracker(home).runs()} <= {"FAILED", "FINISHED"}
    assert home.run("key:artifacts/quiet_echo", NEWEST).success


def test_a_trial_that_is_told_of_again_has_one_run(tmp_path: Path) -> None:
    def tell(x: int, *, cut_off: bool = False) -> None:
        @dg.op
        def told(context: dg.OpExecutionContext, tracking: Tracking) -> None:
            run = tracking.log_trial(
                context,
                study="s 1",
                model="m",
                month=NEWEST,
                number=4,
                state="complete",
                parameters={"x": x},
                score=2.0,
            )
            if cut_off:
                MlflowClient(tracking.tracking_uri).update_run(run, "RUNNING")

        @dg.job(resource_defs=resources_in(tmp_path))
        def teller() -> None:
            told()

        assert teller.execute_in_process().success

    from mlflow import MlflowClient

    tell(1, cut_off=True)
    tell(1)
    tell(2)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("views_dagster").experiment_id], "tags.trial = '4'")
    assert sorted(run.data.params["x"] for run in runs) == ["1", "2"], "other settings are another trial"
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(run.data.metrics == {"score": 2.0} for run in runs)


def port_of_nobody(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_a_server_that_is_away_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    port = port_of_nobody(monkeypatch)

    @dg.op
    def told(context: dg.OpExecutionContext, tracking: Tracking) -> None:
        tracking.log_trial(
            context, study="s", model="m", month=NEWEST, number=1, state="complete", parameters={}, score=1.0
        )

    @dg.job(resource_defs={"tracking": Tracking(tracking_uri=f"http://someone:planted@127.0.0.1:{port}")})
    def teller() -> None:
        told()

    before = mlflow.get_tracking_uri()
    try:
        with pytest.raises(PlatformError) as raised:
            teller.execute_in_process()
    finally:
        mlflow.set_tracking_uri(before)
    said = "".join(traceback.format_exception(raised.value))
    assert f"MLflow at http://127.0.0.1:{port} did not keep the record of this step" in said
    assert "Check MLFLOW_TRACKING_URI" in said
    assert "planted" not in said


def test_a_server_that_goes_before_the_run_ends_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    address = f"127.0.0.1:{port_of_nobody(monkeypatch)}"
    uri = f"http://someone:planted@{address}"
    tracking = Tracking(tracking_uri=uri)
    tracking._parent = SimpleNamespace(end_run=lambda status: mlflow.MlflowClient(uri).set_terminated("1", status))
    with pytest.raises(PlatformError) as raised:
        tracking.teardown_after_execution(dg.build_init_resource_context())
    said = "".join(traceback.format_exception(raised.value))
    assert f"MLflow at http://{address} was not told that the run has ended" in said
    assert "planted" not in said


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://someone:pass@word@server:5000/mlflow", "http://server:5000/mlflow"),
        ("http://server:5000", "http://server:5000"),
        ("sqlite:////home/someone@example.org/mlflow.db", "sqlite:////home/someone@example.org/mlflow.db"),
    ],
)
def test_a_uri_is_shown_without_its_password_alone(uri: str, shown: str) -> None:
    assert _without_password(uri) == shown
