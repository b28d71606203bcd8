"""Cells around a cell, whose past a learner may borrow."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.geography import Raster


class CellNeighbours(BaseModel):
    """The cells at most `ring` rows and columns away, without the cell itself; those outside the domain are missing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ring: int = Field(default=1, ge=1, description="how many cells away the farthest neighbours are")
    share: float = Field(default=0.5, gt=0, lt=1, description="share of the draws that are months of a neighbour")

    def offsets(self) -> NDArray[np.int64]:
        """(N, 2) rows and columns from a cell to each neighbour."""
        steps = np.arange(-self.ring, self.ring + 1)
        pairs = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
        return np.asarray(pairs[(pairs != 0).any(axis=1)], dtype=np.int64)

    def positions(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N, U) position in `cells` (U,), ascending, of each cell's neighbour at each offset; -1 for none."""
        raster = Raster.around(cells)
        here = np.pad(raster.paint(np.arange(len(cells)), empty=-1), self.ring, constant_values=-1)
        offsets = self.offsets()
        rows = raster.row + self.ring + offsets[:, :1]
        return np.asarray(here[rows, raster.column + self.ring + offsets[:, 1:]], dtype=np.int64)
