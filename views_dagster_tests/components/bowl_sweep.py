"""A sweep over `objectives.bowl` as a job of several steps, one of which is ended while it tries something."""

import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

import dagster as dg
import polars as pl
from pydantic import BaseModel

from views_dagster.calendar import from_key
from views_dagster.components.catalogue import MONTHS
from views_dagster.components.compute import Compute
from views_dagster.components.sweep import sweep_asset
from views_dagster.storage.tables import TableStore
from views_dagster.tuning.space import SweepSettings
from views_dagster_tests.homes import resources_in
from views_dagster_tests.tuning import objectives
from views_dagster_tests.tuning.objectives import SPACE, begun, held

FOLDER: Final = "VIEWS_TEST_FOLDER"
FIRST: Final = "1990-01"
TRIALS: Final = 8


class Bowl(BaseModel):
    """A learner with the settings that `objectives.bowl` looks at."""

    x: float = 0.5
    b: dict[str, int] = {"y": 2}


def furnish(folder: Path) -> None:
    """Make a month of features and the file that the sweep proposes to change."""
    (folder / "defs.yaml").write_text("attributes:\n  learner:\n    x: 0.5\n    b: {y: 2}\n")
    rows = pl.DataFrame({"month_id": [from_key(FIRST)], "unit_id": [1]}, schema={"month_id": pl.Int32, "unit_id": int})
    TableStore(str(folder / "tables")).write("features/flat", rows, [from_key(FIRST)], {})


def bowl_job(
    executor: dg.ExecutorDefinition, *, workers: int, compute: Compute | None = None, **resources: Any
) -> dg.JobDefinition:
    """The job, whose folder the environment names; resources given here replace those of the folder."""
    folder = Path(os.environ[FOLDER])
    settings = {"trials": TRIALS, "workers": workers, "pruner": {"kind": "none"}, "space": SPACE}
    tried = sweep_asset(
        name="quiet_bowl",
        folder=folder,
        sweep=SweepSettings.model_validate(settings),
        learner=Bowl(),
        learners=Bowl,
        features=dg.AssetKey(["features", "flat"]),
        objective=f"{objectives.__name__}:bowl",
        arguments=lambda rows, month, scratch: {"folder": str(folder), "hold_at": 3},
        measure="height",
        compute=compute or Compute(),
    )
    defs = dg.Definitions(
        assets=[tried, dg.AssetSpec(["features", "flat"], partitions_def=MONTHS)],
        resources=resources_in(folder, **resources),
        jobs=[dg.define_asset_job("tried", selection=[tried], executor_def=executor)],
    )
    return defs.resolve_job_def("tried")


def ended_in_its_third_attempt(folder: Path, end: signal.Signals) -> threading.Thread:
    """A thread that ends whoever makes the third attempt of the sweep; it ends itself with that."""
    (folder / "hold").touch()

    def kill() -> None:
        pid = held(folder)
        (folder / "hold").unlink()
        os.kill(pid, end)

    killer = threading.Thread(target=kill)
    killer.start()
    return killer


def assert_each_trial_once_but_the_third_attempt(folder: Path) -> None:
    """Every trial has a score, and was tried once; the one that was cut off twice, with the same values."""
    rows = TableStore(str(folder / "tables")).scan("sweeps/quiet_bowl", 0, 9999).collect().sort("trial")
    assert rows["trial"].to_list() == list(range(TRIALS))
    assert rows["state"].unique().to_list() == ["complete"]
    attempts = Counter(begun(folder))
    assert sorted(attempts.values()) == [1] * (TRIALS - 1) + [2]
    assert attempts[begun(folder)[2]] == 2
