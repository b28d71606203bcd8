"""Runs as pods: dagster-k8s' run launcher, and words for what happens to the pod of a run itself.

`resources.pods` does the same for the pods of steps. What is said here is read in the log of the run.
"""

from typing import TYPE_CHECKING, Any, cast

from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError
from dagster_k8s.job import get_job_name_from_run_id
from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError

from resources.pod_troubles import OF_RUN, explanation, refusal, waiting
from views_dagster.errors import PlatformError

if TYPE_CHECKING:
    from dagster import DagsterRun
    from dagster._core.launcher import LaunchRunContext


class RunLauncher(K8sRunLauncher):
    """Configured in `dagster.yaml` as dagster-k8s' own."""

    def launch_run(self, context: "LaunchRunContext") -> None:
        """Create the run's Job.

        Raises:
            PlatformError: the API server cannot be reached, or refuses it.
        """
        try:
            super().launch_run(context)
        except (ApiException, DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError, HTTPError) as error:
            run = context.dagster_run.run_id
            raise PlatformError(f"no pod could be started for run {run}: {refusal(error)}") from error

    def get_run_worker_debug_info(self, run: "DagsterRun", include_container_logs: bool | None = True) -> str | None:
        """Why the run's pod ended or never started, with the remedy, before what dagster-k8s tells of it."""
        job = str(cast(Any, get_job_name_from_run_id)(run.run_id))
        try:
            pods = self._api_client.get_pods_in_job(job, self.get_container_context_for_run(run).namespace)
        except (ApiException, HTTPError) as error:
            return f"Its pod cannot be looked at: {refusal(error)}."
        reason = None
        if pods:
            reason, _ = explanation(pods, [], OF_RUN)
            if held := waiting(pods, OF_RUN):
                reason = f"Its pod waits: {held}"
        try:
            told = super().get_run_worker_debug_info(run, include_container_logs)
        except AttributeError:
            told = f"Kubernetes has not looked at job {job} yet."
        return "\n".join(part for part in (reason, told) if part)
