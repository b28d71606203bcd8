"""The month on an emulated cluster, launched by K8sRunLauncher, each step a pod: real processes on real storage."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes
import kubernetes_validate
import pytest

from views_dagster.calendar import from_key
from views_dagster_tests.deployment.cluster import NAMESPACE, Cluster, Fate, KilledWhen, NeverRuns, deployment
from views_dagster_tests.homes import ROOT, Home, write_catalogue
from views_dagster_tests.skies import MONTH, SKY

LOCATION = "views_dagster_tests.deployment.small_location"
PATIENCE_SECONDS = 280
NETWORK = {"kind": "column_network", "depth": 1, "width": 4, "hidden": 4, "epochs": 40, "patience": 40}
CATALOGUE = {
    **{place: SKY[place] for place in SKY if "/sources/" in place or "/features/" in place},
    "precipitation/models/deep_column": {
        **SKY["precipitation/models/deep_column"],
        "learner": NETWORK,
        "compute": {"gpu": 1, "gpu_type": "NVIDIA-L4", "memory": "2Gi", "retries": 2, "retry_delay": 1},
    },
    "precipitation/models/mean_season": {
        **SKY["precipitation/models/mean_season"],
        "compute": {"memory": "1Gi", "retries": 1, "retry_delay": 1},
    },
}
NEURAL, SEASON = "artifacts__deep_column", "artifacts__mean_season"


@dataclass
class Made:
    """What a run on the cluster left."""

    cluster: Cluster
    home: Home
    run: dg.DagsterRun
    events: list[dg.DagsterEvent]
    messages: list[str]


def launch(environment: dict[str, str]) -> None:
    """Ask for the run, as a person does."""
    dagster = str(Path(sys.executable).with_name("dagster"))
    tags = json.dumps({"dagster/partition": MONTH})
    command = [dagster, "job", "launch", "-m", LOCATION, "-j", "month", "--tags", tags]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def end_of_run(instance: dg.DagsterInstance, cluster: Cluster) -> dg.DagsterRun:
    """The run when it is over."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        (run,) = instance.get_runs()
        if run.is_finished:
            return run
        logs = {path.name: path.read_text()[-2000:] for path in cluster.folder.glob("*.log")}
        assert time.monotonic() < deadline, f"the run is still {run.status}: {logs}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def made(sky_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The month of two models: the network is killed after its first epoch, the first pod of the other never runs."""
    folder = tmp_path_factory.mktemp("pods")
    project = write_catalogue(folder, CATALOGUE)
    home = sky_home.copy(folder, project=project)
    (folder / "cluster").mkdir()
    fates: dict[str, list[Fate]] = {
        NEURAL: [KilledWhen(folder / "checkpoints" / f"deep_column.{MONTH}")],
        SEASON: [NeverRuns(1, "the disk of the node is full\n")],
    }
    with Cluster(folder / "cluster", fates) as cluster:
        environment = deployment(
            folder,
            cluster.kubeconfig,
            VIEWS_TEST_PROJECT=str(project),
            VIEWS_STEP_SERVICE_ACCOUNT="steps",
            VIEWS_MAX_STEPS="3",
        )
        launch(environment)
        with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
            run = end_of_run(instance, cluster)
            entries = instance.all_logs(run.run_id)
            events = [entry.dagster_event for entry in entries if entry.dagster_event]
            yield Made(cluster, home, run, events, [entry.user_message for entry in entries])


pytestmark = pytest.mark.slow


def test_the_run_succeeds(made: Made) -> None:
    logs = {path.name: path.read_text()[-3000:] for path in made.cluster.folder.glob("*.log")}
    assert made.run.status == dg.DagsterRunStatus.SUCCESS, (logs, made.messages)


def test_the_forecasts_are_those_of_one_process(made: Made, sky_home: Home, tmp_path: Path) -> None:
    here = sky_home.copy(tmp_path, project=made.home.project)
    tables = [f"{kind}/{model}" for model in ("deep_column", "mean_season") for kind in ("artifacts", "forecasts")]
    here.run(" or ".join(f"key:{table}" for table in tables), MONTH, checks=False)
    expected = here.digests()
    assert {table: made.home.digests()[table] for table in tables} == {table: expected[table] for table in tables}
    assert expected["forecasts/deep_column"].keys() == {from_key(MONTH)}


def resources(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container.get("resources") or {}
    return found


def test_only_the_pods_of_the_network_ask_for_a_gpu(made: Made) -> None:
    asking = {name for name, job in made.cluster.jobs.items() if "nvidia.com/gpu" in json.dumps(resources(job))}
    attempts = made.cluster.of_step(NEURAL)
    assert asking == {job["metadata"]["name"] for job in attempts}
    for job in attempts:
        assert resources(job)["limits"] == {"nvidia.com/gpu": "1", "memory": "2Gi"}
        assert job["spec"]["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    assert resources(made.cluster.of_step(SEASON)[0]) == {"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}


def test_each_step_is_one_job_and_each_job_is_valid(made: Made) -> None:
    attempts = {step: len(made.cluster.of_step(step)) for step in ("", NEURAL, SEASON)}
    assert attempts == {"": 1, NEURAL: 2, SEASON: 2}
    steps = {event.step_key for event in made.events if event.is_step_success}
    assert {"raw__rain", "features__storm_columns", "forecasts", "evaluations__deep_column"} < steps
    assert len(made.cluster.jobs) == 1 + len(steps) + 2
    for job in made.cluster.jobs.values():
        account = job["spec"]["template"]["spec"]["serviceAccountName"]
        assert account == ("steps" if "dagster/op" in job["metadata"]["labels"] else "runs")
        kubernetes_validate.validate({key: job[key] for key in job if key != "status"}, "1.37", strict=True)


def retried(made: Made, step: str) -> str:
    """What the run says of the only retry of a step."""
    (event,) = (event for event in made.events if event.is_step_up_for_retry and event.step_key == step)
    error = event.step_retry_data.error
    assert error is not None
    return str(error.message)


def test_a_failed_pod_is_retried_and_its_last_words_are_told(made: Made) -> None:
    assert "Its last words:\nthe disk of the node is full" in retried(made, SEASON)


def test_a_killed_training_goes_on_from_its_checkpoint(made: Made) -> None:
    assert "Its pod was killed (exit code 137)" in retried(made, NEURAL)
    (resumed,) = (message for message in made.messages if "from checkpoint" in message)
    assert int(resumed.split("round ")[1].split()[0]) in range(1, 40)
    assert list((made.home.folder / "checkpoints").iterdir()) == []


def test_the_log_of_a_pod_can_be_read(made: Made) -> None:
    kubernetes.config.load_kube_config(str(made.cluster.kubeconfig))
    core = kubernetes.client.CoreV1Api()
    name = made.cluster.of_step(NEURAL)[-1]["metadata"]["name"]
    (pod,) = core.list_namespaced_pod(NAMESPACE, label_selector=f"job-name={name}").items
    assert "training deep_column on" in core.read_namespaced_pod_log(pod.metadata.name, NAMESPACE)
