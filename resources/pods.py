"""Steps as pods: dagster-k8s' executor, and words for what happens to a pod outside of the code that it runs.

A step that fails says so itself. A pod that is killed, evicted or never started says nothing: here the run's log gets
the cause and the remedy, and the step is started again where that may help.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.plan.objects import StepRetryData
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)
from dagster_k8s import K8sRunLauncher, k8s_job_executor
from dagster_k8s.client import DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import get_job_name_from_run_id
from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError

from resources.pod_troubles import OF_STEP, explanation, refusal, waiting
from views_dagster.errors import PlatformError

if TYPE_CHECKING:
    from dagster._core.execution.context.system import IStepContext, PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.plan.state import KnownExecutionState
    from dagster_shared.error import SerializableErrorInfo

HEALTH_SECONDS: Final = 20
"""Time between two looks at the pods that run."""
LOST_POD_RETRIES: Final = 2
"""How often a step without retries of its own starts again after its pod was lost."""
LOST_POD_DELAY: Final = 10
LAST_LINES: Final = 15
_JOB_NAME: Final = "Kubernetes Job name"
"""Metadata of the event that tells of a step's pod."""
_STEP_EVENTS: Final = (
    dg.DagsterEventType.STEP_WORKER_STARTING,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
)


class PodHandler(StepHandler):
    """Launches, watches and ends the pods of steps through dagster-k8s.

    Attributes:
        lost: keys of steps whose pod went in a way that may not repeat itself.
    """

    def __init__(self, pods: K8sStepHandler) -> None:
        super().__init__()
        self._pods = pods
        self._told: dict[str, str] = {}
        self.lost: set[str] = set()

    @property
    def name(self) -> str:
        """As dagster-k8s calls it."""
        return str(self._pods.name)

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Create the step's Job.

        Raises:
            PlatformError: the API server cannot be reached, or refuses it.
        """
        try:
            yield from self._pods.launch_step(step_handler_context)
        except (DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError) as error:
            step = _step_of(step_handler_context)
            raise PlatformError(f"no pod could be started for {step}: {refusal(error.k8s_api_exception)}") from error

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Whether the step's pod may still be at work; the reason where not."""
        found = self._pods.check_step_health(step_handler_context)
        step = _step_of(step_handler_context)
        job = self._pods._get_k8s_step_job_name(step_handler_context)
        namespace = self._pods._get_container_context(step_handler_context).namespace
        try:
            pods = self._pods._api_client.get_pods_in_job(job, namespace)
            if found.is_healthy:
                self._tell_if_waiting(step_handler_context, step, job, pods)
                return found
            status = self._pods._api_client.get_job_status(job, namespace)
            reason, again = explanation(pods, [] if status is None else status.conditions or [], OF_STEP)
            if pods and reason is None:
                reason = self._last_words(pods[-1].metadata.name, namespace)
        except (ApiException, DagsterK8sUnrecoverableAPIError, HTTPError) as error:
            if found.is_healthy:
                return found
            reason, again = f"Its pods cannot be looked at: {refusal(error)}.", True
        if again:
            self.lost.add(step)
        else:
            self.lost.discard(step)
        return CheckStepHealthResult.unhealthy(f"{found.unhealthy_reason} {reason or ''}".rstrip())

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Delete the step's Job; where that fails, the run ends all the same, and its log says what is left."""
        try:
            yield from self._pods.terminate_step(step_handler_context)
        except (ApiException, HTTPError) as error:
            step = _step_of(step_handler_context)
            yield DagsterEvent.engine_event(
                step_handler_context.get_step_context(step),
                f"The Job of {step} could not be deleted: {refusal(error)}",
                EngineEventData(),
            )

    def end_leftovers(self, context: "PlanOrchestrationContext") -> None:
        """Where a run takes the place of another that was lost, end the pods that the other one left at work.

        What they were doing is done again here; two of them would need the GPUs of two.
        """
        run, instance = context.dagster_run, context.instance
        before = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
        if before is None or not before.is_failure_or_canceled:
            return
        jobs: dict[str | None, str] = {None: cast(Any, get_job_name_from_run_id)(before.run_id)}
        for entry in instance.all_logs(before.run_id, of_type=set(_STEP_EVENTS)):
            event = entry.get_dagster_event()
            if event.event_type is dg.DagsterEventType.STEP_WORKER_STARTING:
                jobs[event.step_key] = str(event.engine_event_data.metadata[_JOB_NAME].value)
            else:
                jobs.pop(event.step_key, None)
        namespace = cast(K8sRunLauncher, instance.run_launcher).get_container_context_for_run(before).namespace
        for step, job in jobs.items():
            what = f"job {job} of {step or 'the run itself'}, left by run {before.run_id}"
            try:
                status = self._pods._api_client.get_job_status(job, namespace)
                # What has ended stays, for people to look at.
                if status is not None and status.active:
                    self._pods._api_client.delete_job(job, namespace)
                    DagsterEvent.engine_event(context, f"Ended {what}", EngineEventData())
            except (ApiException, DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError, HTTPError) as error:
                DagsterEvent.engine_event(context, f"Could not end {what}: {refusal(error)}", EngineEventData())

    def _tell_if_waiting(self, context: StepHandlerContext, step: str, job: str, pods: Sequence[Any]) -> None:
        """Write into the run's log what a pod waits for, once for each reason."""
        said = waiting(pods, OF_STEP)
        if said and self._told.get(job) != said:
            self._told[job] = said
            DagsterEvent.engine_event(
                context.get_step_context(step), f"The pod of {step} waits: {said}", EngineEventData()
            )

    def _last_words(self, pod: str, namespace: str | None) -> str:
        """The end of a pod's log, or how to read it where this service account may not."""
        try:
            words = self._pods._api_client.retrieve_pod_logs(pod, cast(str, namespace), tail_lines=LAST_LINES)
        except (ApiException, HTTPError):
            return f"kubectl logs {pod} --namespace {namespace} says why."
        return f"Its last words:\n{words.rstrip()}"


