"""Sweeps in Dagster: what they try, what they may look at, what they propose, and spaces that do not load."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from views_dagster.components.blocks import CatalogueError
from views_dagster_tests.homes import Home, open_home, table_names, write_catalogue
from views_dagster_tests.skies import AFTER, FIRST_MODEL, MONTH, SKY, TABLE, rewrite

SEASON = "precipitation/models/mean_season"
SWEEP: Mapping[str, Any] = {
    "trials": 4,
    "seed": 3,
    "space": {"prior_days": {"low": 1, "high": 30}, "by": {"choices": [["month"], []]}},
}
TRIALS = "sweeps/mean_season"
Write = Callable[[Mapping[str, Any]], dg.Definitions]


@pytest.fixture(scope="module")
def swept(sky_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A sweep of 2022-07, of the model that trains fastest."""
    folder = tmp_path_factory.mktemp("swept")
    home = sky_home.copy(folder, project=write_catalogue(folder, {**SKY, SEASON: {**SKY[SEASON], "sweep": SWEEP}}))
    home.run(f"key:{TRIALS}", MONTH)
    return home


def trials(home: Home) -> pl.DataFrame:
    return home.rows(TRIALS, MONTH).sort("trial")


@pytest.mark.slow
def test_every_trial_is_stored_with_its_score(swept: Home) -> None:
    rows = trials(swept)
    assert rows["trial"].to_list() == [0, 1, 2, 3]
    assert rows["score"].is_not_null().any()
    metadata = swept.metadata(TRIALS, MONTH)
    assert metadata["trials"] == 4
    assert metadata["best_score"] == pytest.approx(rows["score"].min(), rel=1e-3)
    assert {"history", "slices", "proposed_change", "study"} <= metadata.keys()


@pytest.mark.slow
def test_the_settings_as_they_are_come_first(swept: Home) -> None:
    metadata = swept.metadata(TRIALS, MONTH)
    assert metadata["present_score"] == pytest.approx(trials(swept)["score"][0], rel=1e-3)
    assert metadata["best_score"] <= metadata["present_score"]


@pytest.mark.slow
def test_made_again_it_goes_on_where_it_stopped(swept: Home) -> None:
    before, study = trials(swept), swept.metadata(TRIALS, MONTH)["study"]
    swept.run(f"key:{TRIALS}", MONTH)
    assert trials(swept).equals(before)
    assert swept.metadata(TRIALS, MONTH)["study"] == study


@pytest.mark.slow
def test_neither_the_month_nor_a_later_one_is_looked_at(swept: Home, tmp_path: Path) -> None:
    """Trials are scored on events of the months before: other rain in the month itself changes no score."""
    home = swept.copy(tmp_path)
    rows = home.rows(TABLE, MONTH)
    inside = (pl.col("valid_time") > pl.datetime(2022, 7, 10)) & (pl.col("valid_time") < pl.datetime(2022, 7, 28))
    wet = ("fractions", "rain_mean", "rain_max", "missing")
    rewrite(home, TABLE, MONTH, rows.with_columns(pl.when(inside).then(pl.col(x).reverse()).otherwise(x) for x in wet))
    garbage = rows.with_columns(pl.col(pl.Float32) * 0 - 1e6, valid_time=pl.col("valid_time").dt.offset_by("1mo"))
    rewrite(home, TABLE, AFTER, garbage)
    home.run(f"key:{TRIALS}", MONTH)
    same = ["trial", "state", "score", "values", "reports"]
    assert trials(home).select(same).equals(trials(swept).select(same))
    assert home.metadata(TRIALS, MONTH)["study"] != swept.metadata(TRIALS, MONTH)["study"], "it is of other data"


@pytest.mark.slow
def test_trials_on_another_split_are_another_study(swept: Home, tmp_path: Path) -> None:
    """Folds are drawn by the split's seed, so scores of the same settings do not compare."""
    entry = {**SKY[SEASON], "sweep": {**SWEEP, "trials": 1}, "split": {"seed": 5}}
    home = swept.copy(tmp_path, project=write_catalogue(tmp_path, {**SKY, SEASON: entry}))
    home.run(f"key:{TRIALS}", MONTH)
    assert trials(home)["values"][0] == trials(swept)["values"][0]
    assert trials(home)["score"][0] != trials(swept)["score"][0]
    assert home.metadata(TRIALS, MONTH)["study"] != swept.metadata(TRIALS, MONTH)["study"]


@pytest.mark.slow
def test_a_month_that_is_too_early_has_no_trials(swept: Home, tmp_path: Path) -> None:
    home = swept.copy(tmp_path)
    version = home.store.open(TRIALS).version()
    assert home.run(f"key:{TRIALS}", "2022-04").success
    assert home.store.open(TRIALS).version() == version
    spec = next(spec for spec in home.defs.resolve_all_asset_specs() if spec.key.to_user_string() == TRIALS)
    assert spec.metadata["begins"] == FIRST_MODEL


# What does not load.


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def load(space: Mapping[str, Any]) -> dg.Definitions:
        entries = {**SKY, SEASON: {**SKY[SEASON], "sweep": {"space": space}}}
        return open_home(tmp_path, write_catalogue(tmp_path, entries)).defs

    return load


def test_a_sound_space_has_an_asset(write: Write) -> None:
    tables = [table for table in table_names(write(SWEEP["space"])) if table.startswith("sweeps/")]
    assert tables == [TRIALS]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"prior_dais": {"low": 1, "high": 30}},
            "sweep.space.prior_dais: the learner has no such setting; did you mean prior_days?",
        ),
        ({"prior_days": {"low": -5, "high": 30}}, "sweep.space.prior_days: "),
        ({"by": {"choices": [["month"], ["year"]]}}, "sweep.space.by: "),
        ({"prior_days": {"low": 30, "high": 1}}, "low 30 is not below high 1"),
        ({"prior_days.more": {"low": 1, "high": 3}}, "sweep.space.prior_days.more: "),
    ],
    ids=["unknown path", "a bound out of range", "a choice that is none", "bounds the wrong way", "below a number"],
)
def test_a_mistake_names_its_line(write: Write, tmp_path: Path, space: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogueError) as raised:
        write(space)
    said = [line for line in str(raised.value).splitlines() if message in line]
    assert said, str(raised.value)
    (file,) = tmp_path.rglob("mean_season/defs.yaml")
    path = next(iter(space))
    number = next(at for at, line in enumerate(file.read_text().splitlines(), 1) if line.strip().startswith(f"{path}:"))
    assert f"/models/mean_season/defs.yaml:{number}: " in said[0]
