"""Sweeps as several steps: the same trials as in one, in processes of their own, also where one of them is killed."""

import json
import signal
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import dagster as dg
import mlflow
import polars as pl
import pytest

from resources.storage import BEGINS, ROW_KEYS
from resources.tracking import STUDY, TRIAL, Tracking
from views_dagster.components.compute import POD_TAG, Compute
from views_dagster.errors import PlatformError
from views_dagster_tests.components.bowl_sweep import (
    FIRST,
    FOLDER,
    assert_each_trial_once_but_the_third_attempt,
    bowl_job,
    ended_in_its_third_attempt,
    furnish,
)
from views_dagster_tests.homes import Home, open_home, write_catalogue
from views_dagster_tests.skies import MONTH, SKY

SEASON: Final = "precipitation/models/mean_season"
SWEEP: Final[Mapping[str, Any]] = {
    "trials": 6,
    "seed": 3,
    "space": {"prior_days": {"low": 1, "high": 30}, "by": {"choices": [["month"], []]}},
}
TABLE: Final = "sweeps/mean_season"
SAME: Final = ("trial", "state", "score", "values", "reports")


def with_sweep(folder: Path, **changes: Any) -> Path:
    entry = {**SKY[SEASON], "sweep": {**SWEEP, **changes}, "compute": {"gpu": 1, "memory": "2Gi"}}
    return write_catalogue(folder, {**SKY, SEASON: entry})


def runs_by_trial(folder: Path) -> Counter[str]:
    """How many runs the tracker has of each trial."""
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    runs = mlflow.search_runs(experiment_names=["views_dagster"], output_format="list")
    return Counter(run.data.tags[TRIAL] for run in runs if STUDY in run.data.tags)