class PodExecutor(StepDelegatingExecutor):
    """Starts a step again whose pod was lost, also where the step has no retries of its own."""

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[DagsterEvent]:
        """Run the steps of a run, each as a pod."""
        cast(PodHandler, self._step_handler).end_leftovers(plan_context)
        yield from super().execute(plan_context, execution_plan)

    def log_failure_or_retry_event_after_error(
        self, step_context: "IStepContext", err_info: "SerializableErrorInfo", known_state: "KnownExecutionState"
    ) -> DagsterEvent:
        """Record that the step failed, or that it will be tried again."""
        lost = cast(PodHandler, self._step_handler).lost
        tried = known_state.get_retry_state().get_attempt_count(step_context.step.key)
        own = step_context.op_retry_policy is not None or step_context.retry_mode.disabled
        if own or step_context.step.key not in lost or tried >= LOST_POD_RETRIES:
            return super().log_failure_or_retry_event_after_error(step_context, err_info, known_state)
        lost.discard(step_context.step.key)
        return DagsterEvent.step_retry_event(
            step_context,
            StepRetryData(error=err_info, seconds_to_wait=LOST_POD_DELAY),  # type: ignore[no-untyped-call]
        )


def _create(init_context: dg.InitExecutorContext) -> PodExecutor:
    launcher = init_context.instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise PlatformError(
            "VIEWS_EXECUTOR=kubernetes needs K8sRunLauncher of dagster_k8s as run_launcher in dagster.yaml, not "
            f"{type(launcher).__name__}: pods of steps take their image and environment from it. Or set in_process"
        )
    made = cast(StepDelegatingExecutor, cast(Any, k8s_job_executor).executor_creation_fn(init_context))
    return PodExecutor(
        PodHandler(cast(K8sStepHandler, made._step_handler)),
        retries=made.retries,
        max_concurrent=made._max_concurrent,
        tag_concurrency_limits=made._tag_concurrency_limits,
        should_verify_step=True,
        check_step_health_interval_seconds=HEALTH_SECONDS,
        step_dependency_config=made.step_dependency_config,
    )


pod_executor: Final = dg.ExecutorDefinition(
    name="k8s",
    config_schema=cast(Any, k8s_job_executor).config_schema,
    requirements=multiple_process_executor_requirements(),
    executor_creation_fn=_create,
    description="`k8s_job_executor`, with its settings; causes and remedies of lost pods stand in the run's log.",
)


def _step_of(context: StepHandlerContext) -> str:
    (step,) = cast(Sequence[str], context.execute_step_args.step_keys_to_execute)
    return step
