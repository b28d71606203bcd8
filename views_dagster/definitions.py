"""The code location: one builder that production, the command line and tests share."""

import gc
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

import assets
from resources.checkpoints import Checkpoints
from resources.executors import executor_from_environment
from resources.notifications import Notifier
from resources.storage import Storage
from resources.tracking import Tracking
from views_dagster.components.loading import load_catalogue
from views_dagster.storage.places import home, tables_location

PROJECT_ROOT = Path(assets.__file__).resolve().parents[1]


def default_resources() -> dict[str, Any]:
    """Resources as the environment configures them; by default everything lives in `$VIEWS_HOME`, or `data/`.

    URLs that may hold a password are read when a run starts: the UI shows the names of their variables.
    """
    return {
        "io_manager": Storage(location=tables_location()),
        "tracking": Tracking(
            tracking_uri=_by_name("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}",
            artifact_location="" if os.environ.get("MLFLOW_TRACKING_URI") else str(home() / "mlflow_artifacts"),
            study_storage=_by_name("VIEWS_STUDIES") or f"sqlite:///{home() / 'sweeps.db'}",
            one_machine=os.environ.get("VIEWS_EXECUTOR") != "kubernetes",
        ),
        "checkpoints": Checkpoints(location=os.environ.get("VIEWS_CHECKPOINTS") or str(home() / "checkpoints")),
        "notifier": Notifier.from_environment(),
    }


def _by_name(variable: str) -> str | None:
    return dg.EnvVar(variable) if os.environ.get(variable) else None


def build_defs(
    resources: Mapping[str, Any] | None = None, executor: dg.ExecutorDefinition | None = None
) -> dg.Definitions:
    """Everything in the catalogue, with the resources and the executor of the environment except those given here."""
    return dg.Definitions.merge(
        load_catalogue(PROJECT_ROOT),
        dg.Definitions(
            resources={**default_resources(), **(resources or {})},
            executor=executor or executor_from_environment(),
        ),
    )


@cache
def environment_defs() -> dg.Definitions:
    """`build_defs()`, once a process: one command asks for its definitions several times.

    Definitions live as long as the process. Looking through them for garbage, while they are made and in every step
    after, costs a fifth of a command's start and seconds of a month: they are left out of it.
    """
    gc.disable()
    try:
        return build_defs()
    finally:
        gc.freeze()
        gc.enable()


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster`, `dg` and the webserver load."""
    return environment_defs()
