"""Studies: a fixed number of trials in a database that any process may work on, take up again or read.

A study is made with all of its trials waiting. Who works on it claims the first one that waits; a trial whose process
is gone waits again, with the values it had. So a finished trial is never repeated, and as many finish as were asked
for, whatever is killed and however many work at once. Optuna proposes and stores; a claimed trial is in `claim`, what
it does is decided in `worker`, who works in `sweep`.
"""

import hashlib
import json
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from pydantic import JsonValue

from views_dagster.errors import PlatformError
from views_dagster.seeds import seed_for
from views_dagster.tuning.claim import Claim
from views_dagster.tuning.database import OWNER, hand_back, open_database
from views_dagster.tuning.liveness import is_child, is_gone, this_process
from views_dagster.tuning.records import STATES, TrialRecord
from views_dagster.tuning.search import pruner, sampler
from views_dagster.tuning.space import StartingPoint, SweepSettings, current_values

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

HEARTBEAT_SECONDS: Final = 10
MOST_CRASHES: Final = 3
"""A trial whose process dies so often, as when memory runs out, has failed."""

_VALUES, _ERROR, _CRASHES, _IDENTITY = "values", "error", "crashes", "identity"
_TOLD, _BEGAN = "told ", "began "


def identity_of(settings: SweepSettings, start: StartingPoint) -> str:
    """Digest of what makes two sweeps of a model the same search: space, seed, pruner and the learner as it is."""
    about = {**settings.model_dump(mode="json", include={"space", "seed", "pruner"}), "learner": start.complete}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


