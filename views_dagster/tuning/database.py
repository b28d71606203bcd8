"""The database of studies, for many processes at once, also where it is one file."""

import json
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from views_dagster.errors import PlatformError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

MISSED_BEATS: Final = 6
"""A trial that has not been heard of for so many heartbeats is forsaken."""

OWNER: Final = "owner"
"""User attribute of a trial: the process that has claimed it."""

_LOCK_SECONDS: Final = 60
_CONNECT_SECONDS: Final = 5
_OPENING_TRIES: Final = 5


def open_database(url: str, heartbeat_seconds: int) -> "RDBStorage":
    """Open a database of studies; SQLite's file and all tables are made where absent.

    Args:
        url: SQLAlchemy URL.
        heartbeat_seconds: between two signs of life of a running trial.

    Raises:
        PlatformError: it is no URL, or the database cannot be reached or written to.
    """
    import optuna
    from sqlalchemy import event, make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        parts = make_url(url)
    except ArgumentError as error:
        raise PlatformError(
            f"the sweep's storage is no database URL: {error}; like sqlite:////path/to/sweeps.db"
        ) from None
    is_sqlite = parts.get_backend_name() == "sqlite"
    shown = parts.render_as_string(hide_password=True)
    if is_sqlite and parts.database:
        try:
            Path(parts.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlatformError(f"the sweep's storage {shown} cannot be made: {error}; name another place") from error
    options: dict[str, Any] = {"pool_pre_ping": True}
    if is_sqlite:
        options = {"connect_args": {"timeout": _LOCK_SECONDS}}
    elif parts.get_backend_name() == "postgresql":
        options["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    # Processes that make the tables at the same moment get in each other's way.
    for attempt in range(_OPENING_TRIES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                storage = optuna.storages.RDBStorage(
                    url,
                    engine_kwargs=options,
                    heartbeat_interval=heartbeat_seconds,
                    grace_period=MISSED_BEATS * heartbeat_seconds,
                )
            break
        except ImportError as error:
            raise PlatformError(
                f"no driver for {parts.drivername} is installed ({error.__cause__}); install one, or name another: "
                "postgresql+psycopg2://..."
            ) from error
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if attempt == _OPENING_TRIES - 1:
                raise PlatformError(
                    f"the sweep's storage {shown} cannot be opened: {error}; check that the database is there and may "
                    "be written to"
                ) from error
            time.sleep(0.1 * 2**attempt)
    if is_sqlite:
        # SQLite has no row locks, and sqlite3 begins a transaction only with its first write: two processes would both
        # read that a trial waits, and both claim it.
        event.listen(storage.engine, "connect", _without_implicit_begin)
        event.listen(storage.engine, "begin", _begin_with_the_lock)
        storage.engine.dispose()
    return storage


def hand_back(storage: "RDBStorage", trial_id: int, owner: str) -> bool:
    """Let a trial wait again, if it runs and still is its owner's; one of many who try it at once does.

    Optuna sets a state whatever it was: of two processes that find the same trial forsaken, the slower one would take
    it from whoever has claimed it in between.
    """
    from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel
    from optuna.trial import TrialState
    from sqlalchemy import select, update

    trial = TrialModel.trial_id == trial_id
    owned = (TrialUserAttributeModel.trial_id == trial_id) & (TrialUserAttributeModel.key == OWNER)
    with storage.engine.begin() as connection:
        # Who claims a trial needs this lock, too.
        state = connection.execute(select(TrialModel.state).where(trial).with_for_update()).scalar_one()
        known = connection.execute(select(TrialUserAttributeModel.value_json).where(owned)).scalar_one_or_none()
        if state is not TrialState.RUNNING or (json.loads(known) if known else "") != owner:
            return False
        # Nobody's, lest it looks forsaken between its next claim and the claimant's name.
        connection.execute(update(TrialUserAttributeModel).where(owned).values(value_json=json.dumps("")))
        connection.execute(update(TrialModel).where(trial).values(state=TrialState.WAITING))
    return True


def _without_implicit_begin(connection: Any, _: object) -> None:
    connection.isolation_level = None


def _begin_with_the_lock(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
