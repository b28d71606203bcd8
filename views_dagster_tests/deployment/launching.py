"""A Dagster instance with the chart's own run launcher, and a job whose one step is launched as a pod would be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import dagster as dg
import yaml
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandlerContext
from dagster._core.launcher import LaunchRunContext
from dagster_k8s import k8s_job_executor
from dagster_k8s.executor import K8sStepHandler

from views_dagster_tests.deployment.rendering import IMAGE, NAME, dagster_yaml, rendered


def open_instance(home: Path, kubeconfig: Path, values: str) -> dg.DagsterInstance:
    """As the chart configures it, but for its database and for the way to the API server."""
    config = dagster_yaml(rendered(values))
    config["storage"] = {"sqlite": {"base_dir": str(home)}}
    config["local_artifact_storage"]["config"]["base_dir"] = str(home)
    config["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    return dg.DagsterInstance.from_config(str(home))


class SeenEnoughError(Exception):
    """Ends a run whose steps nobody carries out."""


@dg.executor(
    name="once_through",
    config_schema=k8s_job_executor.config_schema,
    requirements=multiple_process_executor_requirements(),
)
def once_through(context: dg.InitExecutorContext) -> StepDelegatingExecutor:
    """The pod executor, which launches each step, looks after it once and ends it."""
    made = k8s_job_executor.executor_creation_fn(context)
    assert isinstance(made, StepDelegatingExecutor)
    handler = cast(K8sStepHandler, made._step_handler)
    launch = handler.launch_step

    def life(step: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        yield from launch(step)
        assert handler.check_step_health(step).is_healthy
        # What the project's own executor asks besides, of a step that failed.
        job, namespace = handler._get_k8s_step_job_name(step), handler._get_container_context(step).namespace
        (pod,) = handler._api_client.get_pod_names_in_job(job, namespace)
        assert handler._api_client.retrieve_pod_logs(pod, namespace) == "killed\n"
        yield from handler.terminate_step(step)
        raise SeenEnoughError

    handler.launch_step = life
    return made


GPU_STEP: dict[str, Any] = {
    "container_config": {
        "resources": {
            "requests": {"cpu": "6", "memory": "16Gi"},
            "limits": {"nvidia.com/gpu": "1", "memory": "16Gi"},
        }
    },
    "pod_spec_config": {"node_selector": {"gpu": "a100"}},
}


@dg.op(tags={"dagster-k8s/config": GPU_STEP})
def train() -> None:
    """Never carried out."""


@dg.job(executor_def=once_through)
def month() -> None:
    """One step, which asks for a GPU."""
    train()


def submit(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run of it that waits to be launched."""
    origin = dg.reconstructable(month).get_python_origin()
    repository = origin.repository_origin._replace(container_image=IMAGE)
    return instance.create_run_for_job(month, job_code_origin=origin._replace(repository_origin=repository))


def launch(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """What the daemon does with a run of the queue."""
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))


def execute(instance: dg.DagsterInstance) -> None:
    """What a run's pod does, until its first step is over."""
    config = {"execution": {"config": {"job_image": IMAGE, "service_account_name": f"{NAME}-step"}}}
    with dg.execute_job(dg.reconstructable(month), instance, run_config=config) as result:
        assert any("SeenEnoughError" in str(event.event_specific_data) for event in result.all_events)
