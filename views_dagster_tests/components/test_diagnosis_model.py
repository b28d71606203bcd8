"""Models of band fractions in Dagster: when they begin, what they may see, what stops them, and what does not load."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from views_dagster.calendar import from_key
from views_dagster.components.blocks import CatalogueError
from views_dagster.components.diagnosis import to_frame
from views_dagster.errors import ArtifactError, ForecastError, PanelError
from views_dagster.precipitation.learners import network_training
from views_dagster.precipitation.learners.base import Diagnosis
from views_dagster.precipitation.learners.climatology import FittedClimatology
from views_dagster.storage.digests import digest_frame
from views_dagster_tests.homes import Home, open_home, table_names, write_catalogue
from views_dagster_tests.skies import (
    AFTER,
    FIRST_MODEL,
    MONTH,
    MONTH_ID,
    SKY,
    TABLE,
    artifact,
    rewrite,
    without_rain,
)

MODELS = ("deep_column", "level_line", "mean_season", "raw_ensemble")
EVERYTHING = "group:trained_artifacts or group:forecasts or group:ensembles or group:evaluation or group:explanations"
Write = Callable[[Mapping[str, Mapping[str, Any]]], dg.Definitions]


@pytest.fixture(scope="module")
def made(sky_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Everything of 2022-07; read it, or copy it first."""
    home = sky_home.copy(tmp_path_factory.mktemp("made"))
    home.history(MONTH, first=MONTH, checks=False)
    home.run(EVERYTHING, MONTH)
    return home


def shared_digests(home: Home) -> dict[str, str]:
    """Digest of the month of every table but the raw ones and the features, as recorded."""
    groups = ("trained_artifacts", "forecasts", "ensembles", "evaluation", "explanations")
    tables = [table for group in groups for table in table_names(home.defs, group) if table != "forecasts"]
    return {table: home.metadata(table, MONTH)["digest"] for table in tables}


# When they begin.


def test_a_model_begins_when_there_are_enough_months(sky_home: Home, tmp_path: Path) -> None:
    home = sky_home.copy(tmp_path)
    chosen = "+key:forecasts/level_line or key:evaluations/level_line or key:explanations/level_line"
    assert home.run(chosen, "2022-04").success
    assert not any(home.store.exists(f"{group}/level_line") for group in ("artifacts", "forecasts", "evaluations"))
    home.run("key:artifacts/level_line or key:forecasts/level_line", FIRST_MODEL)
    assert home.store.months("forecasts/level_line") == {from_key(FIRST_MODEL)}


def test_it_begins_no_earlier_than_its_ensembles(sky_home: Home) -> None:
    begins = {
        spec.key.to_user_string(): spec.metadata.get("begins")
        for spec in sky_home.defs.resolve_all_asset_specs()
        if spec.key.path != ["forecasts"]
    }
    assert {begins[table] for table in begins if table.startswith(("raw", "features"))} == {"2022-01"}
    assert {begins[table] for table in begins if not table.startswith(("raw", "features"))} == {FIRST_MODEL}


# What they say.


def test_there_is_one_row_of_whole_fractions_for_each_column(made: Home) -> None:
    columns = made.rows(TABLE, MONTH).select("valid_time", "box_id").sort("valid_time", "box_id")
    for model in MODELS:
        rows = made.rows(f"forecasts/{model}", MONTH).sort("valid_time", "box_id")
        assert rows.select(columns.columns).equals(columns)
        fractions = np.array(rows["fractions"].to_list())
        assert fractions.shape == (columns.height, 5)
        np.testing.assert_allclose(fractions.sum(axis=1), 1, atol=1e-6)
        assert rows.select("month_id", "model").unique().rows() == [(MONTH_ID, model)]


def test_the_materialisation_shows_the_month(made: Home) -> None:
    metadata = made.metadata("forecasts/deep_column", MONTH)
    assert {"map", "animation", "band_mix", "columns", "times"} <= metadata.keys()
    fractions = np.array(made.rows("forecasts/deep_column", MONTH)["fractions"].to_list())
    shown = [value for name, value in metadata.items() if name.startswith("mean_fraction_")]
    assert shown == pytest.approx(fractions.mean(axis=0).tolist(), rel=1e-3)
    assert metadata["columns"] == len(fractions)


def test_the_evaluation_is_of_the_rows_of_the_month_whose_rain_is_known(made: Home) -> None:
    known = made.rows(TABLE, MONTH)["fractions"].drop_nulls().len()
    for model in MODELS:
        scores = made.rows(f"evaluations/{model}", MONTH)
        assert scores.row(0, named=True)["score"] == "rows"
        assert scores.row(0, named=True)["value"] == known
        assert scores.filter(pl.col("reference").is_null(), score="rps").height == 1


