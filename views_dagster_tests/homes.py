"""Homes: where a catalogue's tables, runs and experiments live, for tests that run the platform itself.

A `Home` runs selections of assets in this process, as the command line does, on storage of its own.
"""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import polars as pl
import yaml

import assets
from resources.checkpoints import Checkpoints
from resources.notifications import Notifier
from resources.storage import ROW_KEYS, Storage
from resources.tracking import Tracking
from views_dagster import calendar, definitions
from views_dagster.storage.digests import digest_months
from views_dagster.storage.tables import TableStore

ROOT = Path(assets.__file__).resolve().parents[1]
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
HISTORY = "group:raw_data or group:processed_features"
RELEASE = "group:trained_artifacts or group:forecasts or group:ensembles"
_numbers = itertools.count()

SB = {"from": "ucdp_ged.sb_best", "transforms": ["replace_na(0)"]}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "sources/countries": {"reader": {"kind": "demo_countries"}},
    "sources/ucdp_ged": {"reader": {"kind": "demo_events"}},
    "features/little": {
        "level": "cm",
        "units": "countries",
        "targets": {"sb_best": SB},
        "columns": {"ln_sb": {"from": "ucdp_ged.sb_best", "transforms": ["replace_na(0)", "ln"]}},
    },
    "models/quiet_echo": {
        "features": "little",
        "target": "sb_best",
        "draws": 12,
        "maturity": "deployed",
        "learner": {"kind": "conflictology", "window": 6},
    },
    "models/still_water": {
        "features": "little",
        "target": "sb_best",
        "draws": 12,
        "maturity": "deployed",
        "learner": {"kind": "average", "window": 6},
    },
    "ensembles/white_mustang": {
        "members": ["quiet_echo", "still_water"],
        "draws": 12,
        "maturity": "deployed",
        "method": {"kind": "mixture"},
    },
}
"""The smallest catalogue with everything in it: two sources, a queryset, two models that need no training, an ensemble."""

KINDS: Mapping[str, Mapping[str, str]] = {
    "conflict": {"sources": "Source", "features": "Queryset", "models": "ForecastModel", "ensembles": "Ensemble"},
    "precipitation": {
        "sources": "Source",
        "features": "ColumnSet",
        "models": "DiagnosisModel",
        "ensembles": "DiagnosisEnsemble",
    },
}
"""The usual component of each room of a system."""


