"""Where steps run: one setting of the deployment chooses the executor, and no asset knows which."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import dagster as dg

from views_dagster.errors import PlatformError
from views_dagster.names import nearest

EXECUTOR_VARIABLE: Final = "VIEWS_EXECUTOR"
STEPS_VARIABLE: Final = "VIEWS_MAX_STEPS"
PRELOADED: Final = ("views_dagster.definitions", "views_dagster.components")
"""Modules that the process has imported from which those of the steps are forked."""


def executor_from_environment() -> dg.ExecutorDefinition:
    """The executor that `VIEWS_EXECUTOR` names: steps in this process, in processes of this machine, or in pods.

    Raises:
        PlatformError: there is no such executor, or `VIEWS_MAX_STEPS` is no number of steps.
    """
    chosen = os.environ.get(EXECUTOR_VARIABLE) or "in_process"
    if chosen not in EXECUTORS:
        raise PlatformError(f"{EXECUTOR_VARIABLE}={chosen}: there is no such executor{nearest(chosen, EXECUTORS)}")
    return EXECUTORS[chosen](_at_once())


def _at_once() -> Mapping[str, Any]:
    """How many steps of a run there may be at once, as a setting of an executor; nothing where that is left to it."""
    written = os.environ.get(STEPS_VARIABLE)
    if not written:
        return {}
    if not written.isascii() or not written.isdigit() or int(written) < 1:
        raise PlatformError(f"{STEPS_VARIABLE}={written}: write how many steps of a run may run at once, 1 or more")
    return {"max_concurrent": int(written)}


def _in_process(_: Mapping[str, Any]) -> dg.ExecutorDefinition:
    return dg.in_process_executor


def _multiprocess(at_once: Mapping[str, Any]) -> dg.ExecutorDefinition:
    forked = {"start_method": {"forkserver": {"preload_modules": list(PRELOADED)}}}
    made: dg.ExecutorDefinition = dg.multiprocess_executor.configured({**forked, **at_once}, name="multiprocess")
    return made


def _kubernetes(at_once: Mapping[str, Any]) -> dg.ExecutorDefinition:
    # Its import takes longer than the rest of a command's start.
    from resources.pods import pod_executor

    return pod_executor.configured(dict(at_once), name="k8s") if at_once else pod_executor


EXECUTORS: Final[Mapping[str, Callable[[Mapping[str, Any]], dg.ExecutorDefinition]]] = {
    "in_process": _in_process,
    "multiprocess": _multiprocess,
    "kubernetes": _kubernetes,
}
