"""Studies: each trial is claimed once, outlives its process, and ends once."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from views_dagster.errors import PlatformError
from views_dagster.tuning.claim import Claim
from views_dagster.tuning.database import open_database
from views_dagster.tuning.space import StartingPoint, SweepSettings
from views_dagster.tuning.study import SharedStudy
from views_dagster_tests.homes import ROOT
from views_dagster_tests.tuning.objectives import START, settings_of

CLAIMANT = """
import sys
from views_dagster.tuning.study import SharedStudy
from views_dagster_tests.tuning.objectives import START, settings_of
claim = SharedStudy(sys.argv[1], "a study", settings_of(), START).claim()
print(claim.number, claim.values["x"], claim.values["b.y"])
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a study; making its tables takes longer than a test."""
    file = tmp_path_factory.mktemp("tables") / "studies.db"
    open_database(f"sqlite:///{file}", 10).engine.dispose()
    return file


@pytest.fixture
def url(tmp_path: Path, tables: Path) -> str:
    return f"sqlite:///{shutil.copy(tables, tmp_path)}"


@pytest.fixture
def studies() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def opened(
    studies: ExitStack, url: str, settings: SweepSettings | None = None, start: StartingPoint = START
) -> SharedStudy:
    study = SharedStudy(url, "a study", settings or settings_of(), start)
    studies.callback(study.close)
    return study


def must_claim(study: SharedStudy) -> Claim:
    claim = study.claim()
    assert claim is not None
    return claim


def test_trials_are_claimed_in_order_and_once(url: str, studies: ExitStack) -> None:
    one, other = opened(studies, url), opened(studies, url)
    assert [must_claim(study).number for study in (one, other, one, other, one, other)] == [0, 1, 2, 3, 4, 5]
    assert one.claim() is None
    assert one.unfinished() == 6


def test_the_first_trial_has_the_present_settings(url: str, studies: ExitStack) -> None:
    claim = must_claim(opened(studies, url))
    assert (claim.values, claim.settings) == ({"x": 0.5, "b.y": 2}, {"x": 0.5, "b": {"y": 2}})


def test_present_settings_outside_the_space_are_not_tried(url: str, studies: ExitStack) -> None:
    outside = StartingPoint({"x": 50.0, "b": {"y": 2}}, {"x": 50.0, "b": {"y": 2}})
    claim = must_claim(opened(studies, url, start=outside))
    assert -5 <= float(str(claim.values["x"])) <= 5


def test_no_trial_is_claimed_twice_by_many_at_once(url: str, studies: ExitStack) -> None:
    settings = settings_of(trials=20)
    opened(studies, url, settings)
    at_once, claimed = threading.Barrier(4), list[int]()

    def claim_all() -> None:
        study = SharedStudy(url, "a study", settings, START)
        at_once.wait()
        while (claim := study.claim()) is not None:
            claimed.append(claim.number)
        study.close()

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(20))


def test_a_study_that_many_begin_at_once_has_its_trials_once(tmp_path: Path, studies: ExitStack) -> None:
    url = f"sqlite:///{tmp_path}/new/studies.db"
    at_once, errors = threading.Barrier(4), list[BaseException]()

    def begin() -> None:
        at_once.wait()
        try:
            SharedStudy(url, "a study", settings_of(), START).close()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    study = opened(studies, url)
    numbers = []
    while (claim := study.claim()) is not None:
        numbers.append(claim.number)
        claim.finish(1.0)
    assert numbers == [0, 1, 2, 3, 4, 5]
    assert (study.unfinished(), len(study.records())) == (0, 6)


def test_a_trial_left_without_an_end_waits_again_with_its_values(url: str, studies: ExitStack) -> None:
    study = opened(studies, url)
    must_claim(study).finish(3.0)
    claim = must_claim(study)
    with pytest.raises(KeyboardInterrupt), claim.running():
        raise KeyboardInterrupt
    again = must_claim(study)
    assert (again.number, again.values) == (1, claim.values)


def test_a_trial_whose_process_is_gone_waits_again_with_its_values(url: str, studies: ExitStack) -> None:
    study = opened(studies, url)
    must_claim(study).finish(3.0)
    gone = subprocess.run(
        [sys.executable, "-c", CLAIMANT, url], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert must_claim(study).number == 2
    study.reclaim()
    again = must_claim(study)
    assert [str(again.number), *(str(again.values[path]) for path in ("x", "b.y"))] == gone


def test_a_trial_whose_process_lives_is_not_taken_from_it(url: str, studies: ExitStack) -> None:
    study = opened(studies, url)
    must_claim(study)
    study.reclaim()
    assert must_claim(study).number == 1


def age(url: str, trial: int, *, owner: str) -> None:
    """Make a running trial one of `owner` that was last heard of an hour ago."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour') WHERE trial_id = :trial"),
            {"trial": trial + 1},
        )
        connection.execute(
            text("UPDATE trial_user_attributes SET value_json = :owner WHERE trial_id = :trial AND key = 'owner'"),
            {"trial": trial + 1, "owner": f'"{owner}"'},
        )
    engine.dispose()


