"""Sweeps that several workers share, in a file and on a server: no trial is lost, none is finished twice."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from views_dagster.errors import PlatformError
from views_dagster.tuning.database import hand_back
from views_dagster.tuning.liveness import this_process
from views_dagster.tuning.records import SweepResult, TrialRecord
from views_dagster.tuning.sweep import collect_sweep, run_sweep, share_sweep
from views_dagster.tuning.worker import Sweep
from views_dagster_tests.homes import ROOT
from views_dagster_tests.tuning.objectives import PATIENCE_SECONDS, START, begun, held, lines_of, score_of, sweep_of

SHARE = """
import sys
from views_dagster.tuning.sweep import share_sweep
from views_dagster.tuning.worker import Sweep
share_sweep(Sweep.model_validate_json(sys.stdin.read()), run="a run", log=print)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of which each worker is the first to make the tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sweeps.db"
    return str(request.getfixturevalue("postgres_url"))


def shared(folder: Path, url: str, function: str = "bowl", **changes: object) -> Sweep:
    return sweep_of(folder, function, **changes).model_copy(update={"storage_url": url})


def start_worker(sweep: Sweep) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", SHARE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    process.stdin.write(sweep.model_dump_json(by_alias=True))
    process.stdin.close()
    return process


def collect(sweep: Sweep, told: list[TrialRecord] | None = None) -> SweepResult:
    return collect_sweep(sweep, log=lambda line: None, on_trial=(told if told is not None else []).append)


def assert_complete(result: SweepResult, trials: int) -> None:
    assert [trial.number for trial in result.trials] == list(range(trials))
    assert [trial.score for trial in result.trials] == [
        score_of(START.changed(trial.values)) for trial in result.trials
    ]


@pytest.mark.slow
def test_workers_share_the_trials_of_a_study(tmp_path: Path, url: str) -> None:
    sweep = shared(tmp_path, url, trials=10)
    workers = [start_worker(sweep) for _ in range(3)]
    assert [worker.wait(PATIENCE_SECONDS) for worker in workers] == [0, 0, 0]
    told: list[TrialRecord] = []
    result = collect(sweep, told)
    assert_complete(result, 10)
    assert Counter(begun(tmp_path)) == lines_of(result.trials)
    assert tuple(told) == result.trials
    assert collect(sweep, told) == result
    assert len(told) == 10, "each is told of once"
    alone = tmp_path / "alone"
    alone.mkdir()
    one = run_sweep(sweep_of(alone, trials=10), log=lambda line: None)
    assert [trial.values for trial in result.trials] == [trial.values for trial in one.trials]


@pytest.mark.slow
def test_the_trial_of_a_killed_worker_is_tried_again_by_another(tmp_path: Path, url: str) -> None:
    (tmp_path / "hold").touch()
    sweep = shared(tmp_path, url, trials=8, arguments={"hold_at": 3})
    workers = [start_worker(sweep) for _ in range(2)]
    pid = held(tmp_path)
    third = begun(tmp_path)[2]
    (tmp_path / "hold").unlink()
    os.kill(pid, signal.SIGKILL)
    assert sorted(worker.wait(PATIENCE_SECONDS) for worker in workers) == [-signal.SIGKILL, 0]
    result = collect(sweep)
    assert_complete(result, 8)
    assert Counter(begun(tmp_path)) == lines_of(result.trials) + Counter([third])


@pytest.mark.slow
def test_a_worker_on_another_machine_is_given_up_when_it_is_silent(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "hold").touch()
    sweep = shared(tmp_path, postgres_url, trials=4, arguments={"hold_at": 2}).model_copy(
        update={"heartbeat_seconds": 1}
    )
    worker = start_worker(sweep)
    pid = held(tmp_path)
    second = begun(tmp_path)[1]
    (tmp_path / "hold").unlink()
    os.kill(pid, signal.SIGKILL)
    worker.wait(PATIENCE_SECONDS)
    # Nobody can look up a process elsewhere.
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        renamed = "UPDATE trial_user_attributes SET value_json = '\"elsewhere 1 1\"' WHERE key = 'owner'"
        connection.execute(text(renamed))
    share_sweep(sweep, run="a run", log=lambda line: None)
    result = collect(sweep)
    assert_complete(result, 4)
    assert Counter(begun(tmp_path)) == lines_of(result.trials) + Counter([second])
    with engine.connect() as connection:
        deaths = connection.execute(text("SELECT value_json FROM trial_user_attributes WHERE key = 'crashes'"))
        assert deaths.scalars().all() == ["1"]
    engine.dispose()


@pytest.mark.slow
def test_settings_that_kill_every_worker_fail(tmp_path: Path, url: str) -> None:
    sweep = shared(tmp_path, url, "deadly", trials=2, arguments={"attempts": 3})
    statuses = [start_worker(sweep).wait(PATIENCE_SECONDS) for _ in range(4)]
    assert statuses == [-signal.SIGKILL] * 3 + [0]
    first, second = collect(sweep).trials
    assert (first.state, first.error) == ("failed", "its process died 3 times")
    assert second.state == "complete"
    assert len(begun(tmp_path)) == 4


@pytest.mark.slow
def test_one_of_many_hands_a_trial_back(tmp_path: Path, url: str) -> None:
    study = shared(tmp_path, url).open()
    claim = study.claim()
    assert claim is not None
    at_once, done = threading.Barrier(4), list[bool]()

    def try_it() -> None:
        at_once.wait()
        done.append(hand_back(study._storage, claim._trial._trial_id, this_process()))

    threads = [threading.Thread(target=try_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, False, False, True]
    again = study.claim()
    assert again is not None
    assert (again.number, again.values) == (0, claim.values)
    study.release(again._trial._trial_id, "elsewhere 1 1")
    following = study.claim()
    assert following is not None
    assert following.number == 1, "a trial stays with who owns it"
    study.close()


def test_workers_of_a_run_have_their_time_in_common(tmp_path: Path) -> None:
    study = sweep_of(tmp_path, timeout_hours=2).open()
    first = study.deadline("one")
    assert first is not None
    assert study.deadline("one") == first
    assert (study.deadline("other") or 0) > first
    study.close()
    sweep = sweep_of(tmp_path, timeout_hours=1e-9)
    share_sweep(sweep, run="late", log=lambda line: None)
    assert begun(tmp_path) == []


def test_what_workers_have_left_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="0 of 6 trials of a study have finished, but no worker is left"):
        collect(sweep_of(tmp_path))
