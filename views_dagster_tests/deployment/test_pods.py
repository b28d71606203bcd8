"""The month on an emulated cluster, launched by K8sRunLauncher, each step a pod: real processes on real storage."""

import json
import signal
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
from views_dagster.storage.tables import TableStore
from views_dagster_tests.deployment import postgres
from views_dagster_tests.deployment.cluster import Cluster, NeverRuns, Signalled
from views_dagster_tests.deployment.conftest import SECRET_KEY, Bucket, empty_bucket
from views_dagster_tests.deployment.object_store import ObjectStore
from views_dagster_tests.deployment.release import install
from views_dagster_tests.deployment.rendering import NAME, NAMESPACE
from views_dagster_tests.homes import Home, digests_in, write_catalogue
from views_dagster_tests.skies import MONTH, SKY

PATIENCE_SECONDS = 900
NETWORK = {"kind": "column_network", "depth": 1, "width": 4, "hidden": 4, "epochs": 40, "patience": 40}
CATALOGUE = {
    **{place: SKY[place] for place in SKY if "/sources/" in place or "/features/" in place},
    "precipitation/models/deep_column": {
        **SKY["precipitation/models/deep_column"],
        "learner": NETWORK,
        "compute": {"gpu": 1, "gpu_type": "NVIDIA-L4", "memory": "2Gi", "retries": 2, "retry_delay": 1},
    },
}
TRAINING = "artifacts__deep_column"


@dataclass
class Made:
    """What the month on the cluster left.

    Attributes:
        runs: the one whose pod was lost, and the one that took its place.
        events, messages: of both, in their order.
    """

    cluster: Cluster
    home: Home
    bucket: Bucket
    runs: list[dg.DagsterRun]
    events: list[dg.DagsterEvent]
    messages: list[str]


def what_logs_say(folder: Path) -> str:
    """What pods and daemon said last."""
    return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in folder.rglob("*.log"))


