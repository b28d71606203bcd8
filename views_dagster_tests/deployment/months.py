"""Deployments and laptops for tests: a small catalogue, the environment of each, and the real `dagster` command on them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dagster as dg

from views_dagster.storage.tables import TableStore
from views_dagster_tests.homes import ROOT, SMALL, digests_in, open_home, write_catalogue

TRAINED: Final[Mapping[str, Mapping[str, Any]]] = {
    **SMALL,
    "models/purple_alien": {
        "features": "little",
        "target": "sb_best",
        "draws": 12,
        "maturity": "deployed",
        "learner": {
            "kind": "step_shift",
            "regressor": {"lightgbm": {"n_estimators": 3}},
            "draws_from": {"kind": "residuals"},
        },
    },
}
"""The small catalogue with a model that is trained."""

_DEFINITIONS: Final = """\
from pathlib import Path

from views_dagster import definitions

definitions.PROJECT_ROOT = Path(__file__).resolve().parent
from views_dagster.definitions import defs
"""
_COMMANDS: Final = """\
import sys

from dagster._cli import cli

for arguments in sys.argv[1:]:
    cli(arguments.split("|"), standalone_mode=False, auto_envvar_prefix="DAGSTER_CLI")
"""
_OF_OTHERS: Final = ("DAGSTER_", "VIEWS_", "AWS_", "MLFLOW_")


@dataclass(frozen=True)
class Installation:
    """A place where the platform runs.

    Attributes:
        project: holds the catalogue.
        environment: all that tells one installation from another.
    """

    project: Path
    environment: Mapping[str, str]

    def dagster(self, *commands: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Run `dagster` commands in one process, up to the first that fails; all that they say is in `stdout`."""
        return subprocess.run(
            [sys.executable, "-c", _COMMANDS, *("|".join(command) for command in commands)],
            cwd=self.project,
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def materialize(self, selection: str, first: str, last: str | None = None) -> "subprocess.CompletedProcess[str]":
        """`dagster asset materialize` of a month, or of a range."""
        return self.dagster(materialize(selection, first, last))

    def start_months(self, selection: str, months: list[str]) -> "subprocess.Popen[bytes]":
        """`dagster asset materialize` of one month after the other, in a process that leads its process group."""
        commands = ["|".join(materialize(selection, month)) for month in months]
        with (self.project / f"{months[0]}.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _COMMANDS, *commands],
                cwd=self.project,
                env=dict(self.environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def instance(self) -> dg.DagsterInstance:
        """Its Dagster instance; the environment must be this process's, too."""
        return dg.DagsterInstance.from_config(self.environment["DAGSTER_HOME"])

    def digests(self) -> dict[str, dict[int, str]]:
        """Digest of every month of every table, computed from the rows; `AWS_*` must be this process's, too."""
        defs = open_home(self.project.parent, self.project).defs
        return digests_in(TableStore(self.environment["VIEWS_TABLES"]), defs)


def install(folder: Path, entries: Mapping[str, Mapping[str, Any]], settings: Mapping[str, str]) -> Installation:
    """A laptop's installation of a catalogue below a folder; what `settings` names makes it a deployment.

    Both have the same catalogue and the same code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = write_catalogue(folder, entries)
    (written / "month_of_tests.py").write_text(_DEFINITIONS)
    home = folder / "home"
    dagster_home = home / "dagster"
    dagster_home.mkdir(parents=True)
    file = "dagster_postgres.yaml" if "VIEWS_POSTGRES_URL" in settings else "dagster.yaml"
    shutil.copy(ROOT / "resources" / file, dagster_home / "dagster.yaml")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_OTHERS)}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(written), str(ROOT)]),
        "VIEWS_HOME": str(home),
        "VIEWS_TABLES": str(home / "tables"),
        "DAGSTER_HOME": str(dagster_home),
        "DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME": "month_of_tests",
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "VIEWS_EVENT_LOG": str(dagster_home / "history" / "runs"),
        **settings,
    }
    return Installation(written, environment)


def materialize(selection: str, first: str, last: str | None = None) -> list[str]:
    """The command that materialises assets of a month, or of a range."""
    where = ["--partition", first] if last is None else ["--partition-range", f"{first}...{last}"]
    return ["asset", "materialize", "--select", selection, *where]
