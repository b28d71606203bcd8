"""A release of the chart on the small cluster: its own configuration, with addresses of this machine, and its daemon."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from views_dagster_tests.deployment.cluster import Cluster
from views_dagster_tests.deployment.rendering import MINIMAL, NAME, dagster_yaml, of_kind, render
from views_dagster_tests.homes import ROOT

LOCATION = "views_dagster_tests.deployment.small_location"
DATABASE, STORE, STUDIES = "dagster-database", "store", "studies"


@dataclass(frozen=True)
class Release:
    """What is installed.

    Attributes:
        folder: stands for the places of this machine that pods share.
        environment: of the code location.
    """

    folder: Path
    environment: Mapping[str, str]

    def launch(self, job: str, month: str) -> None:
        """Ask for a run, as a person does."""
        tags = f'{{"dagster/partition": "{month}"}}'
        command = [_program("dagster"), "job", "launch", "-m", LOCATION, "-j", job, "--tags", tags]
        done = subprocess.run(command, cwd=ROOT, env=dict(self.environment), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def daemon(self) -> Iterator[Path]:
        """Run the daemon; gives the file of what it says."""
        said = self.folder / "daemon.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [_program("dagster-daemon"), "run", "-m", LOCATION],
                cwd=ROOT,
                env=dict(self.environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield said
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def install(
    folder: Path,
    cluster: Cluster,
    values: Mapping[str, Any],
    secrets: Mapping[str, Mapping[str, str]],
    **variables: str,
) -> Release:
    """Install the chart with these values and secrets; `variables` replace what it sets."""
    manifests = render({**MINIMAL, **values})
    home = folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(localized(dagster_yaml(manifests), home, cluster.kubeconfig)))
    settings = of_kind(manifests, "ConfigMap")["environment"]["data"] | {
        "VIEWS_HOME": str(folder),
        # The chart wants a server.
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        **variables,
    }
    cluster.config_maps[f"{NAME}-environment"] = settings
    cluster.secrets |= secrets
    (container,) = of_kind(manifests, "Deployment")["code-location"]["spec"]["template"]["spec"]["containers"]
    environment = {**os.environ, **cluster.environment_of(container), "DAGSTER_HOME": str(home)}
    return Release(folder, environment)


def localized(config: dict[str, Any], home: Path, kubeconfig: Path) -> dict[str, Any]:
    """The chart's `dagster.yaml`, but for its folder, for the way to the API server, and more impatient."""
    config["local_artifact_storage"]["config"]["base_dir"] = str(home)
    config["run_launcher"]["config"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(kubeconfig),
        "dagster_home": str(home),
    }
    config["run_monitoring"] |= {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 1}
    return config


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
