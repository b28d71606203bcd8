"""The code location: the graph it holds, the resources it is built with, and the commands that load it.

The graph is compared with `snapshots/asset_graph.txt`. After a change that is meant, write it anew and read the diff:

    python -m views_dagster_tests.test_definitions
"""

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from resources.storage import BEGINS, ROW_KEYS, Storage
from resources.tracking import Tracking
from views_dagster.calendar import FIRST_KEY
from views_dagster.components.catalogue import HISTORY
from views_dagster.definitions import build_defs, default_resources
from views_dagster.errors import PlatformError
from views_dagster_tests.homes import ROOT, resources_in, table_names

SNAPSHOT = Path(__file__).parent / "snapshots" / "asset_graph.txt"
ENTRIES = sorted((ROOT / "assets").rglob("defs.yaml"))


def describe(defs: dg.Definitions) -> str:
    """The asset graph, jobs, schedules and sensors as text, in an order that does not depend on how they were built."""
    graph = defs.resolve_asset_graph()
    blocks = ["\n".join(_asset(graph, key)) for key in sorted(graph.get_all_asset_keys())]
    repository = defs.get_repository_def()
    names = {
        "jobs": [job.name for job in repository.get_all_jobs() if not job.name.startswith("__")],
        "schedules": [f"{s.name} ({s.cron_schedule}) of {s.job_name}" for s in repository.schedule_defs],
        "sensors": [f"{s.name} ({s.sensor_type.value.lower()})" for s in repository.sensor_defs],
    }
    blocks += ["\n".join([f"{what}:", *(f"  {name}" for name in sorted(found))]) for what, found in names.items()]
    return "\n\n".join(blocks) + "\n"


def _asset(graph: BaseAssetGraph[Any], key: dg.AssetKey) -> Iterator[str]:
    node = graph.get(key)
    partitions = node.partitions_def
    kind = "unpartitioned"
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        kind = f"monthly from {partitions.start.strftime(partitions.fmt)}"
    elif partitions is not None:
        kind = "one of " + ", ".join(partitions.get_partition_keys())
    policy = node.backfill_policy
    runs = f"a range is {policy.policy_type.value.lower().replace('_', ' ')}" if policy else "a run a partition"
    late = ", has a freshness policy" if node.freshness_policy else ""
    begins = node.metadata.get(BEGINS, FIRST_KEY)
    young = f", has rows from {begins}" if begins != FIRST_KEY else ""
    yield f"{key.to_user_string()} [{node.group_name}] {kind}{young}, {runs}{late}"
    for parent in sorted(node.parent_keys):
        months = "every month so far" if node.partition_mappings.get(parent) == HISTORY else "the same month"
        yield f"  reads {parent.to_user_string()}, {months}"
    suites: dict[str, list[str]] = defaultdict(list)
    for check in sorted(graph.get_check_keys_for_assets({key}), key=lambda check: check.name):
        suite, _, name = check.name.partition("_")
        suites[suite].append(f"{name}{' (blocking)' if graph.get(check).blocking else ''}")
    for suite, checks in suites.items():
        yield f"  checks {suite}: {', '.join(checks)}"


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_defs(resources=resources_in(tmp_path_factory.mktemp("home")))


def test_the_asset_graph_is_the_one_in_the_snapshot(defs: dg.Definitions) -> None:
    assert describe(defs) == SNAPSHOT.read_text(), (
        "meant? python -m views_dagster_tests.test_definitions writes it anew"
    )


def test_every_entry_of_the_catalogue_has_its_assets(defs: dg.Definitions) -> None:
    expected = {"forecasts"}
    prefixes = {
        "Source": ["raw"],
        "Queryset": ["features"],
        "ForecastModel": ["artifacts", "forecasts"],
        "ExternalForecast": ["forecasts"],
        "Ensemble": ["ensembles"],
        "Reconciliation": ["ensembles"],
        "ColumnSet": ["features"],
        "DiagnosisModel": ["artifacts", "forecasts", "evaluations"],
        "DiagnosisEnsemble": ["ensembles"],
    }
    for path in ENTRIES:
        document = yaml.safe_load(path.read_text())
        attributes = document["attributes"]
        if attributes.get("maturity") != "retired":
            kind = document["type"].rpartition(".")[2]
            made = [*prefixes[kind], *(["sweeps"] if attributes.get("sweep") else [])]
            # There is nothing to explain in what does not look at the sky.
            if kind == "DiagnosisModel" and attributes["learner"]["kind"] not in ("climatology", "nwp"):
                made.append("explanations")
            expected |= {f"{prefix}/{path.parent.name}" for prefix in made}
    assert set(table_names(defs)) == expected