def test_a_model_that_is_its_own_reference_has_no_skill(made: Home) -> None:
    own = made.rows("evaluations/mean_season", MONTH).filter(score="rps", reference="climatology")
    assert own["skill"].to_list() == pytest.approx([0.0], abs=1e-9)
    ours = made.rows("evaluations/level_line", MONTH).filter(score="rps", reference="climatology")
    assert ours["skill"].item() > 0.1, "the sky says more than the season"


def test_what_does_not_look_at_the_sky_is_not_explained(made: Home) -> None:
    explained = {table for table in table_names(made.defs) if table.startswith("explanations/")}
    assert explained == {"explanations/deep_column", "explanations/level_line"}
    parts = {name: set(made.rows(f"explanations/{name}", MONTH)["part"]) for name in ("deep_column", "level_line")}
    assert parts == {
        "deep_column": {"importance", "attribution", "likeness_when_randomised"},
        "level_line": {"importance"},
    }
    assert "importance_by_level" in made.metadata("explanations/level_line", MONTH)


def test_the_split_is_recorded_and_the_month_is_its_test(made: Home) -> None:
    record = json.loads(artifact(made, "level_line")["model/artifact.json"])
    assert (record["first_month"], record["last_month"]) == (from_key("2022-01"), MONTH_ID)
    metadata = made.metadata("artifacts/level_line", MONTH)
    split = record["split"]["rows"]
    assert split == {side: metadata[f"{side}_rows"] for side in ("train", "validation", "test")}
    assert all(split.values())
    tested = [event for event in record["split"]["events"] if event["side"] == "test"]
    assert all(event["end"] > "2022-07-01" for event in tested)
    assert metadata["events"]["test"] == len(tested)


# What they may see.


@pytest.mark.slow
def test_made_again_beside_garbage_in_a_later_month_everything_is_the_same(made: Home, tmp_path: Path) -> None:
    home = made.copy(tmp_path)
    garbage = home.rows(TABLE, MONTH).with_columns(
        pl.col(pl.Float32) * 0 - 1e6,
        pl.col("temperature", "relative_humidity").list.eval(pl.element() * 0 - 1e6),
        valid_time=pl.col("valid_time").dt.offset_by("1mo"),
    )
    rewrite(home, TABLE, AFTER, garbage)
    home.history(MONTH, first=MONTH, checks=False)
    home.run(EVERYTHING, MONTH, checks=False)
    assert shared_digests(home) == shared_digests(made)


