"""Objectives for sweeps in tests. Processes of a sweep find them by name, so they stand in a module of their own."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from views_dagster.errors import ForecastError, SourceError
from views_dagster.tuning.records import TrialRecord
from views_dagster.tuning.space import StartingPoint, SweepSettings
from views_dagster.tuning.worker import Objective, Report, Sweep

HERE = __name__
PATIENCE_SECONDS = 120
POLL_SECONDS = 0.01
START = StartingPoint({"x": 0.5, "b": {"y": 2}}, {"x": 0.5, "b": {"y": 2}})
SPACE = {"x": {"low": -5, "high": 5}, "b.y": {"low": 0, "high": 10, "int": True}}


def settings_of(**changes: Any) -> SweepSettings:
    """Six trials over two settings, without pruning."""
    return SweepSettings.model_validate({"trials": 6, "pruner": {"kind": "none"}, "space": SPACE, **changes})


def sweep_of(folder: Path, function: str = "bowl", *, study: str = "a study", **changes: Any) -> Sweep:
    """A sweep over `bowl` or another function of this module, which writes to `folder`."""
    arguments = {"folder": str(folder), **changes.pop("arguments", {})}
    return Sweep(
        study=study,
        storage_url=f"sqlite:///{folder}/sweeps.db",
        settings=settings_of(**changes),
        start=START,
        objective=f"{HERE}:{function}",
        arguments=arguments,
    )


def score_of(settings: Mapping[str, Any]) -> float:
    """Lowest, 0, at x = 1 and y = 3."""
    return float((settings["x"] - 1) ** 2 + (settings["b"]["y"] - 3) ** 2)


def begun(folder: Path) -> list[str]:
    """What was tried, a line an attempt, in the order in which attempts began."""
    file = folder / "begun"
    return file.read_text().splitlines() if file.exists() else []


def lines_of(trials: Iterable[TrialRecord]) -> Counter[str]:
    """What `begun` holds for each of these trials, run once."""
    return Counter(f"{trial.values['x']} {trial.values['b.y']}" for trial in trials)


def held(folder: Path) -> int:
    """Id of the process that waits for ever, as soon as there is one."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (folder / "held").exists() or not (written := (folder / "held").read_text()):
        assert time.monotonic() < deadline, "no process came to wait for ever"
        time.sleep(POLL_SECONDS)
    return int(written)


def bowl(folder: str, hold_at: int | None = None) -> Objective:
    """Writes down what it tries. Attempt number `hold_at` waits for ever, if the file `hold` is there.

    The process that waits writes its id to the file `held`.
    """

    def objective(settings: Mapping[str, Any], report: Report) -> float:
        with Path(folder, "begun").open("a") as file:
            file.write(f"{settings['x']} {settings['b']['y']}\n")
        if hold_at is not None and len(begun(Path(folder))) == hold_at and Path(folder, "hold").exists():
            Path(folder, "held").write_text(str(os.getpid()))
            signal.pause()
        report(0, score_of(settings) + 1)
        return score_of(settings)

    return objective


def deadly(folder: str, attempts: int) -> Objective:
    """As `bowl`, but the process dies in its first `attempts` attempts, as when memory runs out."""
    inner = bowl(folder)

    def objective(settings: Mapping[str, Any], report: Report) -> float:
        score = inner(settings, report)
        if len(begun(Path(folder))) <= attempts:
            os.kill(os.getpid(), signal.SIGKILL)
        return score

    return objective


def diverging(folder: str) -> Objective:
    """As `bowl`, but no forecast for negative x."""
    inner = bowl(folder)

    def objective(settings: Mapping[str, Any], report: Report) -> float:
        if settings["x"] < 0:
            raise ForecastError("the draws are infinite")
        return inner(settings, report)

    return objective


def broken(folder: str) -> Objective:
    """A bug in everything but the first attempt, as long as the file `broken` is there."""
    inner = bowl(folder)

    def objective(settings: Mapping[str, Any], report: Report) -> float:
        score = inner(settings, report)
        if len(begun(Path(folder))) > 1 and Path(folder, "broken").exists():
            raise ZeroDivisionError("a bug")
        return score

    return objective


def without_data(folder: str) -> Objective:
    """Cannot be built."""
    raise SourceError(f"there is no panel in {folder}")
