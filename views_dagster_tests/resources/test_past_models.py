"""Past models: found again in a real MLflow by name and version, checked, and predicting as they did."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from resources.past_models import diagnose, forecast, past_model
from resources.tracking import Tracking
from views_dagster.calendar import from_key
from views_dagster.errors import ArtifactError, PanelError, PlatformError
from views_dagster.forecasts import Forecast
from views_dagster.learners.base import FittedModel
from views_dagster.precipitation.learners.base import FittedDiagnosis
from views_dagster_tests import skies
from views_dagster_tests.homes import Home

NEWEST = "1992-12"
TRAINED = "key:artifacts/level_line or key:forecasts/level_line"


@pytest.fixture(scope="module")
def sky(sky_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A model of two months, the newer one trained twice."""
    home = sky_home.copy(tmp_path_factory.mktemp("past_sky"))
    for month in (skies.BEFORE, skies.MONTH, skies.MONTH):
        home.run(TRAINED, month, checks=False)
    return home


@pytest.fixture(scope="module")
def lands(small_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A forecasting model of one month."""
    home = small_home.copy(tmp_path_factory.mktemp("past_lands"))
    home.run("key:artifacts/quiet_echo or key:forecasts/quiet_echo", NEWEST, checks=False)
    return home


def tracking(home: Home) -> Tracking:
    return Tracking(tracking_uri=f"sqlite:///{home.folder / 'mlflow.db'}")


def runs(home: Home, model: str) -> list[tuple[str, str, str]]:
    """Month, digest and id of the model's trainings, newest first."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("views_dagster")
    found = client.search_runs([experiment.experiment_id], f"tags.model = '{model}'")
    tags = [(run.data.tags, run.info.run_id) for run in found if run.info.status == "FINISHED"]
    return [(tag["month"], tag["artifact_digest"], run) for tag, run in tags if "artifact_digest" in tag]


def columns(home: Home, month: str) -> pl.DataFrame:
    return home.rows(skies.TABLE, month)


def test_a_model_of_a_month_says_again_what_it_said(sky: Home) -> None:
    for month in (skies.BEFORE, skies.MONTH):
        said = diagnose("level_line", month, columns(sky, month), tracking=tracking(sky))
        assert said.equals(sky.rows("forecasts/level_line", month).sort("valid_time", "box_id").select(said.columns))


def test_a_digest_or_its_beginning_is_a_version(sky: Home) -> None:
    digests = {month: digest for month, digest, _ in runs(sky, "level_line")}
    assert len(set(digests.values())) == 2
    rows = columns(sky, skies.MONTH)
    by_month = diagnose("level_line", skies.BEFORE, rows, tracking=tracking(sky))
    for version in (digests[skies.BEFORE], digests[skies.BEFORE][:12]):
        assert diagnose("level_line", version, rows, tracking=tracking(sky)).equals(by_month)
    assert not diagnose("level_line", digests[skies.MONTH], rows, tracking=tracking(sky)).equals(by_month)


def test_rows_of_several_months_keep_theirs(sky: Home) -> None:
    rows = pl.concat([columns(sky, skies.MONTH), columns(sky, skies.BEFORE)])
    said = diagnose("level_line", skies.BEFORE, rows, tracking=tracking(sky))
    counts = said.group_by("month_id").len().sort("month_id").rows()
    assert counts == rows.group_by("month_id").len().sort("month_id").rows()
    assert [month for month, _ in counts] == [from_key(skies.BEFORE), from_key(skies.MONTH)]


def test_the_record_says_which_kind_of_model_it_is(sky: Home, lands: Home) -> None:
    assert isinstance(past_model("level_line", skies.MONTH, tracking=tracking(sky)), FittedDiagnosis)
    assert isinstance(past_model("quiet_echo", NEWEST, tracking=tracking(lands)), FittedModel)


def test_a_forecasting_model_forecasts_again_what_it_forecast(lands: Home) -> None:
    rows = lands.store.scan("features/little", 0, from_key(NEWEST)).collect()
    said = forecast("quiet_echo", NEWEST, rows, tracking=tracking(lands))
    stored = Forecast.from_frame(lands.rows("forecasts/quiet_echo", NEWEST))
    assert np.array_equal(said.units, stored.units)
    assert np.array_equal(said.draws, stored.draws)
    assert forecast("quiet_echo", NEWEST, rows, draws=5, tracking=tracking(lands)).draws.shape[-1] == 5


def test_models_are_asked_in_their_own_way(sky: Home, lands: Home) -> None:
    with pytest.raises(ArtifactError, match="has no steps; ask `diagnose`"):
        forecast("level_line", skies.MONTH, columns(sky, skies.MONTH), tracking=tracking(sky))
    with pytest.raises(ArtifactError, match="not fractions in bands; ask `forecast`"):
        diagnose("quiet_echo", NEWEST, columns(sky, skies.MONTH), tracking=tracking(lands))


def test_rows_that_lack_a_variable_are_refused(sky: Home) -> None:
    with pytest.raises(PanelError, match="has no temperature"):
        diagnose("level_line", skies.MONTH, columns(sky, skies.MONTH).drop("temperature"), tracking=tracking(sky))


@pytest.mark.parametrize("name", ["level_lime", "level_line' or tags.model = 'level_line", ""])
def test_no_such_model(sky: Home, name: str) -> None:
    with pytest.raises(
        ArtifactError, match=r"knows no trained model .*there are: level_line|did you mean level_line\?"
    ):
        past_model(name, skies.MONTH, tracking=tracking(sky))


@pytest.mark.parametrize("name", ["white_mustang", "median_storm"])
def test_an_ensemble_is_no_trained_model(sky: Home, name: str) -> None:
    with pytest.raises(ArtifactError, match=f"^{name} is an ensemble, which is no trained model: take its members$"):
        past_model(name, skies.MONTH, tracking=tracking(sky))


def test_no_such_version_lists_those_there_are(sky: Home) -> None:
    newest = next(digest for month, digest, _ in runs(sky, "level_line") if month == skies.MONTH)
    there = rf"It has {skies.MONTH} \({newest[:12]}\), {skies.BEFORE} \(\w{{12}}\)$"
    with pytest.raises(ArtifactError, match=rf"level_line has no version 2021-03\. {there}"):
        past_model("level_line", "2021-03", tracking=tracking(sky))
    with pytest.raises(ArtifactError, match=r"has no version ffffffff\. It has"):
        past_model("level_line", "ffffffff", tracking=tracking(sky))
    with pytest.raises(ArtifactError, match="'newest' is no version of level_line: write a month, such as 2024-01"):
        past_model("level_line", "newest", tracking=tracking(sky))


def test_only_finished_trainings_count(sky: Home) -> None:
    """A trial of a sweep has a model and a month too, and a run that was killed never finished."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{sky.folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("views_dagster").experiment_id
    trial = client.create_run(experiment, tags={"model": "level_line", "month": "2022-08", "trial": "0"})
    client.set_terminated(trial.info.run_id)
    client.create_run(experiment, tags={"model": "level_line", "month": "2022-08", "artifact_digest": "c0ffee00"})
    with pytest.raises(ArtifactError, match=r"has no version 2022-08\. It has 2022-07"):
        past_model("level_line", "2022-08", tracking=tracking(sky))
    with pytest.raises(ArtifactError, match="has no version c0ffee"):
        past_model("level_line", "c0ffee", tracking=tracking(sky))


def files_of(home: Home, run: str) -> Path:
    (folder,) = home.folder.glob(f"artifacts/**/{run}/artifacts/model")
    return folder


def test_a_file_that_was_changed_is_refused(lands: Home) -> None:
    (run,) = [run for _, _, run in runs(lands, "quiet_echo")]
    folder = files_of(lands, run)
    changed = next(path for path in sorted(folder.iterdir()) if path.name != "artifact.json")
    before = changed.read_bytes()
    try:
        changed.write_bytes(before + b" ")
        with pytest.raises(ArtifactError, match=rf"quiet_echo {NEWEST} .*{changed.name} changed since training"):
            past_model("quiet_echo", NEWEST, tracking=tracking(lands))
    finally:
        changed.write_bytes(before)


def test_files_that_are_gone(sky: Home) -> None:
    month, digest, run = runs(sky, "level_line")[-1]
    assert month == skies.BEFORE
    folder = files_of(sky, run)
    shutil.move(folder, folder.with_name("elsewhere"))
    try:
        with pytest.raises(ArtifactError, match=rf"(?s)level_line {month}.*train the month again"):
            past_model("level_line", digest, tracking=tracking(sky))
    finally:
        shutil.move(folder.with_name("elsewhere"), folder)


def test_a_tracker_that_is_not_there(tmp_path: Path) -> None:
    database = tmp_path / "none.db"
    with pytest.raises(PlatformError, match=r"no MLflow database sqlite.*MLFLOW_TRACKING_URI"):
        past_model("level_line", "2022-07", tracking=Tracking(tracking_uri=f"sqlite:///{database}"))
    assert not database.exists()
    with pytest.raises(PlatformError, match=r"server http://127\.0\.0\.1:9 cannot be reached"):
        past_model("level_line", "2022-07", tracking=Tracking(tracking_uri="http://user:secret@127.0.0.1:9"))


def test_an_experiment_without_models(sky: Home) -> None:
    other = Tracking(tracking_uri=f"sqlite:///{sky.folder / 'mlflow.db'}", experiment="none")
    with pytest.raises(ArtifactError, match="MLflow has no experiment none: no model was trained here yet"):
        past_model("level_line", skies.MONTH, tracking=other)
