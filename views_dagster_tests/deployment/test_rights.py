"""Each service account may do what dagster_k8s asks of the API server in its processes, and nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import dagster_k8s.client
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus

from views_dagster_tests.deployment.api_server import ApiServer, Call
from views_dagster_tests.deployment.launching import execute, launch, open_instance, submit
from views_dagster_tests.deployment.rendering import NAME, NAMESPACE, VALUE_SETS, of_kind, rendered

REACHED = {
    "batch_api.create_namespaced_job": "launching a run or a step",
    "batch_api.delete_namespaced_job": "ending one",
    "batch_api.list_namespaced_job": "telling about a job that has no pods",
    "batch_api.read_namespaced_job_status": "watching one",
    "core_api.delete_namespaced_pod": "ending one",
    "core_api.list_namespaced_event": "telling why a pod was lost",
    "core_api.list_namespaced_pod": "ending one, telling why it was lost",
    "core_api.read_namespaced_pod_log": "telling why a pod was lost",
}
NOT_REACHED = {"core_api.read_namespaced_pod": "only with enable_owner_references, which the executor does not set"}


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
def instance(tmp_path: Path, server: ApiServer) -> Iterator[dg.DagsterInstance]:
    with server.running(tmp_path) as kubeconfig, open_instance(tmp_path, kubeconfig, "minimal") as opened:
        yield opened


def granted(account: str, values: str = "minimal") -> set[Call]:
    """What the roles that are bound to a service account allow."""
    manifests = rendered(values)
    roles = of_kind(manifests, "Role")
    bound = [
        binding["roleRef"]["name"].removeprefix(f"{NAME}-")
        for binding in of_kind(manifests, "RoleBinding").values()
        if {"kind": "ServiceAccount", "name": f"{NAME}-{account}", "namespace": NAMESPACE} in binding["subjects"]
    ]
    return {
        (group, resource, verb)
        for name in bound
        for rule in roles[name]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def started(instance: dg.DagsterInstance) -> dg.DagsterRun:
    run = submit(instance)
    launch(instance, run)
    instance.handle_run_event(run.run_id, _starting(run))
    found = instance.get_run_by_id(run.run_id)
    assert found
    assert found.status == DagsterRunStatus.STARTED
    return found


def _starting(run: dg.DagsterRun) -> dg.DagsterEvent:
    return dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name)


def test_the_daemon_may_do_what_it_does_and_no_more(instance: dg.DagsterInstance, server: ApiServer) -> None:
    """It launches, watches and ends runs, and tells why one was lost, with pods and without."""
    run = started(instance)
    assert instance.run_launcher.check_run_worker_health(run).status.value == "RUNNING"
    told = instance.run_launcher.get_run_worker_debug_info(run)
    server.pods = False
    instance.run_launcher.get_run_worker_debug_info(run)
    server.pods = True
    assert instance.run_launcher.terminate(run.run_id)

    assert "needed more than what the node has and was killed (OOMKilled). Raise runs.resources" in str(told)
    assert "killed" in str(told)
    assert server.calls == granted("daemon")
    assert server.namespaces == {NAMESPACE}


def test_a_run_may_do_what_it_does_and_no_more(instance: dg.DagsterInstance, server: ApiServer) -> None:
    """It launches, watches and ends its steps."""
    execute(instance)
    assert server.calls == granted("run")
    assert server.namespaces == {NAMESPACE}


def test_the_webserver_may_end_a_run_and_no_more(instance: dg.DagsterInstance, server: ApiServer) -> None:
    run = started(instance)
    server.calls.clear()
    assert instance.run_coordinator
    assert instance.run_coordinator.cancel_run(run.run_id)
    assert server.calls == granted("webserver")


def test_a_run_that_the_webserver_submits_waits_for_the_daemon(instance: dg.DagsterInstance) -> None:
    """So launching is no right of the webserver's."""
    assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"


@pytest.mark.parametrize("values", VALUE_SETS)
@pytest.mark.parametrize("account", ["code-location", "step"])
def test_code_and_steps_may_do_nothing(values: str, account: str) -> None:
    assert account in of_kind(rendered(values), "ServiceAccount")
    assert granted(account, values) == set()


def test_a_webserver_that_only_shows_may_do_nothing() -> None:
    assert granted("webserver", "bare") == set()


@pytest.mark.parametrize("values", VALUE_SETS)
def test_no_role_reaches_beyond_its_namespace_or_names_everything(values: str) -> None:
    manifests = rendered(values)
    assert not {"ClusterRole", "ClusterRoleBinding"} & {m["kind"] for m in manifests}
    rights = {right for account in of_kind(manifests, "ServiceAccount") for right in granted(account, values)}
    assert "*" not in {part for right in rights for part in right}
    assert "secrets" not in {resource for _, resource, _ in rights}


@pytest.mark.parametrize("values", VALUE_SETS)
def test_a_token_is_mounted_only_where_it_is_used(values: str) -> None:
    manifests = rendered(values)
    assert all(a["automountServiceAccountToken"] is False for a in of_kind(manifests, "ServiceAccount").values())
    tokens = {
        name: deployment["spec"]["template"]["spec"]["automountServiceAccountToken"]
        for name, deployment in of_kind(manifests, "Deployment").items()
    }
    assert tokens == {"daemon": True, "webserver": True, "code-location": False}


def test_no_call_of_dagster_k8s_was_overlooked() -> None:
    """A new release that asks something new fails here, before it fails on a cluster."""
    source = Path(dagster_k8s.client.__file__).read_text()
    found = set(re.findall(r"\b(?:batch|core)_api\.\w+", source))
    assert found == set(REACHED) | set(NOT_REACHED)
