"""Normalisation of columns: a mean and a spread per variable and level and surface field, of training rows alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.precipitation.columns import Columns

CHUNK: Final = 1 << 15
CONSTANT: Final = 1e-6
"""A spread below this share of the largest magnitude is float32 rounding, not variation."""


@dataclass(frozen=True)
class Normalisation:
    """z = (x - mean) * factor; the factor of a field that did not vary in training is 0, so that it says nothing.

    Attributes:
        profile_mean, profile_factor: (V, L) float32.
        surface_mean, surface_factor: (S,) float32.
    """

    profile_mean: NDArray[np.float32]
    profile_factor: NDArray[np.float32]
    surface_mean: NDArray[np.float32]
    surface_factor: NDArray[np.float32]

    @classmethod
    def fit(cls, columns: Columns) -> Self:
        """Means and inverse population standard deviations of these rows, computed in float64.

        Raises:
            PanelError: no rows, or a value that is not finite.
        """
        if not len(columns):
            raise PanelError("there are no columns to normalise by; give the training rows")
        return cls(*_moments(columns.profiles, "profiles"), *_moments(columns.surface, "surface fields"))

    def profiles(self, columns: Columns) -> NDArray[np.float32]:
        """(N, L, V) float32 normalised profiles, levels before variables: the memory order of a channels-last image."""
        mean, factor = self.profile_mean.T, self.profile_factor.T
        out = np.empty((len(columns), *mean.shape), dtype=np.float32)
        for at in range(0, len(columns), CHUNK):
            block = slice(at, at + CHUNK)
            np.subtract(columns.profiles[block].transpose(0, 2, 1), mean, out=out[block])
            out[block] *= factor
        return out

    def surface(self, columns: Columns) -> NDArray[np.float32]:
        """(N, S) float32 normalised surface fields."""
        scaled: NDArray[np.float32] = (columns.surface - self.surface_mean) * self.surface_factor
        return scaled

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """The attributes by name."""
        return asdict(self)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float32]], variables: int, levels: int, surface: int) -> Self:
        """Undo `to_arrays`; ArtifactError where an array is absent or is not of V x L, or S."""
        shapes = {name: (variables, levels) if name.startswith("profile") else (surface,) for name in _NAMES}
        found = {name: arrays[name].shape if name in arrays else None for name in _NAMES}
        if found != shapes:
            raise ArtifactError(f"the model's normalisation has shapes {found}, not {shapes}; train the model again")
        return cls(**{name: arrays[name] for name in _NAMES})


_NAMES: Final = tuple(Normalisation.__dataclass_fields__)


def _moments(values: NDArray[np.float32], what: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean over rows and 1 / spread, 0 where the field is constant; two passes in chunks to spare memory."""
    mean = values.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise PanelError(f"{what} to normalise by are not finite at {np.argwhere(~np.isfinite(mean))[0].tolist()}")
    squares, largest = np.zeros_like(mean), np.zeros_like(mean)
    for at in range(0, len(values), CHUNK):
        block = values[at : at + CHUNK].astype(np.float64)
        np.maximum(largest, np.abs(block).max(axis=0), out=largest)
        block -= mean
        squares += np.square(block, out=block).sum(axis=0)
    spread = np.sqrt(squares / len(values))
    factor = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > CONSTANT * largest)
    return mean.astype(np.float32), factor.astype(np.float32)