@dataclass(frozen=True)
class Home:
    """A catalogue, its storage and its Dagster instance.

    Attributes:
        folder: holds the tables and the experiments.
        project: holds the catalogue.
    """

    folder: Path
    project: Path
    defs: dg.Definitions
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @property
    def store(self) -> TableStore:
        return TableStore(str(self.folder / "tables"))

    def copy(self, folder: Path, *, project: Path | None = None) -> "Home":
        """Another home with the same tables, whose Dagster instance knows of no run; another catalogue if given."""
        shutil.copytree(self.folder / "tables", folder / "tables")
        return open_home(folder, project or self.project)

    def run(
        self, selection: str, month: str, until: str | None = None, *, checks: bool = True, raise_on_error: bool = True
    ) -> dg.ExecuteInProcessResult:
        """Materialise what a selection string names, with or without its checks, for a month or a range in one run."""
        chosen_assets = dg.AssetSelection.from_string(selection)
        job = dg.define_asset_job(
            "chosen",
            selection=chosen_assets if checks else chosen_assets.without_checks(),
            executor_def=dg.in_process_executor,
        )
        chosen = dg.Definitions.merge(self.defs, dg.Definitions(jobs=[job])).resolve_job_def("chosen")
        where: dict[str, Any] = {"partition_key": month}
        if until is not None:
            where = {"tags": {RANGE_START: month, RANGE_END: until}}
        return chosen.execute_in_process(instance=self.instance, raise_on_error=raise_on_error, **where)

    def history(self, until: str, first: str = calendar.FIRST_KEY, *, checks: bool = True) -> dg.ExecuteInProcessResult:
        """Raw data and features of a range of months."""
        return self.run(HISTORY, first, until, checks=checks)

    def release(self, month: str, *, checks: bool = True, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
        """Everything after the features, for one month."""
        return self.run(RELEASE, month, checks=checks, raise_on_error=raise_on_error)

    def rows(self, table: str, month: str, version: int | None = None) -> pl.DataFrame:
        """What the table holds for a month."""
        return self.store.scan(table, calendar.from_key(month), calendar.from_key(month), version).collect()

    def digests(self, *, until: str | None = None) -> dict[str, dict[int, str]]:
        """Digest of every month of every table, computed from the rows."""
        return digests_in(self.store, self.defs, last=calendar.from_key(until) if until else 9999)

    def materialization(self, table: str, month: str) -> dg.AssetMaterialization:
        """The newest one that was recorded."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey.from_user_string(table), asset_partitions=[month]), limit=1
        ).records
        assert records, f"{table} {month} was not recorded"
        found = records[0].asset_materialization
        assert found is not None
        return found

    def metadata(self, table: str, month: str) -> dict[str, Any]:
        """Values of the metadata of the newest materialisation."""
        return {name: value.value for name, value in self.materialization(table, month).metadata.items()}


def digests_in(store: TableStore, defs: dg.Definitions, *, last: int = 9999) -> dict[str, dict[int, str]]:
    """Digest of every month, up to the last, of every table that is there, computed from the rows."""
    return {
        table: digest_months(store.scan(table, 0, last).collect(), keys)
        for table, keys in row_keys(defs).items()
        if store.exists(table)
    }


def row_keys(defs: dg.Definitions) -> dict[str, list[str]]:
    """Columns that identify a row of each table, `month_id` first."""
    return {
        spec.key.to_user_string(): list(dict.fromkeys(["month_id", *spec.metadata[ROW_KEYS]]))
        for spec in defs.resolve_all_asset_specs()
        if ROW_KEYS in spec.metadata
    }


def table_names(defs: dg.Definitions, group: str | None = None) -> list[str]:
    """Keys of all assets, or of those of a group."""
    specs = defs.resolve_all_asset_specs()
    return sorted(spec.key.to_user_string() for spec in specs if group in (None, spec.group_name))


def resources_in(folder: Path, **others: Any) -> dict[str, Any]:
    """The platform's resources, all below a folder."""
    return {
        "io_manager": Storage(location=str(folder / "tables")),
        "tracking": Tracking(
            tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
            artifact_location=str(folder / "artifacts"),
            study_storage=f"sqlite:///{folder / 'sweeps.db'}",
        ),
        "checkpoints": Checkpoints(location=str(folder / "checkpoints")),
        "notifier": Notifier(),
        **others,
    }


def write_catalogue(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> Path:
    """A project with these entries and what belongs to the whole month; returns its folder.

    Entries are of the conflict system where their place names none. An entry's `type` may be among its attributes; by
    default it is the room's first.
    """
    name = f"small_catalogue_{next(_numbers)}"
    project = folder / name
    package = project / name
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for module in ("forecasts.py", "schedules.py"):
        shutil.copy(ROOT / "assets" / module, package)
    for place, attributes in entries.items():
        system, room, entry_name = place.split("/") if place.count("/") == 2 else ("conflict", *place.split("/"))
        entry = package / system / room / entry_name
        entry.mkdir(parents=True)
        chosen = dict(attributes)
        kind = chosen.pop("type", f"views_dagster.components.{KINDS[system][room]}")
        (entry / "defs.yaml").write_text(yaml.safe_dump({"type": kind, "attributes": chosen}))
    settings = (
        f'[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "{name}"\n'
        f'defs_module = "{name}"\nregistry_modules = ["views_dagster.components"]\n'
    )
    (project / "pyproject.toml").write_text(settings)
    return project


def open_home(folder: Path, project: Path = ROOT, *, lasting: bool = False, **resources: Any) -> Home:
    """A home with the catalogue of a project, by default the platform's; resources given here replace its own.

    Args:
        lasting: its Dagster instance is kept on disk, for several processes to use.
    """
    sys.path.insert(0, str(project))
    try:
        with mock.patch.object(definitions, "PROJECT_ROOT", project):
            defs = definitions.build_defs(resources=resources_in(folder, **resources))
    finally:
        sys.path.remove(str(project))
    if not lasting:
        return Home(folder, project, defs)
    (folder / "dagster").mkdir(exist_ok=True)
    return Home(folder, project, defs, dg.DagsterInstance.local_temp(str(folder / "dagster")))


def start_run(home: Home, selection: str, first: str, last: str, **environment: str) -> "subprocess.Popen[bytes]":
    """`home.run` without checks, in a process of its own that leads its process group."""
    module = "views_dagster_tests.homes"
    return subprocess.Popen(
        [sys.executable, "-m", module, str(home.folder), str(home.project), selection, first, last],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main(folder: str, project: str, selection: str, first: str, last: str) -> None:
    """Run a selection of assets for a month, or for a range that is longer, in a lasting home."""
    home = open_home(Path(folder), Path(project), lasting=True)
    home.run(selection, first, None if first == last else last, checks=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
