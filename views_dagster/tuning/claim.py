"""A trial that this process runs: what it tries, how it says how good it is, and how it ends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import JsonValue

from views_dagster.tuning.liveness import this_process

if TYPE_CHECKING:
    from optuna import Trial

    from views_dagster.tuning.study import SharedStudy


class Claim:
    """A trial that this process runs.

    Attributes:
        number: from 0.
        values: by dotted path.
        settings: of the learner, with the values.
    """

    def __init__(
        self, study: "SharedStudy", trial: "Trial", values: dict[str, JsonValue], *, reported: frozenset[int]
    ) -> None:
        self.number = trial.number
        self.values = values
        self.settings = study.start.changed(values)
        self._study, self._trial, self._reported = study, trial, reported
        self._over = False
        # What the present settings score is what all others are compared with.
        self._prunable = not (trial.number == 0 and study.current is not None)

    def report(self, step: int, value: float) -> None:
        """Say how good the trial is at a point of its way, counted from 0; lower is better.

        Raises:
            TrialPruned: it is not worth going on.
        """
        import optuna

        if step not in self._reported:
            self._trial.report(value, step)
        if self._prunable and self._trial.should_prune():
            raise optuna.TrialPruned

    def finish(self, score: float) -> None:
        """It has a score."""
        from optuna.trial import TrialState

        self._study.end(self._trial._trial_id, TrialState.COMPLETE, score)
        self._over = True

    def prune(self) -> None:
        """It was stopped early."""
        from optuna.trial import TrialState

        self._study.end(self._trial._trial_id, TrialState.PRUNED)
        self._over = True

    def fail(self, error: str) -> None:
        """Its settings give no score."""
        from optuna.trial import TrialState

        self._study.end(self._trial._trial_id, TrialState.FAIL, error=error)
        self._over = True

    @contextmanager
    def running(self) -> Iterator[None]:
        """Give signs of life; a trial that is left without an end waits again."""
        ended = threading.Event()
        beating = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            if not self._over:
                self._study.release(self._trial._trial_id, this_process())

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(self._study.heartbeat_seconds):
            self._study.beat(self._trial._trial_id)
        self._study.leave()
