"""Where unfinished trainings keep their state, so that one that was killed goes on instead of starting over."""

import dagster as dg
from pydantic import Field

from views_dagster.storage.checkpoints import StoredCheckpoint


class Checkpoints(dg.ConfigurableResource["Checkpoints"]):
    """Checkpoints in a folder or an object store."""

    location: str = Field(description="Folder or s3:// URL of the checkpoints.")

    def of(self, context: dg.AssetExecutionContext, model: str) -> StoredCheckpoint:
        """The checkpoint of a model's training for the month of the step."""
        name = f"{model}.{context.partition_key}"
        return StoredCheckpoint(self.location, name, log=context.log.info, warn=context.log.warning)