def test_a_trial_of_another_machine_waits_again_when_it_is_silent(url: str, studies: ExitStack) -> None:
    study = opened(studies, url)
    must_claim(study)
    must_claim(study)
    age(url, 1, owner="another-machine 17 4711")
    study.reclaim()
    assert must_claim(study).number == 1
    # Whoever claims it is heard of at once.
    study.reclaim()
    assert must_claim(study).number == 2


def test_the_first_result_of_a_trial_stands(url: str, studies: ExitStack) -> None:
    study = opened(studies, url)
    thought_dead = must_claim(study)
    age(url, 0, owner="another-machine 17 4711")
    study.reclaim()
    must_claim(study).finish(1.0)
    thought_dead.finish(2.0)
    thought_dead.fail("late")
    study.reclaim()
    assert [(record.score, record.error) for record in study.records()] == [(1.0, None)]


def test_a_child_that_dies_too_often_takes_its_trial_along(url: str, studies: ExitStack) -> None:
    study = opened(studies, url)
    for crash in range(3):
        assert must_claim(study).number == 0
        assert study.unfinished() == 6, crash
        assert study.count_crash(os.getpid(), cause="signal 9")
    assert not study.count_crash(os.getpid(), cause="signal 9")
    (record,) = study.records()
    assert (record.number, record.state, record.error) == (0, "failed", "its process died 3 times, by signal 9")


def test_more_trials_go_on_where_it_stopped_and_fewer_leave_some_out(url: str, studies: ExitStack) -> None:
    study = opened(studies, url, settings_of(trials=2))
    for _ in range(2):
        must_claim(study).finish(1.0)
    assert study.claim() is None
    more = opened(studies, url, settings_of(trials=3))
    assert must_claim(more).number == 2
    fewer = opened(studies, url, settings_of(trials=1))
    assert (fewer.claim(), fewer.unfinished(), len(fewer.records())) == (None, 0, 1)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"seed": 1}, START),
        ({"space": {"x": {"low": -5, "high": 6}}}, START),
        ({"pruner": {"kind": "median"}}, START),
        ({}, StartingPoint({"x": 0.25, "b": {"y": 2}}, {"x": 0.25, "b": {"y": 2}})),
    ],
)
def test_a_study_begun_otherwise_is_refused(
    url: str, studies: ExitStack, changes: dict[str, object], start: StartingPoint
) -> None:
    opened(studies, url)
    with pytest.raises(PlatformError, match="a study was begun with another space, seed, pruner or learner"):
        opened(studies, url, settings_of(**changes), start)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("no url", "no database URL"),
        ("sqlite:////proc/nowhere/studies.db", "name another place"),
        ("oracle://127.0.0.1/studies", "no driver for oracle is installed"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named(url: str, said: str, studies: ExitStack) -> None:
    with pytest.raises(PlatformError, match=said):
        opened(studies, url)


def test_a_password_is_not_shown(studies: ExitStack) -> None:
    with pytest.raises(PlatformError) as caught:
        opened(studies, "postgresql+psycopg2://someone:secret@127.0.0.1:1/studies")
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_proposals_of_the_first_trials_do_not_depend_on_the_others(
    url: str, tmp_path: Path, studies: ExitStack
) -> None:
    other = f"sqlite:///{shutil.copy(tmp_path / 'studies.db', tmp_path / 'other.db')}"
    alone, crowd = opened(studies, url), opened(studies, other)
    values = []
    for _ in range(6):
        claim = must_claim(alone)
        values.append(claim.values)
        claim.finish(float(claim.number))
    assert [must_claim(crowd).values for _ in range(6)] == values