class SharedStudy:
    """One process's view of a study.

    Args:
        url: SQLAlchemy URL of the database, which holds nothing else; SQLite's file and tables are made where absent.
        name: of the study; one that exists is taken up again.
        settings: what to try. Space, seed and pruner are fixed for a name; the number of trials may change.
        start: the learner as it is; its own values are trial 0 where the space contains them.
        heartbeat_seconds: between two signs of life of a running trial.

    Raises:
        PlatformError: the database cannot be opened, or the study was begun with another space or learner.
    """

    def __init__(
        self,
        url: str,
        name: str,
        settings: SweepSettings,
        start: StartingPoint,
        *,
        heartbeat_seconds: int = HEARTBEAT_SECONDS,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name = name
        self.settings = settings
        self.start = start
        self.current = current_values(settings.space, start)
        self.heartbeat_seconds = heartbeat_seconds
        self._storage = open_database(url, heartbeat_seconds)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            direction="minimize",
            pruner=pruner(settings.pruner),
            load_if_exists=True,
        )
        self._id = self._storage.get_study_id_from_name(name)
        self._check_identity()
        self._add_trials()

    def claim(self) -> "Claim | None":
        """The first trial that waits, now this process's own; None where none waits."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        for frozen in self._trials(TrialState.WAITING):
            # Heard of before it runs, lest the last beat of an earlier owner makes it look forsaken.
            self._storage.record_heartbeat(frozen._trial_id)
            try:
                won = self._storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING)
            except UpdateFinishedTrialError:
                continue
            if won:
                with ExitStack() as undo:
                    undo.callback(self.release, frozen._trial_id, this_process())
                    self._storage.set_trial_user_attr(frozen._trial_id, OWNER, this_process())
                    claim = self._claimed(frozen)
                    undo.pop_all()
                return claim
        return None

    def reclaim(self, *, spared: Collection[int] = (), counts: bool = False) -> None:
        """Put trials back in the queue whose process is gone: dead on this machine, or silent for too long elsewhere.

        Args:
            spared: child processes whose trials stay, for `count_crash` to hear of.
            counts: whether a trial that has lost `MOST_CRASHES` processes in this way fails instead.
        """
        from optuna.trial import TrialState

        silent = set(self._storage._get_stale_trial_ids(self._id))
        for frozen in self._trials(TrialState.RUNNING):
            owner = frozen.user_attrs.get(OWNER, "")
            if any(is_child(owner, pid) for pid in spared):
                continue
            if frozen._trial_id in silent or is_gone(owner):
                if counts:
                    self._count_death(frozen)
                else:
                    self.release(frozen._trial_id, owner)

    def count_crash(self, pid: int, *, cause: str) -> bool:
        """Let the trial of a child process that has died wait again, or fail where that happened too often.

        Returns:
            Whether the process had a trial.
        """
        from optuna.trial import TrialState

        for frozen in self._trials(TrialState.RUNNING):
            if is_child(frozen.user_attrs.get(OWNER, ""), pid):
                self._count_death(frozen, f", by {cause}")
                return True
        return False

    def deadline(self, run: str) -> float | None:
        """When the time of a run is over, in seconds since the epoch, whichever of its processes asks and how often."""
        hours = self.settings.timeout_hours
        if hours is None:
            return None
        note = f"{_BEGAN}{run}"
        began = self._storage.get_study_user_attrs(self._id).get(note)
        if began is None:
            began = time.time()
            self._storage.set_study_user_attr(self._id, note, began)
        return float(began) + 3600 * hours

    def unfinished(self) -> int:
        """How many trials wait or run."""
        return self.settings.trials - len(self._trials(*_finished_states()))

    def records(self) -> tuple[TrialRecord, ...]:
        """Finished trials, by number."""
        return tuple(
            TrialRecord(
                number=frozen.number,
                state=STATES[frozen.state.name],
                values=frozen.user_attrs[_VALUES],
                score=frozen.value if frozen.state.name == "COMPLETE" else None,
                reports=frozen.intermediate_values,
                began=frozen.datetime_start,
                ended=frozen.datetime_complete,
                error=frozen.user_attrs.get(_ERROR),
            )
            for frozen in self._trials(*_finished_states())
            if frozen.datetime_start and frozen.datetime_complete
        )

    def told(self) -> frozenset[int]:
        """Numbers of the trials that were told of."""
        notes = self._storage.get_study_user_attrs(self._id)
        return frozenset(int(note.removeprefix(_TOLD)) for note in notes if note.startswith(_TOLD))

    def mark_told(self, number: int) -> None:
        """Remember that a trial was told of."""
        self._storage.set_study_user_attr(self._id, f"{_TOLD}{number}", True)

    def close(self) -> None:
        """Let go of the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _trials(self, *states: Any) -> "list[FrozenTrial]":
        """Trials in any of the states, by number; not those beyond the number asked for."""
        found = self._storage.get_all_trials(self._id, deepcopy=False, states=states)
        return sorted((trial for trial in found if trial.number < self.settings.trials), key=lambda trial: trial.number)

    def _check_identity(self) -> None:
        identity = identity_of(self.settings, self.start)
        known = self._storage.get_study_user_attrs(self._id).setdefault(_IDENTITY, identity)
        if known != identity:
            raise PlatformError(
                f"the study {self.name} was begun with another space, seed, pruner or learner; give this one a name of "
                "its own"
            )
        self._storage.set_study_user_attr(self._id, _IDENTITY, identity)

    def _add_trials(self) -> None:
        # Should two processes begin the study at once, what they add twice has numbers that nobody claims.
        present = len(self._storage.get_all_trials(self._id, deepcopy=False))
        for _ in range(present, self.settings.trials):
            self._study.enqueue_trial({})

    def _claimed(self, frozen: "FrozenTrial") -> "Claim":
        import optuna

        number = frozen.number
        # Optuna can only write to trials that it has read.
        self._study.get_trials(deepcopy=False)
        self._study.sampler = sampler(seed_for(self.settings.seed, "propose", number), number)
        trial = optuna.Trial(self._study, frozen._trial_id)
        values = frozen.user_attrs.get(_VALUES)
        if values is None:
            is_current = number == 0 and self.current is not None
            values = dict(self.current or {}) if is_current else self._proposed(trial)
            self._storage.set_trial_user_attr(frozen._trial_id, _VALUES, values)
        return Claim(self, trial, values, reported=frozenset(frozen.intermediate_values))

    def _proposed(self, trial: "Trial") -> dict[str, JsonValue]:
        return {path: dimension.suggest(trial, path) for path, dimension in self.settings.space.items()}

    def release(self, trial_id: int, owner: str) -> None:
        """Let a running trial wait again, unless its owner has changed or it is done after all."""
        hand_back(self._storage, trial_id, owner)

    def end(self, trial_id: int, state: Any, score: float | None = None, error: str | None = None) -> None:
        """A trial is done, unless it was before: the first result stands."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            if error is not None:
                self._storage.set_trial_user_attr(trial_id, _ERROR, error)
            self._storage.set_trial_state_values(trial_id, state, None if score is None else [score])
        except UpdateFinishedTrialError:
            # Thought dead, it was given to another process, which has finished it.
            return

    def beat(self, trial_id: int) -> None:
        """A sign of life of a running trial; none where the database is away for a moment."""
        from optuna.exceptions import StorageInternalError

        with suppress(StorageInternalError):
            self._storage.record_heartbeat(trial_id)

    def leave(self) -> None:
        """Let go of what the calling thread holds of the database."""
        self._storage.remove_session()

    def _count_death(self, frozen: "FrozenTrial", cause: str = "") -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        crashes = frozen.user_attrs.get(_CRASHES, 0) + 1
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(frozen._trial_id, _CRASHES, crashes)
        if crashes < MOST_CRASHES:
            self.release(frozen._trial_id, frozen.user_attrs.get(OWNER, ""))
        else:
            self.end(frozen._trial_id, TrialState.FAIL, error=f"its process died {crashes} times{cause}")


def _finished_states() -> tuple[Any, ...]:
    from optuna.trial import TrialState

    return TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
