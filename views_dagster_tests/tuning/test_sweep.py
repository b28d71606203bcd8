"""Sweeps: exactly as many trials as asked for, none repeated, whatever is killed, with the scores of plain runs."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from views_dagster.errors import PlatformError, SourceError
from views_dagster.tuning.records import SweepResult, TrialRecord
from views_dagster.tuning.space import StartingPoint
from views_dagster.tuning.sweep import run_sweep, study_name
from views_dagster.tuning.worker import Sweep
from views_dagster_tests.homes import ROOT
from views_dagster_tests.tuning.objectives import (
    PATIENCE_SECONDS,
    POLL_SECONDS,
    START,
    begun,
    lines_of,
    score_of,
    settings_of,
    sweep_of,
)

RUN = """
import sys
from views_dagster.tuning.sweep import run_sweep, study_name
from views_dagster.tuning.space import StartingPoint
from views_dagster.tuning.worker import Sweep
run_sweep(Sweep.model_validate_json(sys.stdin.read()), log=print)
"""


def run(sweep: Sweep, told: list[TrialRecord] | None = None) -> SweepResult:
    return run_sweep(
        sweep, log=lambda line: None, on_trial=lambda record: told.append(record) if told is not None else None
    )


def kill_when_begun(sweep: Sweep, folder: Path, attempts: int) -> None:
    """Run a sweep in a process of its own and kill that with SIGKILL once so many attempts have begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    process.stdin.write(sweep.model_dump_json(by_alias=True))
    process.stdin.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(begun(folder)) < attempts:
        assert process.poll() is None, "the sweep ended before the moment in which it should be killed"
        assert time.monotonic() < deadline, "the moment in which the sweep should be killed never came"
        time.sleep(POLL_SECONDS)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def assert_complete(result: SweepResult, trials: int) -> None:
    assert result.is_complete
    assert [trial.number for trial in result.trials] == list(range(trials))
    assert {trial.state for trial in result.trials} == {"complete"}
    for trial in result.trials:
        assert trial.score == score_of(START.changed(trial.values))
    assert result.best.score == min(trial.score for trial in result.trials if trial.score is not None)


def test_a_study_is_named_by_what_its_scores_depend_on() -> None:
    def name(data: str = "d", start: StartingPoint = START, **changes: object) -> str:
        return study_name("purple_alien", "2024-01", settings_of(**changes), start, about={"data": data})

    assert name().startswith("purple_alien 2024-01 ")
    assert name() == name(trials=7, parallel=2, timeout_hours=1)
    others = [name("e"), name(seed=1), name(pruner={"kind": "median"}), name(start=StartingPoint({}, {"x": 1}))]
    assert len({name(), *others}) == 5


def test_a_sweep_tries_and_tells_of_each_trial_once(tmp_path: Path) -> None:
    told: list[TrialRecord] = []
    result = run(sweep_of(tmp_path), told)
    assert_complete(result, 6)
    assert tuple(told) == result.trials
    assert Counter(begun(tmp_path)) == lines_of(result.trials)
    assert result.current == result.trials[0]
    assert (result.current.values, result.current.score) == ({"x": 0.5, "b.y": 2}, 1.25)
    assert result.trials[1].reports == {0: result.trials[1].score + 1 if result.trials[1].score is not None else 0}


def test_a_finished_sweep_is_not_repeated(tmp_path: Path) -> None:
    first = run(sweep_of(tmp_path))
    told: list[TrialRecord] = []
    assert run(sweep_of(tmp_path), told) == first
    assert (told, len(begun(tmp_path))) == ([], 6)
    more = run(sweep_of(tmp_path, trials=8), told)
    assert_complete(more, 8)
    assert more.trials[:6] == first.trials
    assert [record.number for record in told] == [6, 7]


@pytest.mark.slow
def test_equal_sweeps_try_the_same_and_another_seed_does_not(tmp_path: Path) -> None:
    results = []
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        result = run(sweep_of(tmp_path / name, trials=12, seed=seed))
        results.append([(trial.values, trial.score) for trial in result.trials])
    assert results[0] == results[1]
    assert results[0][0] == results[2][0]
    assert all(one != other for one, other in zip(results[0][1:], results[2][1:], strict=True))


@pytest.mark.slow
def test_a_killed_sweep_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir()
    killed.mkdir()
    undisturbed = run(sweep_of(calm, trials=14))
    (killed / "hold").touch()
    for attempt in (4, 13):
        kill_when_begun(sweep_of(killed, trials=14, arguments={"hold_at": attempt}), killed, attempt)
    (killed / "hold").unlink()
    told: list[TrialRecord] = []
    resumed = run(sweep_of(killed, trials=14, arguments={"hold_at": 13}), told)
    assert_complete(resumed, 14)
    assert [(trial.values, trial.score) for trial in resumed.trials] == [
        (trial.values, trial.score) for trial in undisturbed.trials
    ]
    # Attempt 4 was trial 3, attempt 13, with one repeated, trial 11: these two were tried twice and all others once.
    twice = lines_of(resumed.trials[number] for number in (3, 11))
    assert Counter(begun(killed)) == lines_of(resumed.trials) + twice
    assert [record.number for record in told] == [11, 12, 13]


