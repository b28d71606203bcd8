"""What a process that works on a sweep does: build the objective once, then one trial after the other.

    python -m views_dagster.tuning.worker SWEEP.json

works until no trial is left, for example as a pod. Without a file it reads the sweep from the first line of standard
input, and lives no longer than that input stays open.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from views_dagster.errors import ForecastError, PanelError, PlatformError, QuerysetError
from views_dagster.tuning.claim import Claim
from views_dagster.tuning.space import StartingPoint, SweepSettings
from views_dagster.tuning.study import HEARTBEAT_SECONDS, SharedStudy

Report = Callable[[int, float], None]
"""Told how good a trial is at a point of its way, counted from 0; lower is better. It raises to stop the trial."""

Objective = Callable[[Mapping[str, Any], Report], float]
"""Score of a learner's settings, lower is better; the same as a plain run with these settings has."""

IDLE_SECONDS: Final = 1.0
REFUSED: Final = 3
"""Exit status of a worker that ends with an error that a person can act on."""


class Sweep(BaseModel):
    """Everything that a process must know to work on a sweep; it travels as JSON.

    Attributes:
        study: name of the study; one that exists is taken up again.
        storage_url: SQLAlchemy URL of a database for studies alone.
        objective: `module:function`; the function is called once in each process, with `arguments`, and returns the
            `Objective`. What is large travels as the path of a file.
        stop_at: no trial begins after this, in seconds since the epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str = Field(min_length=1, max_length=200)
    storage_url: str = Field(repr=False)
    settings: SweepSettings
    start: StartingPoint
    objective: str = Field(pattern=r"^[\w.]+:\w+$")
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    heartbeat_seconds: int = Field(default=HEARTBEAT_SECONDS, ge=1)
    stop_at: float | None = None

    def open(self) -> SharedStudy:
        """The study; PlatformError where its database cannot be opened or it was begun with other settings."""
        return SharedStudy(
            self.storage_url, self.study, self.settings, self.start, heartbeat_seconds=self.heartbeat_seconds
        )

    def build_objective(self) -> Objective:
        """The objective, in this process."""
        module, _, function = self.objective.partition(":")
        made: Objective = getattr(import_module(module), function)(**self.arguments)
        return made


def work(
    study: SharedStudy,
    objective: Objective,
    *,
    stop_at: float | None,
    after_each: Callable[[], None],
    reclaims: bool = True,
    counts: bool = False,
) -> None:
    """Run trials until all have finished, also those of other processes, or until it is `stop_at`.

    Args:
        reclaims: whether it looks for trials whose process is gone. One of several children leaves that to its parent,
            which counts how often they die.
        counts: whether a trial fails that has lost too many processes.
    """
    while stop_at is None or time.time() < stop_at:
        if reclaims:
            study.reclaim(counts=counts)
        claim = study.claim()
        if claim is not None:
            attempt(claim, objective)
            after_each()
        elif study.unfinished():
            time.sleep(IDLE_SECONDS)
        else:
            return


def attempt(claim: Claim, objective: Objective) -> None:
    """Run one trial to its end.

    Settings that do not go together, cannot be trained or give forecasts that break the contract make a failed trial.
    Any other error is nothing the settings can help: the trial waits again, and the error goes on.
    """
    import optuna

    with claim.running():
        try:
            score = float(objective(claim.settings, claim.report))
        except optuna.TrialPruned:
            claim.prune()
        except (ForecastError, PanelError, QuerysetError, ValidationError) as error:
            claim.fail(f"{type(error).__name__}: {error}")
        except optuna.exceptions.UpdateFinishedTrialError:
            # Thought dead, the trial was given to another process, which has finished it.
            return
        else:
            if math.isfinite(score):
                claim.finish(score)
            else:
                claim.fail(f"its score is {score}")


def main() -> None:
    """Work on the sweep that the command line or standard input names."""
    if len(sys.argv) > 1:
        sweep = Sweep.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    else:
        sweep = Sweep.model_validate_json(sys.stdin.readline())
        threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        study = sweep.open()
        alone = len(sys.argv) > 1
        work(study, sweep.build_objective(), stop_at=sweep.stop_at, after_each=lambda: None, reclaims=alone)
    except PlatformError as error:
        print(error, flush=True)
        raise SystemExit(REFUSED) from error
    study.close()


def _end_with_input() -> None:
    """End at once when who started this process is gone, however that came about."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