@pytest.fixture(scope="module")
def shared(sky_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The sweep of three workers, one after the other in this process."""
    folder = tmp_path_factory.mktemp("shared")
    home = sky_home.copy(folder, project=with_sweep(folder, workers=3))
    home.run(f"key:{TABLE}", MONTH)
    return home


@pytest.fixture(scope="module")
def alone(sky_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The same in one step."""
    folder = tmp_path_factory.mktemp("alone")
    home = sky_home.copy(folder, project=with_sweep(folder))
    home.run(f"key:{TABLE}", MONTH)
    return home


def trials(home: Home) -> pl.DataFrame:
    return home.rows(TABLE, MONTH).sort("trial")


@pytest.mark.slow
def test_workers_in_one_process_give_what_one_step_gives(shared: Home, alone: Home) -> None:
    assert trials(shared).select(SAME).equals(trials(alone).select(SAME))
    assert trials(shared)["trial"].to_list() == list(range(6))
    one, several = alone.metadata(TABLE, MONTH), shared.metadata(TABLE, MONTH)
    assert several.keys() == one.keys()
    told = ("study", "best_score", "present_score", "trials", "pruned", "failed", "features_digest", "read")
    assert {name: several[name] for name in told} == {name: one[name] for name in told}
    # The catalogues' folders differ in name.
    assert several["proposed_change"].splitlines()[3:-1] == one["proposed_change"].splitlines()[3:-1]
    assert runs_by_trial(shared.folder) == runs_by_trial(alone.folder) == Counter(map(str, range(6)))


@pytest.mark.slow
def test_how_many_share_it_makes_no_other_asset(shared: Home, alone: Home) -> None:
    one, several = (home.defs.resolve_asset_graph().get(dg.AssetKey(TABLE.split("/"))) for home in (alone, shared))
    assert one.code_version == several.code_version is not None
    assert all(one.metadata[name] == several.metadata[name] for name in (ROW_KEYS, BEGINS))
    assert (one.group_name, one.kinds, one.partitions_def) == (
        several.group_name,
        several.kinds,
        several.partitions_def,
    )
    assert one.parent_keys == several.parent_keys == {dg.AssetKey(["features", "storm_columns"])}
    assert one.description == several.description


@pytest.mark.slow
def test_only_what_trains_asks_for_a_machine(shared: Home, alone: Home) -> None:
    wanted = Compute(gpu=1, memory="2Gi").op_tags()[POD_TAG]["container_config"]["resources"]
    found = {}
    for home in (shared, alone):
        asset = home.defs.resolve_assets_def(dg.AssetKey(TABLE.split("/")))
        nodes = asset.node_def.nodes if isinstance(asset.node_def, dg.GraphDefinition) else [asset]
        for node in nodes:
            op = node.definition if node is not asset else asset.op
            config = json.loads(op.tags.get(POD_TAG, "{}"))
            name = node.name if node is not asset else "one step"
            found[name] = wanted == config.get("container_config", {}).get("resources")
            assert op.pool == ("gpu" if found[name] else None)
            assert "job_spec_config" not in config, "the time limit is that of one training"
    assert found == {"worker_1": True, "worker_2": True, "worker_3": True, "report": False, "one step": True}


@pytest.mark.slow
def test_there_are_no_more_workers_than_trials(tmp_path: Path) -> None:
    home = open_home(tmp_path, with_sweep(tmp_path, workers=9, trials=2))
    asset = home.defs.resolve_assets_def(dg.AssetKey(TABLE.split("/")))
    assert sorted(node.name for node in asset.node_def.nodes) == ["report", "worker_1", "worker_2"]


@pytest.mark.slow
def test_a_missing_month_is_named_with_the_command_that_makes_it(sky_home: Home, tmp_path: Path) -> None:
    home = sky_home.copy(tmp_path, project=with_sweep(tmp_path, workers=2))
    result = home.run(f"key:{TABLE}", "2022-08", raise_on_error=False)
    errors = [event.event_specific_data.error for event in result.filter_events(lambda event: event.is_step_failure)]
    assert len(errors) == 2, "of each worker, which was not started again in vain"
    assert all(error and f"--select '*{TABLE}' --partition 2022-08" in error.to_string() for error in errors)


# Steps as processes.


def job_in_processes() -> dg.JobDefinition:
    """A sweep by two workers, each a process."""
    return bowl_job(dg.multiprocess_executor, workers=2)


def run_in_processes(instance: dg.DagsterInstance) -> list[dg.DagsterEvent]:
    """Events of a run of `job_in_processes` that succeeds."""
    with dg.execute_job(
        dg.reconstructable(job_in_processes),
        instance=instance,
        tags={"dagster/partition": FIRST},
        raise_on_error=True,
    ) as result:
        assert result.success
        return list(result.all_events)


@pytest.fixture
def bowl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a sweep."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    furnish(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("end", "deaths"), [(signal.SIGKILL, ["1"]), (signal.SIGTERM, [])])
def test_a_worker_that_is_ended_starts_again_and_no_trial_is_lost(
    bowl: Path, end: signal.Signals, deaths: list[str]
) -> None:
    killer = ended_in_its_third_attempt(bowl, end)
    with dg.DagsterInstance.local_temp(str(bowl)) as instance:
        events = run_in_processes(instance)
        killer.join()
    restarted = [event.step_key for event in events if event.event_type_value == "STEP_RESTARTED"]
    assert len(restarted) == 1
    assert restarted[0] in ("sweeps__quiet_bowl.worker_1", "sweeps__quiet_bowl.worker_2")
    assert_each_trial_once_but_the_third_attempt(bowl)
    assert runs_by_trial(bowl) == Counter(map(str, range(8)))
    with closing(sqlite3.connect(bowl / "sweeps.db")) as studies:
        counted = studies.execute("SELECT value_json FROM trial_user_attributes WHERE key = 'crashes'").fetchall()
    assert [count for (count,) in counted] == deaths, "who is told to go hands its trial back"


# Where a local file is no place for trials.


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_local_file_is_refused_where_steps_share_no_disk(sky_home: Home, tmp_path: Path, workers: int) -> None:
    apart = Tracking(tracking_uri="", study_storage=f"sqlite:///{tmp_path}/sweeps.db", one_machine=False)
    project = with_sweep(tmp_path, workers=workers)
    sky_home.copy(tmp_path, project=project)
    home = open_home(tmp_path, project, tracking=apart)
    with pytest.raises((PlatformError, dg.Failure), match="each step has a disk of its own; set VIEWS_STUDIES"):
        home.run(f"key:{TABLE}", MONTH)
    assert not (tmp_path / "sweeps.db").exists()