@pytest.mark.slow
def test_a_killed_parallel_sweep_repeats_no_finished_trial(tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    sweep = sweep_of(tmp_path, trials=12, parallel=2, arguments={"hold_at": 5}, study="killed in parallel")
    kill_when_begun(sweep, tmp_path, 7)
    (tmp_path / "hold").unlink()
    before = begun(tmp_path)
    result = run(sweep)
    assert_complete(result, 12)
    # Of two at work at most two were cut off, the one that held among them.
    attempts = Counter(begun(tmp_path))
    assert lines_of(result.trials) - attempts == Counter()
    again = attempts - lines_of(result.trials)
    assert 1 <= again.total() <= 2
    assert before[4] in again


@pytest.mark.slow
def test_a_parallel_sweep_has_exactly_its_trials_with_their_own_scores(tmp_path: Path) -> None:
    told: list[TrialRecord] = []
    result = run(sweep_of(tmp_path, trials=10, parallel=3), told)
    assert_complete(result, 10)
    assert Counter(begun(tmp_path)) == lines_of(result.trials)
    assert sorted(record.number for record in told) == list(range(10))
    (tmp_path / "alone").mkdir()
    alone = run(sweep_of(tmp_path / "alone", trials=10))
    assert [trial.values for trial in result.trials] == [trial.values for trial in alone.trials]


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_its_trial_tried_again(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "deadly", trials=4, parallel=2, arguments={"attempts": 2})
    result = run(sweep)
    assert_complete(result, 4)
    assert len(begun(tmp_path)) == 6


@pytest.mark.slow
def test_settings_that_kill_every_process_fail(tmp_path: Path) -> None:
    lines: list[str] = []
    sweep = sweep_of(tmp_path, "deadly", trials=2, parallel=2, arguments={"attempts": 1000})
    result = run_sweep(sweep, log=lines.append)
    assert [trial.error for trial in result.trials] == ["its process died 3 times, by signal 9"] * 2
    assert len(begun(tmp_path)) == 6
    assert "a process of the sweep died by signal 9; another takes its place" in lines
    with pytest.raises(PlatformError, match="none of the 2 finished trials of a study has a score; the first failed"):
        _ = result.best


def test_settings_without_a_forecast_fail_and_the_others_go_on(tmp_path: Path) -> None:
    result = run(sweep_of(tmp_path, "diverging"))
    assert result.is_complete
    negative = [trial for trial in result.trials if float(str(trial.values["x"])) < 0]
    assert 0 < len(negative) < 6
    assert {trial.error for trial in negative} == {"ForecastError: the draws are infinite"}
    assert [trial.number for trial in result.trials if trial.state == "failed"] == [trial.number for trial in negative]
    assert result.best not in negative


@pytest.mark.parametrize("parallel", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_bug_stops_the_sweep_and_the_trial_is_tried_again(tmp_path: Path, parallel: int) -> None:
    (tmp_path / "broken").touch()
    sweep = sweep_of(tmp_path, "broken", trials=3, parallel=parallel)
    with pytest.raises((ZeroDivisionError, RuntimeError), match="a bug"):
        run(sweep)
    (tmp_path / "broken").unlink()
    assert_complete(run(sweep), 3)


@pytest.mark.parametrize("parallel", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_a_person_must_mend_is_said_as_it_is(tmp_path: Path, parallel: int) -> None:
    with pytest.raises(PlatformError, match=f"there is no panel in {tmp_path}") as caught:
        run(sweep_of(tmp_path, "without_data", parallel=parallel))
    assert (type(caught.value) is SourceError) == (parallel == 1)


def test_a_sweep_that_is_out_of_time_begins_no_trial_and_goes_on_later(tmp_path: Path) -> None:
    result = run(sweep_of(tmp_path, timeout_hours=1e-9))
    assert (result.trials, result.is_complete, begun(tmp_path)) == ((), False, [])
    with pytest.raises(PlatformError, match="let it run for longer"):
        _ = result.best
    assert_complete(run(sweep_of(tmp_path)), 6)


def test_an_untold_trial_is_told_of_by_the_next_run(tmp_path: Path) -> None:
    def fail(record: TrialRecord) -> None:
        if record.number == 2:
            raise ConnectionError("the tracker is away")

    with pytest.raises(ConnectionError):
        run_sweep(sweep_of(tmp_path), log=lambda line: None, on_trial=fail)
    told: list[TrialRecord] = []
    run(sweep_of(tmp_path), told)
    assert [record.number for record in told] == [2, 3, 4, 5]
    assert len(begun(tmp_path)) == 6


def test_trials_that_fall_behind_are_stopped_but_never_the_present_settings(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, trials=20, pruner={"kind": "median", "startup_trials": 3})
    result = run(sweep)
    assert result.is_complete
    assert result.count("pruned") > 0
    assert result.trials[0].state == "complete"
    # Stopped because it was worse than the median of those before it.
    first = next(trial for trial in result.trials if trial.state == "pruned")
    before = sorted(trial.reports[0] for trial in result.trials[: first.number])
    assert first.reports[0] > before[(len(before) - 1) // 2]
    assert first.score is None


def test_a_worker_ends_when_nobody_is_left_who_started_it(tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    sweep = sweep_of(tmp_path, arguments={"hold_at": 1})
    worker = subprocess.Popen(
        [sys.executable, "-m", "views_dagster.tuning.worker"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        text=True,
    )
    assert worker.stdin is not None
    worker.stdin.write(sweep.model_dump_json(by_alias=True) + "\n")
    worker.stdin.close()
    assert worker.wait(timeout=PATIENCE_SECONDS) == 1


@pytest.mark.slow
def test_a_worker_on_its_own_works_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(sweep_of(tmp_path).model_dump_json(by_alias=True))
    subprocess.run(
        [sys.executable, "-m", "views_dagster.tuning.worker", str(file)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    told: list[TrialRecord] = []
    assert_complete(run(sweep_of(tmp_path), told), 6)
    assert (len(told), len(begun(tmp_path))) == (6, 6)