def test_tables_of_all_systems_have_names_of_their_own() -> None:
    names = [path.parent.name for path in ENTRIES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "folder",
    [path.parent for path in ENTRIES if path.parents[1].name in ("models", "ensembles")],
    ids=lambda folder: folder.name,
)
def test_models_and_ensembles_say_what_they_are_and_why(folder: Path) -> None:
    text = (folder / "README.md").read_text() if (folder / "README.md").is_file() else ""
    assert len(text.split()) >= 30, f"{folder.relative_to(ROOT)} needs a README.md"


@pytest.mark.parametrize("group", ["raw_data", "processed_features"])
def test_history_is_one_run(defs: dg.Definitions, group: str) -> None:
    specs = [spec for spec in defs.resolve_all_asset_specs() if spec.group_name == group]
    assert specs
    for asset in defs.resolve_asset_graph().assets_defs:
        if set(asset.group_names_by_key.values()) == {group}:
            assert asset.backfill_policy == dg.BackfillPolicy.single_run(), asset.key


def test_every_table_says_what_identifies_a_row(defs: dg.Definitions) -> None:
    assert [spec.key for spec in defs.resolve_all_asset_specs() if not spec.metadata.get(ROW_KEYS)] == []


def test_every_asset_has_a_group_a_description_and_a_code_version(defs: dg.Definitions) -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.group_name != "default", spec.key
        assert spec.description, spec.key
        assert spec.code_version or spec.key == dg.AssetKey("forecasts"), spec.key


def test_only_models_run_on_other_machines(defs: dg.Definitions) -> None:
    """A step's resources are op tags, and only training asks for any: of a model, or of a sweep's trials."""
    for asset in defs.resolve_asset_graph().assets_defs:
        if asset.op.tags.get("dagster-k8s/config"):
            assert asset.key.path[0] in ("artifacts", "sweeps"), asset.key


def test_given_resources_replace_those_of_the_environment(tmp_path: Path) -> None:
    given = Storage(location=str(tmp_path))
    made = build_defs(resources={"io_manager": given}).resources
    assert made is not None
    assert made["io_manager"] is given
    assert set(made) == set(default_resources())


def resolved(name: str) -> Any:
    return default_resources()[name]


def test_a_home_holds_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("VIEWS_TABLES", "MLFLOW_TRACKING_URI", "VIEWS_STUDIES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("VIEWS_HOME", str(tmp_path))
    assert resolved("io_manager").location == str(tmp_path / "tables")
    tracking = resolved("tracking")
    assert isinstance(tracking, Tracking)
    assert tracking.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert tracking.artifact_location == str(tmp_path / "mlflow_artifacts")
    assert tracking.studies() == f"sqlite:///{tmp_path / 'sweeps.db'}"


def test_sweeps_of_pods_need_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIEWS_HOME", str(tmp_path))
    monkeypatch.setenv("VIEWS_EXECUTOR", "kubernetes")
    monkeypatch.delenv("VIEWS_STUDIES", raising=False)
    with pytest.raises(PlatformError, match="set VIEWS_STUDIES"):
        default_resources()["tracking"].studies()
    monkeypatch.setenv("VIEWS_STUDIES", "postgresql://127.0.0.1/sweeps")
    with resolved("tracking").process_config_and_initialize_cm() as tracking:
        assert tracking.studies() == "postgresql://127.0.0.1/sweeps"


def test_without_settings_the_home_is_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VIEWS_HOME", "VIEWS_TABLES", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    assert resolved("io_manager").location == str(ROOT / "data" / "tables")


def test_servers_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIEWS_TABLES", "s3://bucket/views")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("VIEWS_STUDIES", "postgresql://127.0.0.1/sweeps")
    assert resolved("io_manager").location == "s3://bucket/views"
    with resolved("tracking").process_config_and_initialize_cm() as tracking:
        assert tracking.study_storage == "postgresql://127.0.0.1/sweeps"
        assert (tracking.tracking_uri, tracking.artifact_location) == ("http://127.0.0.1:5000", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "dagster definitions validate -w workspace.yaml",
        "dg check defs",
        "dg check yaml",
        "dg list defs",
        "dagster asset list",
    ],
)
def test_commands_load_the_project(command: str, tmp_path: Path) -> None:
    environment = {**os.environ, "VIEWS_HOME": str(tmp_path)}
    for variable in ("DAGSTER_HOME", "DAGSTER_MODULE_NAME"):
        environment.pop(variable, None)
    done = subprocess.run(
        ["bash", "-c", f"source resources/local.env && {command}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "list" in command:
        assert "forecasts" in done.stdout


def main() -> None:
    """Write the snapshot anew."""
    SNAPSHOT.parent.mkdir(exist_ok=True)
    SNAPSHOT.write_text(describe(build_defs()))


if __name__ == "__main__":
    main()
