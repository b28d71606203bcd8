"""`compute:` blocks: what a training step asks of the machine it runs on."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

GPU_RESOURCE = "nvidia.com/gpu"


class Compute(BaseModel):
    """Resources of a training step; they count where steps run as pods and are ignored elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: int = Field(default=0, ge=0, description="Number of GPUs.")
    cpu: str | None = Field(default=None, pattern=r"^\d+(\.\d+)?m?$", description="CPU request, for example 2 or 500m.")
    memory: str | None = Field(
        default=None, pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$", description="Memory limit, for example 8Gi."
    )

    def op_tags(self) -> dict[str, Any]:
        """Tags of the step's op; a tag on the job would not reach the step's pod."""
        limits = {GPU_RESOURCE: str(self.gpu) if self.gpu else None, "memory": self.memory}
        requests = {"cpu": self.cpu, "memory": self.memory}
        resources = {
            kind: {name: value for name, value in wanted.items() if value is not None}
            for kind, wanted in (("limits", limits), ("requests", requests))
        }
        resources = {kind: wanted for kind, wanted in resources.items() if wanted}
        return {"dagster-k8s/config": {"container_config": {"resources": resources}}} if resources else {}