def end_of_month(instance: dg.DagsterInstance, folder: Path) -> list[dg.DagsterRun]:
    """Its runs, when the last has succeeded or too much time has passed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        runs = list(reversed(instance.get_runs()))
        if runs and runs[-1].is_success:
            return runs
        time.sleep(0.2)
    pytest.fail(f"the month is not there: {[run.status for run in runs]}\n{what_logs_say(folder)}")


@pytest.fixture(scope="module")
def made(
    sky_home: Home, s3_server: ObjectStore, postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """The month of a network, whose history is in the bucket.

    The first pod of its training never runs, the second is killed after the first epoch, the third hangs, and then the
    pod of the run itself is killed.
    """
    folder = tmp_path_factory.mktemp("pods")
    project = write_catalogue(folder, CATALOGUE)
    with pytest.MonkeyPatch.context() as patch:
        bucket = empty_bucket(s3_server, patch)
        bucket.fill(sky_home.folder / "tables", "production/tables")
        database = postgres.add_database(postgres_server, "pods")
        patch.setenv("VIEWS_POSTGRES_URL", database)
        (folder / "cluster").mkdir()
        cluster = Cluster(folder / "cluster")
        cluster.fates = {
            TRAINING: [
                NeverRuns(1, "the disk of the node is full\n"),
                Signalled(lambda: bool(bucket.objects("production/checkpoints/"))),
                Signalled(lambda: True, by=signal.SIGSTOP),
            ],
            "": [Signalled(lambda: len(cluster.of_step(TRAINING)) == 3)],
        }
        keys = {name: bucket.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        values = {
            "objectStore": {
                "url": f"s3://{bucket.name}/production",
                "endpoint": s3_server.endpoint,
                "region": bucket.environment["AWS_REGION"],
                "allowHttp": True,
                "credentials": {"secretName": "store"},
            },
            "runs": {"maxGpuSteps": 1, "maxStepsPerRun": 3},
        }
        secrets = {"dagster-database": {"url": database}, "store": keys}
        with cluster:
            release = install(folder, cluster, values, secrets, VIEWS_TEST_PROJECT=str(project))
            with release.daemon(), dg.DagsterInstance.from_config(release.environment["DAGSTER_HOME"]) as instance:
                release.launch("month", MONTH)
                runs = end_of_month(instance, folder)
                entries = [entry for run in runs for entry in instance.all_logs(run.run_id)]
            events = [entry.dagster_event for entry in entries if entry.dagster_event]
            home = Home(folder, project, sky_home.copy(folder / "same", project=project).defs)
            yield Made(cluster, home, bucket, runs, events, [entry.user_message for entry in entries])


pytestmark = pytest.mark.slow


def test_the_month_is_made_although_the_pod_of_its_run_was_lost(made: Made) -> None:
    lost, last = made.runs
    assert (lost.status, last.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS)
    assert last.parent_run_id == lost.run_id


def test_the_forecasts_are_those_of_one_process(made: Made, sky_home: Home, tmp_path: Path) -> None:
    here = sky_home.copy(tmp_path, project=made.home.project)
    tables = ["artifacts/deep_column", "forecasts/deep_column"]
    here.run(" or ".join(f"key:{table}" for table in tables), MONTH, checks=False)
    expected = here.digests()
    found = digests_in(TableStore(f"s3://{made.bucket.name}/production/tables"), here.defs)
    assert {table: found[table] for table in tables} == {table: expected[table] for table in tables}
    # Nothing of it is on this machine's disk.
    assert not (made.home.folder / "tables").exists()
    assert not list(Path(made.home.folder, "dagster").rglob("*.db"))
    assert expected["forecasts/deep_column"].keys() == {from_key(MONTH)}


def resources(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container.get("resources") or {}
    return found


def test_only_the_pods_of_the_network_ask_for_a_gpu(made: Made) -> None:
    asking = {name for name, job in made.cluster.jobs.items() if "nvidia.com/gpu" in json.dumps(resources(job))}
    attempts = made.cluster.of_step(TRAINING)
    assert asking == {job["metadata"]["name"] for job in attempts}
    for job in attempts:
        assert resources(job) == {
            "limits": {"nvidia.com/gpu": "1", "memory": "2Gi"},
            "requests": {"cpu": "500m", "memory": "2Gi"},
        }
        assert job["spec"]["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}


def test_each_step_is_one_job_and_each_job_is_valid(made: Made) -> None:
    done = [event.step_key for event in made.events if event.is_step_success]
    assert len(done) == len(set(done)), "no step is done twice"
    assert {"raw__rain", "features__storm_columns", TRAINING, "forecasts", "evaluations__deep_column"} < set(done)
    attempts = {step: len(made.cluster.of_step(step)) for step in ("", *set(done))}
    assert attempts == {"": 2} | dict.fromkeys(done, 1) | {TRAINING: 4}
    for job in made.cluster.jobs.values():
        account = job["spec"]["template"]["spec"]["serviceAccountName"]
        assert account == f"{NAME}-{'step' if 'dagster/op' in job['metadata']['labels'] else 'run'}"
        kubernetes_validate.validate({key: job[key] for key in job if key != "status"}, "1.37", strict=True)


def test_what_the_lost_run_left_at_work_is_ended(made: Made) -> None:
    """Else two pods would train the same model, on two GPUs."""
    third = made.cluster.of_step(TRAINING)[2]["metadata"]["name"]
    assert made.cluster.ended == {third}
    assert any(f"Ended job {third} of {TRAINING}, left by run" in message for message in made.messages)


def retried(made: Made) -> list[str]:
    """What the lost run says of each retry of the training."""
    retries = [event for event in made.events if event.is_step_up_for_retry and event.step_key == TRAINING]
    return [str(event.step_retry_data.error and event.step_retry_data.error.message) for event in retries]


def test_pods_that_fail_and_are_killed_are_retried_and_the_log_says_why(made: Made) -> None:
    failed, killed = retried(made)
    assert "Its last words:\nthe disk of the node is full" in failed
    assert "Its pod was killed (exit code 137)" in killed


def test_a_killed_training_goes_on_from_its_checkpoint(made: Made) -> None:
    resumed = [message for message in made.messages if "from checkpoint s3://" in message]
    assert resumed
    assert all(int(message.split("round ")[1].split()[0]) in range(1, 40) for message in resumed)
    assert [key for key in made.bucket.objects("production/checkpoints/") if not key.endswith("/")] == []


def test_no_secret_is_in_a_manifest_an_event_or_a_log(made: Made) -> None:
    """Pods got them, and used them."""
    shown = json.dumps(made.cluster.jobs) + "".join(made.messages) + what_logs_say(made.home.folder)
    assert not [secret for secret in (SECRET_KEY, postgres.PASSWORD) if secret in shown]


def test_the_log_of_a_pod_can_be_read(made: Made) -> None:
    kubernetes.config.load_kube_config(str(made.cluster.kubeconfig))
    core = kubernetes.client.CoreV1Api()
    name = made.cluster.of_step(TRAINING)[-1]["metadata"]["name"]
    (pod,) = core.list_namespaced_pod(NAMESPACE, label_selector=f"job-name={name}").items
    assert "training deep_column on" in core.read_namespaced_pod_log(pod.metadata.name, NAMESPACE)