def described(files: dict[str, bytes]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a model but the one that says what it was trained on, and what that says."""
    return {path: data for path, data in files.items() if path != "model/artifact.json"}, json.loads(
        files["model/artifact.json"]
    )


def test_the_month_itself_is_not_trained_on(made: Home, tmp_path: Path) -> None:
    home = made.copy(tmp_path)
    rows = home.rows(TABLE, MONTH)
    inside = (pl.col("valid_time") > pl.datetime(2022, 7, 10)) & (pl.col("valid_time") < pl.datetime(2022, 7, 28))
    wet = ("fractions", "rain_mean", "rain_max", "missing")
    changed = rows.with_columns(
        *(pl.when(inside).then(pl.col(name).reverse()).otherwise(name) for name in wet),
        temperature=pl.when(inside).then(pl.col("temperature").list.eval(pl.element() + 40)).otherwise("temperature"),
    )
    assert changed["fractions"].to_list() != rows["fractions"].to_list()
    rewrite(home, TABLE, MONTH, changed)
    for model in MODELS:
        home.run(f"key:artifacts/{model}", MONTH)
        files, record = described(artifact(home, model))
        expected, before = described(artifact(made, model))
        assert files == expected, model
        assert record["inputs"] != before["inputs"]
        assert {**record, "inputs": 0, "split": 0} == {**before, "inputs": 0, "split": 0}


def test_the_rain_of_training_months_is_what_it_learns(made: Home, tmp_path: Path) -> None:
    """The test above could not fail if nothing of the rows mattered."""
    home = made.copy(tmp_path)
    rows = home.rows(TABLE, "2022-03")
    wet = ("fractions", "rain_mean", "rain_max", "missing")
    rewrite(home, TABLE, "2022-03", rows.with_columns(pl.col(name).reverse() for name in wet))
    for model in ("level_line", "mean_season"):
        home.run(f"key:artifacts/{model}", MONTH)
        assert described(artifact(home, model))[0] != described(artifact(made, model))[0]


@pytest.mark.slow
def test_rain_that_is_not_known_yet_leaves_nothing_to_score(made: Home, tmp_path: Path) -> None:
    home = made.copy(tmp_path)
    dry = without_rain(home.rows(TABLE, MONTH), MONTH_ID)
    rewrite(home, TABLE, MONTH, dry)
    result = home.run(f"({EVERYTHING}) and not key:forecasts", MONTH)
    for model in MODELS:
        assert described(artifact(home, model))[0].keys() == described(artifact(made, model))[0].keys()
        assert home.rows(f"forecasts/{model}", MONTH).height == dry.height
        scores = home.rows(f"evaluations/{model}", MONTH)
        assert scores.select("score", "value").rows() == [("rows", 0.0)]
        assert home.metadata(f"evaluations/{model}", MONTH)["rows"] == 0
    checks = [check for check in result.get_asset_check_evaluations() if check.asset_key.path[0] == "evaluations"]
    assert checks
    assert all(check.passed for check in checks)
    assert {str(check.metadata["note"].value) for check in checks} == {"not evaluated: the month has no score"}
    assert home.store.months("explanations/level_line") == {MONTH_ID}, "explained on what validated"


# What stops them.


def failures(result: dg.ExecuteInProcessResult) -> set[str]:
    return {str(event.step_key) for event in result.filter_events(lambda event: event.is_step_failure)}


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda rows: rows.with_columns(pl.col("fractions").list.eval(pl.element() * 2)), "output_fractions"),
        (
            lambda rows: rows.with_columns(pl.col("fractions").list.eval(pl.lit(float("nan"), pl.Float32))),
            "output_fractions",
        ),
        (lambda rows: rows.with_columns(pl.col("fractions").list.head(4)), "output_fractions"),
        (lambda rows: rows.with_columns(rain_mean=pl.lit(1e6, pl.Float32)), "output_rain_mean"),
        (lambda rows: rows.head(rows.height // 2), "output_complete"),
        (lambda rows: pl.concat([rows, rows.head(1)]), "output_complete"),
    ],
    ids=["they sum to 2", "not a number", "a band too few", "impossible rain", "half of them", "one twice"],
)
def test_a_diagnosis_that_is_not_sound_stops_what_comes_after(
    made: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pl.DataFrame], pl.DataFrame],
    check: str,
) -> None:
    home = made.copy(tmp_path)
    before = home.store.open("ensembles/pooled_storm").version()
    released = home.store.open("released_fractions").version()

    def spoilt(*arguments: Any, **options: Any) -> pl.DataFrame:
        return spoil(to_frame(*arguments, **options))

    monkeypatch.setattr("views_dagster.components.diagnosis_model.to_frame", spoilt)
    result = home.run("forecasts/mean_season+", MONTH, raise_on_error=False)
    assert not result.success
    wrong = {
        (evaluation.asset_key.to_user_string(), evaluation.check_name)
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
    }
    assert ("forecasts/mean_season", check) in wrong
    assert home.store.open("ensembles/pooled_storm").version() == before
    assert home.store.open("released_fractions").version() == released
    again = home.run("key:ensembles/pooled_storm", MONTH, raise_on_error=False)
    assert failures(again) == {"ensembles__pooled_storm"}, "a later run must not build on the month either"


@pytest.mark.parametrize("value", [np.nan, -0.5, 1e9], ids=str)
def test_a_model_that_diverges_stores_nothing(
    made: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    home, good = made.copy(tmp_path), FittedClimatology.predict
    version = home.store.open("forecasts/mean_season").version()

    def diverges(self: FittedClimatology, columns: Any) -> Diagnosis:
        said = good(self, columns)
        fractions = said.fractions.copy()
        fractions[3, 1] = value
        return Diagnosis(fractions, said.rain_mean)

    monkeypatch.setattr(FittedClimatology, "predict", diverges)
    with pytest.raises(ForecastError, match=r"1 of \d+ columns have fractions that are negative, not finite or do not"):
        home.run("key:forecasts/mean_season", MONTH)
    assert home.store.open("forecasts/mean_season").version() == version


def test_columns_without_a_value_are_refused_by_name(made: Home, tmp_path: Path) -> None:
    home = made.copy(tmp_path)
    rows = home.rows(TABLE, MONTH).with_columns(orography=pl.lit(None, pl.Float32))
    rewrite(home, TABLE, MONTH, rows)
    with pytest.raises(PanelError, match="orography has no value in"):
        home.run("key:forecasts/level_line", MONTH)


def test_an_artifact_that_was_changed_is_refused(made: Home, tmp_path: Path) -> None:
    home = made.copy(tmp_path)
    rows = home.rows("artifacts/level_line", MONTH)
    changed = pl.when(pl.col("path") == "model/model.json").then(pl.lit(b"{}")).otherwise("content")
    rewrite(home, "artifacts/level_line", MONTH, rows.with_columns(content=changed))
    with pytest.raises(ArtifactError, match=r"model\.json"):
        home.run("key:forecasts/level_line", MONTH)


def test_an_evaluation_is_of_what_the_artifact_was_trained_beside(made: Home, tmp_path: Path) -> None:
    """Features made again since would be other rows than those that the split divided."""
    home = made.copy(tmp_path)
    rewrite(home, TABLE, "2022-03", home.rows(TABLE, "2022-03").with_columns(pl.col("orography") + 1))
    with pytest.raises(ArtifactError, match="inputs"):
        home.run("key:evaluations/level_line", MONTH)


def test_the_digest_of_an_artifact_is_that_of_its_files(made: Home) -> None:
    for model in MODELS:
        rows = made.rows(f"artifacts/{model}", MONTH)
        assert made.metadata(f"artifacts/{model}", MONTH)["digest"] == digest_frame(rows, ["month_id", "path"])
        assert made.metadata(f"artifacts/{model}", MONTH)["mlflow_run"]


# What happens to a training that is killed.


def test_a_killed_training_goes_on_and_gives_the_same_bytes(
    made: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Killed after the first of two epochs: the second run trains the second alone, and leaves no checkpoint."""
    home = made.copy(tmp_path)
    trained = network_training._run_epoch
    epochs: list[int] = []

    def killed(*args: Any) -> None:
        epochs.append(args[5])
        if len(epochs) == 2:
            raise KeyboardInterrupt
        trained(*args)

    monkeypatch.setattr(network_training, "_run_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        home.run("key:artifacts/deep_column", MONTH)
    checkpoints = tmp_path / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == [f"deep_column.{MONTH}"]
    assert home.run("key:artifacts/deep_column", MONTH).success
    assert epochs == [0, 1, 1]
    assert f"goes on with round 1 from checkpoint {checkpoints}/deep_column.{MONTH}" in capfd.readouterr().err
    assert artifact(home, "deep_column") == artifact(made, "deep_column")
    assert list(checkpoints.iterdir()) == []


# What does not load.


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def load(changes: Mapping[str, Mapping[str, Any]]) -> dg.Definitions:
        return open_home(tmp_path, write_catalogue(tmp_path, {**SKY, **changes})).defs

    return load


LINE, SET = "precipitation/models/level_line", "precipitation/features/storm_columns"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": "storm_colums"}, "features: there is no column set storm_colums; did you mean storm_columns?"),
        ({"learner": {"kind": "logistik"}}, "learner.kind: there is no kind logistik; did you mean logistic?"),
        ({"learner": {"kind": "logistic", "penalty": 1.0}}, "there is no setting penalty; did you mean penalties?"),
        ({"split": {"test_month": 1}}, "split.test_month: there is no setting test_month; did you mean test_months?"),
        ({"least_months": 0}, "least_months: should be greater than or equal to 1, not 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_names_its_file(write: Write, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogueError) as raised:
        write({LINE: {**SKY[LINE], **changes}})
    (said,) = (line for line in str(raised.value).splitlines() if message in line)
    assert "/models/level_line/defs.yaml:" in said


@pytest.mark.parametrize(
    "learner",
    [{"kind": "nwp"}, {"kind": "calibrated_nwp"}, {"kind": "logistic", "predictors": {"members": True}}],
    ids=lambda learner: str(learner["kind"]),
)
def test_a_learner_of_members_needs_a_set_with_members(write: Write, learner: dict[str, Any]) -> None:
    bare = {key: value for key, value in SKY[SET].items() if key != "members"}
    changes = {SET: bare, "precipitation/models/raw_ensemble": {**SKY[LINE], "learner": learner}}
    with pytest.raises(CatalogueError, match=r"raw_ensemble/defs.yaml:\d+: learner: it needs NWP members, and storm_c"):
        write(changes)


def test_a_retired_model_has_no_assets(write: Write) -> None:
    ensembles = {place: {**SKY[place], "maturity": "retired"} for place in SKY if "/ensembles/" in place}
    defs = write({LINE: {**SKY[LINE], "maturity": "retired"}, **ensembles})
    tables = table_names(defs)
    assert not [table for table in tables if "level_line" in table or table.startswith("ensembles")]
    assert "forecasts/mean_season" in tables
