"""`compute:` blocks: what a training step asks of the machine it runs on, as Dagster hands it to a cluster.

Nothing here knows where a step runs: the tags count where steps are pods, the pool and the retries count everywhere.
"""

import re
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Final, Literal, ParamSpec, TypeVar

import dagster as dg
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from views_dagster.components.blocks import LARGEST
from views_dagster.errors import PlatformError

GPU_RESOURCE: Final = "nvidia.com/gpu"
GPU_POOL: Final = "gpu"
POD_TAG: Final = "dagster-k8s/config"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = r"^[1-9]\d*[smhd]$"

P = ParamSpec("P")
R = TypeVar("R")


def _in_seconds(value: Any) -> Any:
    seconds = value
    if isinstance(value, str) and re.match(_DURATION, value):
        seconds = int(value[:-1]) * _SECONDS[value[-1]]
    if isinstance(seconds, int) and not isinstance(seconds, bool) and 0 < seconds <= LARGEST:
        return seconds
    raise ValueError(
        f"write a number of seconds, or a number with s, m, h or d such as 90m or 2h, up to {LARGEST} seconds, "
        f"not {value!r}"
    )


Duration = Annotated[
    int,
    BeforeValidator(_in_seconds),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": _DURATION}]}),
]
"""Seconds, which may be written as 90m or 2h."""


_CPUS: Final = r"^\d+(\.\d+)?m?$"
_MEMORY: Final = r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"


def _matching(pattern: str, allowed: str) -> BeforeValidator:
    def checked(value: Any) -> Any:
        if value is None or (isinstance(value, str) and re.match(pattern, value)):
            return value
        raise ValueError(f"write {allowed}, not {value!r}")

    return BeforeValidator(checked)


def _text(pattern: str) -> WithJsonSchema:
    # As one type: of a choice between a text and null, a validator can only say that neither fits.
    return WithJsonSchema({"type": ["string", "null"], "pattern": pattern})


Cpus = Annotated[
    str | None, _matching(_CPUS, "a number in quotes such as '2', or thousandths such as 500m"), _text(_CPUS)
]
Memory = Annotated[
    str | None, _matching(_MEMORY, "a number with Ki, Mi, Gi, Ti, k, M, G or T such as 16Gi or 500M"), _text(_MEMORY)
]
"""As Kubernetes writes them."""

_WORD: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
Label = Annotated[str, Field(pattern=rf"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?{_WORD}$")]
"""Name of a Kubernetes label or taint."""

LabelValue = Annotated[str, Field(pattern=rf"^({_WORD})?$")]


class Toleration(BaseModel):
    """A taint of nodes that the step's pod may run on all the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Label = Field(description="Name of the taint, for example nvidia.com/gpu.")
    value: LabelValue | None = Field(default=None, description="Value of the taint; left out: any.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; left out: all."
    )

    def as_kubernetes(self) -> dict[str, str]:
        """The toleration as it stands in a pod."""
        told = {"key": self.key, "operator": "Exists" if self.value is None else "Equal"}
        told |= {} if self.value is None else {"value": self.value}
        return told | ({} if self.effect is None else {"effect": self.effect})


class Compute(BaseModel):
    """Resources of a training step; they count where steps run as pods and are ignored elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: int = Field(default=0, ge=0, le=64, description="Number of GPUs.")
    gpu_type: LabelValue | None = Field(
        default=None, description="Which GPU, as its nodes are labelled, for example NVIDIA-A100-SXM4-80GB."
    )
    gpu_label: Label = Field(default="nvidia.com/gpu.product", description="Label of nodes that holds the GPU's type.")
    cpu: Cpus = Field(default=None, description="CPUs, for example '2' or 500m.")
    memory: Memory = Field(default=None, description="Memory, requested and the limit, for example 8Gi.")
    node_selector: dict[Label, LabelValue] = Field(default={}, description="Labels that the step's node must have.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints that the step's node may have.")
    time_limit: Duration | None = Field(
        default=None, description="Longest time, waiting for a node included, as seconds or 90m or 2h."
    )
    retries: int = Field(
        default=0, ge=0, le=20, description="How often a step that was killed or failed is started again."
    )
    retry_delay: Duration = Field(default=30, description="Time before a retry, as seconds or 5m.")
    image: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-zA-Z0-9._:/@-]*$",
        description="Container image of a model with dependencies of its own; it must hold the platform too.",
    )

    @model_validator(mode="after")
    def _type_of_something(self) -> "Compute":
        if self.gpu_type is not None and not self.gpu:
            raise ValueError(f"gpu_type {self.gpu_type} asks for no GPU; write how many as gpu, or leave gpu_type out")
        if self.gpu_type is not None and self.gpu_label in self.node_selector:
            raise ValueError(f"node_selector holds {self.gpu_label} already, and so does gpu_type; keep one of them")
        return self

    @property
    def pool(self) -> str | None:
        """The pool that limits how many GPU steps run at once."""
        return GPU_POOL if self.gpu else None

    @property
    def retry_policy(self) -> dg.RetryPolicy | None:
        """Of the step's op."""
        return dg.RetryPolicy(max_retries=self.retries, delay=self.retry_delay) if self.retries else None

    def op_tags(self) -> dict[str, Any]:
        """Tags of the step's op; a tag on the job would not reach the step's pod."""
        # Requests and limits both: what the run launcher sets for all pods is merged with this, name by name, and a
        # request above its limit is refused by the cluster.
        own = _present({"cpu": self.cpu, "memory": self.memory})
        resources = _present(
            {"limits": own | ({GPU_RESOURCE: str(self.gpu)} if self.gpu else {}), "requests": own},
        )
        selected = self.node_selector | ({} if self.gpu_type is None else {self.gpu_label: self.gpu_type})
        config = _present(
            {
                "container_config": _present({"resources": resources, "image": self.image}),
                "pod_spec_config": _present(
                    {
                        "node_selector": selected,
                        "tolerations": [toleration.as_kubernetes() for toleration in self.tolerations],
                    }
                ),
                "job_spec_config": _present({"active_deadline_seconds": self.time_limit}),
            }
        )
        return {POD_TAG: config} if config else {}

    def retrying(self, train: Callable[P, R]) -> Callable[P, R]:
        """`train`, whose errors that a retry cannot mend are not retried."""
        if not self.retries:
            return train

        @wraps(train)
        def trained(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return train(*args, **kwargs)
            except PlatformError as error:
                raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error

        return trained


def _present(wanted: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if value not in (None, {}, [])}
