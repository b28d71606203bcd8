"""A small cluster: an emulated Kubernetes API server, and a kubelet that runs each Job's container as a process here."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import kmock
import yaml

from views_dagster_tests.homes import ROOT

NAMESPACE = "views"
IMAGE = "registry.example.org/views:1"
POLL_SECONDS = 0.005
JOBS, PODS, EVENTS = kmock.resource("batch/v1/jobs"), kmock.resource("v1/pods"), kmock.resource("v1/events")
INHERITED = ("HOME", "LANG", "PYTHONPATH", "TMPDIR")
"""What an image would bring: the rest of a pod's environment is that of its Job."""


@dataclass(frozen=True)
class Signalled:
    """A pod that gets a signal as soon as something has happened: it is killed, or hangs by SIGSTOP until it is deleted."""

    when: Callable[[], bool]
    by: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class NeverRuns:
    """A pod that ends with an exit code before it does anything, and what it leaves in its log and its status."""

    code: int
    log: str
    reason: str = "Error"


@dataclass(frozen=True)
class Waits:
    """A pod that no node takes."""

    message: str


Fate = Signalled | NeverRuns | Waits


@dataclass
class Cluster:
    """An API server on 127.0.0.1 and its one node.

    Attributes:
        folder: holds the kubeconfig and the logs of pods.
        fates: of the first pods of a step, by its key, or of the run itself, by an empty one; later ones run undisturbed.
        config_maps: data by name.
        secrets: data by name.
        jobs: manifests by name, as they were created.
        pods: by the name of their Job.
        ended: names of Jobs that somebody deleted while they ran.
    """

    folder: Path
    fates: dict[str, list[Fate]] = field(default_factory=dict)
    config_maps: dict[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: dict[str, Mapping[str, str]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._started, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    @property
    def kubeconfig(self) -> Path:
        """The file that clients find the server with."""
        return self.folder / "kubeconfig"

    def of_step(self, step: str) -> list[dict[str, Any]]:
        """Jobs of a step in the order of its attempts; those of the run itself for an empty key."""
        return [job for job in self.jobs.values() if job["metadata"]["labels"].get("dagster/op", "") == step]

    async def _serve(self) -> None:
        async with kmock.KubernetesEmulator() as api, kmock.Server(api) as server:
            api.resources["batch/v1/jobs"] = {"kind": "Job", "namespaced": True}
            api[kmock.action.LIST, PODS] << self._list_pods
            api[kmock.action.LIST, EVENTS] << {"items": []}
            api[kmock.action.FETCH, PODS, kmock.subresource("log")] << self._log
            write_kubeconfig(self.kubeconfig, str(server.url))
            self._started.set()
            running: dict[str, asyncio.Task[None]] = {}
            while not self._over.is_set():
                for (resource, namespace, name), job in list(api.objects.items()):
                    if resource != JOBS:
                        continue
                    if name not in running:
                        self.jobs[name] = dict(job.last.raw)
                        running[name] = asyncio.create_task(self._run(name, job))
                        # Clients delete it after its Job.
                        api.objects[PODS, namespace, f"{name}-pod"] = {"metadata": {"name": f"{name}-pod"}}
                    elif job.deleted and running[name].cancel():
                        self.ended.add(name)
                await asyncio.sleep(POLL_SECONDS)
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _run(self, name: str, job: Any) -> None:
        """A Job from its pod's start to its end."""
        template = self.jobs[name]["spec"]["template"]
        labels = template["metadata"]["labels"]
        fates = self.fates.get(labels.get("dagster/op", ""), [])
        fate = fates.pop(0) if fates else None
        status: dict[str, Any] = {"phase": "Pending"}
        self.pods[name] = {
            "metadata": {"name": f"{name}-pod", "namespace": NAMESPACE, "labels": {**labels, "job-name": name}},
            "spec": template["spec"],
            "status": status,
        }
        job.patch({"status": {"active": 1}})
        if isinstance(fate, Waits):
            status["conditions"] = [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": fate.message}
            ]
            if (limit := self.jobs[name]["spec"].get("activeDeadlineSeconds")) is not None:
                await asyncio.sleep(limit)
                late = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
                job.patch({"status": {"active": 0, "failed": 1, "conditions": [late]}})
            return
        (container,) = template["spec"]["containers"]
        status["phase"] = "Running"
        if isinstance(fate, NeverRuns):
            self._log_of(name).write_text(fate.log)
            code, reason = fate.code, fate.reason
        else:
            code = await self._execute(name, container, fate)
            reason = "Completed" if code == 0 else "Error"
        status["phase"] = "Succeeded" if code == 0 else "Failed"
        ended = {"terminated": {"exitCode": code, "reason": reason}}
        status["containerStatuses"] = [
            {"name": container["name"], "image": container["image"], "imageID": "", "ready": False, "restartCount": 0}
            | {"state": ended}
        ]
        if not job.deleted:
            job.patch({"status": {"active": 0, "succeeded" if code == 0 else "failed": 1}})

    async def _execute(self, name: str, container: Mapping[str, Any], fate: Signalled | None) -> int:
        """Run a container's command, and return its exit code as a shell would."""
        environment = {variable: os.environ[variable] for variable in INHERITED if variable in os.environ}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment |= self.environment_of(container)
        with self._log_of(name).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *container["args"], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            if fate is not None:
                while process.returncode is None and not await asyncio.to_thread(fate.when):
                    await asyncio.sleep(POLL_SECONDS)
                if process.returncode is None:
                    os.killpg(process.pid, fate.by)
            code = await process.wait()
        except asyncio.CancelledError:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            raise
        return code if code >= 0 else 128 - code

    def environment_of(self, container: Mapping[str, Any]) -> dict[str, str]:
        """What a container's manifest says of its environment, with config maps and secrets looked up."""
        found: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            if "configMapRef" in source:
                found |= self.config_maps[source["configMapRef"]["name"]]
            if "secretRef" in source:
                found |= self.secrets[source["secretRef"]["name"]]
        for each in container["env"]:
            if "value" in each:
                found[each["name"]] = each["value"]
            else:
                secret = each["valueFrom"]["secretKeyRef"]
                found[each["name"]] = self.secrets[secret["name"]][secret["key"]]
        return found

    def _log_of(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _list_pods(self, request: kmock.Request) -> dict[str, Any]:
        job = request.params.get("labelSelector", "").removeprefix("job-name=")
        pod = request.params.get("fieldSelector", "").removeprefix("metadata.name=")
        found = [each for name, each in self.pods.items() if job in ("", name) and pod in ("", f"{name}-pod")]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found}

    def _log(self, request: kmock.Request) -> bytes:
        assert request.name is not None
        lines = self._log_of(request.name.removesuffix("-pod")).read_bytes().splitlines(keepends=True)
        return b"".join(lines[-int(request.params.get("tailLines", len(lines)) or 1) :])


def write_kubeconfig(path: Path, url: str) -> None:
    """Tell clients where a server is."""
    settings = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "tester", "user": {"token": "none"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "tester", "namespace": NAMESPACE}}],
    }
    path.write_text(yaml.safe_dump(settings))


def deployment(folder: Path, kubeconfig: Path, **variables: str) -> dict[str, str]:
    """Write the dagster.yaml of a deployment whose runs and steps are pods; returns the environment of its processes."""
    home = folder / "dagster"
    home.mkdir()
    variables = {
        "VIEWS_HOME": str(folder),
        "VIEWS_EXECUTOR": "kubernetes",
        "VIEWS_MAX_STEPS": "2",
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **variables,
    }
    launcher = {
        "service_account_name": "runs",
        "instance_config_map": "instance",
        "dagster_home": str(home),
        "job_image": IMAGE,
        "job_namespace": NAMESPACE,
        "load_incluster_config": False,
        "kubeconfig_file": str(kubeconfig),
        "env_vars": [f"{name}={value}" for name, value in variables.items()],
    }
    settings = {
        "telemetry": {"enabled": False},
        "python_logs": {"python_log_level": "INFO"},
        "run_launcher": {"module": "resources.run_pods", "class": "RunLauncher", "config": launcher},
        # Without a daemon, a queue would keep the run.
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    return {**os.environ, **variables, "DAGSTER_HOME": str(home)}
