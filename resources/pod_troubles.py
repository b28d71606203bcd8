"""Why a pod never started or ended, and what helps: the states that Kubernetes tells of, in words for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dagster_k8s.client import DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError
from kubernetes.client.rest import ApiException

KILLED: Final = 137


@dataclass(frozen=True)
class Settings:
    """Where what a pod asks for is written.

    Attributes:
        memory: its limit.
        place: all that decides which node takes it.
        image: its image.
        patience: what ends its wait for a node.
    """

    memory: str
    place: str
    image: str
    patience: str


OF_STEP: Final = Settings(
    memory="compute.memory of the model, or runs.resources of the deployment for a step that has no model",
    place="gpu, gpu_type, cpu, memory, node_selector and tolerations in the model's compute",
    image="compute.image",
    patience="Without compute.time_limit it waits forever.",
)
OF_RUN: Final = Settings(
    memory="runs.resources of the deployment",
    place="runs.resources, runs.nodeSelector and runs.tolerations of the deployment",
    image="image of the deployment",
    patience="After runs.startTimeoutSeconds the run fails.",
)


def explanation(pods: Sequence[Any], conditions: Sequence[Any], settings: Settings) -> tuple[str | None, bool]:
    """Why the pods of a failed Job ended, with the remedy, and whether another attempt may fare better.

    Args:
        pods: those of the Job, as the Kubernetes client returns them.
        conditions: of the Job's status.
        settings: where the remedy is written.
    """
    if any(condition.reason == "DeadlineExceeded" for condition in conditions):
        said = waiting(pods, settings)
        waited = f" It never started: {said}" if said else ""
        return f"It took longer than its time limit.{waited} Raise compute.time_limit of the model.", False
    if not pods:
        return "Its pod is gone: somebody deleted it, or its node went.", True
    pod = pods[-1]
    if pod.status.reason == "Evicted":
        return f"Its pod was evicted: {pod.status.message}. Give it what it uses, as {settings.memory}.", True
    ended = [state.state.terminated for state in pod.status.container_statuses or [] if state.state.terminated]
    for state in ended:
        if state.reason == "OOMKilled":
            resources = pod.spec.containers[0].resources
            limit = ((resources and resources.limits) or {}).get("memory", "what the node has")
            return (
                f"Its pod was out of memory: it needed more than {limit} and was killed (OOMKilled). "
                f"Raise {settings.memory}.",
                False,
            )
        if state.exit_code == KILLED:
            return (
                f"Its pod was killed (exit code {KILLED}): by its node for want of memory, or because the node went. "
                f"If it happens again, raise {settings.memory}.",
                True,
            )
    return None, False


def waiting(pods: Sequence[Any], settings: Settings) -> str | None:
    """What the newest pod of a Job waits for before it starts, and what helps; None where it waits for nothing."""
    if not pods or pods[-1].status.phase != "Pending":
        return None
    status = pods[-1].status
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return (
                f"no node takes it ({condition.message}). It starts when one does: add such a node, or ask for what "
                f"there is ({settings.place}). {settings.patience}"
            )
    for container in status.container_statuses or []:
        held = container.state.waiting
        if held and held.reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName"):
            return f"image {container.image} cannot be pulled ({held.message or held.reason}). Check {settings.image}."
        if held and held.reason == "CreateContainerConfigError":
            return f"its container cannot be made ({held.message}). A secret or config map of the deployment is absent."
    return None


def refusal(error: BaseException) -> str:
    """What the API server answered, or that it did not, and what to do."""
    if isinstance(error, DagsterK8sUnrecoverableAPIError | DagsterK8sAPIRetryLimitExceeded):
        error = error.k8s_api_exception or error
    if not isinstance(error, ApiException):
        return f"the Kubernetes API server cannot be reached ({error}). Check its address and the network policy"
    remedy = {
        401: "The service account's token is not accepted: check service_account_name of the run launcher",
        403: "Give the service account the rights in the chart's role, or the namespace a larger quota",
        404: "There is no such namespace: check job_namespace of the run launcher",
        422: "Mend what the deployment sets for its pods, or for a step compute of its model",
    }.get(error.status, "Check the API server's health")
    return f"the Kubernetes API server answered {error.status} {error.reason}: {error.body}. {remedy}"
