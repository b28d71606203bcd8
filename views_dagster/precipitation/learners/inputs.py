"""What a fitted model remembers of its columns, and what it refuses: the same for every learner.

Here is also how fractions of a box become its mean rain.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.names import listed
from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis

MODEL_FILE: Final = "model.json"
FEWEST_ROWS: Final = 20
_TYPICAL: Final = 2.0
_PSEUDO_ROW: Final = 0.1
_DECIMALS: Final = 6


class Stored(BaseModel):
    """What a fitted model keeps in `model.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> bytes:
        """Itself as the content of a file."""
        return self.model_dump_json(indent=1).encode()


AnyStored = TypeVar("AnyStored", bound=Stored)


def read_stored(files: Mapping[str, bytes], stored: type[AnyStored]) -> AnyStored:
    """What `model.json` of these files says; ArtifactError where it is not there or says something else."""
    if MODEL_FILE not in files:
        raise ArtifactError(f"the trained model has no {MODEL_FILE}, only {sorted(files)}; train the model again")
    try:
        return stored.model_validate_json(files[MODEL_FILE])
    except ValidationError as error:
        raise ArtifactError(f"{MODEL_FILE} cannot be read: {error}; train the model again") from error


class Inputs(Stored):
    """The variables, levels and bands that a model was fitted on."""

    profile_names: tuple[str, ...]
    levels: tuple[float, ...]
    level_unit: str
    surface_names: tuple[str, ...]
    edges: tuple[float, ...]
    members: int | None = Field(description="NWP members that it looks at; null: it looks at none")

    @classmethod
    def of(cls, columns: Columns, *, members: bool = False) -> "Inputs":
        """Those of `columns`; `members`: whether the model looks at the NWP members."""
        return cls(
            profile_names=columns.profile_names,
            levels=tuple(columns.levels.tolist()),
            level_unit=columns.level_unit,
            surface_names=columns.surface_names,
            edges=columns.edges,
            members=columns.members.shape[1] if members else None,
        )

    def check(self, columns: Columns) -> None:
        """Refuse columns that the model cannot be given.

        Raises:
            PanelError: other variables, levels, bands or number of members than in training, or a value is NaN.
        """
        found = Inputs.of(columns, members=self.members is not None)
        for name, wanted in self:
            value = getattr(found, name)
            if value != wanted:
                raise PanelError(
                    f"the model was fitted on {name.replace('_', ' ')} {wanted}, the columns have {value}; "
                    "train it again or give it the feature set that it was trained on"
                )
        check_values(columns, members=self.members is not None)


def check_values(columns: Columns, *, members: bool) -> None:
    """PanelError where a predictor is not finite, or, if they are looked at, a member is absent or negative."""
    for names, values in ((columns.profile_names, columns.profiles), (columns.surface_names, columns.surface)):
        finite = np.isfinite(values)
        if not finite.all():
            by_row = np.asarray(~finite.reshape(len(columns), -1).all(axis=1))
            by_name = np.asarray(~np.moveaxis(finite, 1, 0).reshape(len(names), -1).all(axis=1))
            raise PanelError(
                f"{int(by_row.sum())} of {len(columns)} columns are not finite in "
                f"{', '.join(np.array(names)[by_name])}, first at {_where(columns, by_row)}; "
                "drop these rows or repair the source"
            )
    if not members:
        return
    if not columns.members.shape[1]:
        raise PanelError("the columns have no NWP members, which this model needs; add a members source")
    usable = np.isfinite(columns.members) & (columns.members >= 0)
    absent = np.asarray(~usable.all(axis=1))
    if absent.any():
        raise PanelError(
            f"{int(absent.sum())} of {len(columns)} columns have a NWP member that is not finite or negative, first at "
            f"{_where(columns, absent)}; drop these rows or repair the source"
        )


def check_training(train: Columns, validation: Columns, *, members: bool = False) -> Inputs:
    """The inputs of a model that is about to be fitted on `train`.

    Raises:
        PanelError: too few rows, rows without observed rain, a predictor that is not finite, or validation rows of
            other variables.
    """
    if len(train) < FEWEST_ROWS:
        raise PanelError(f"{len(train)} columns are too few to train on; at least {FEWEST_ROWS} are needed")
    for part, columns in (("training", train), ("validation", validation)):
        hidden = ~columns.observed | ~np.isfinite(columns.rain_mean)
        if hidden.any():
            raise PanelError(
                f"{int(hidden.sum())} of the {len(columns)} {part} columns have no observed rain, first at "
                f"{_where(columns, hidden)}; keep observed rows only"
            )
    inputs = Inputs.of(train, members=members)
    check_values(train, members=members)
    if len(validation):
        inputs.check(validation)
    return inputs


def _where(columns: Columns, rows: NDArray[np.bool_]) -> str:
    at = np.flatnonzero(rows)
    boxes = listed(np.unique(columns.box_id[at]))
    return f"{columns.valid_time[at[0]]} (boxes {boxes})"


def band_rates(columns: Columns) -> tuple[float, ...]:
    """Typical rain of each band, (B,) mm/h: those that explain the boxes' means best by their fractions.

    Least squares, each rate inside its band, with a tenth of a row for each band at the geometric middle of its edges
    (twice the edge in the last band), which decides for bands that do not occur.
    """
    from scipy.optimize import lsq_linear

    lower = np.array([0.0, *columns.edges])
    upper = np.array([*columns.edges, max(_TYPICAL * columns.edges[-1], float(columns.rain_max.max(initial=0.0)))])
    middle = np.sqrt(lower * upper)
    middle[-1] = _TYPICAL * columns.edges[-1]
    fractions = np.concatenate([columns.fractions.astype(np.float64), _PSEUDO_ROW * np.eye(len(lower))])
    means = np.concatenate([columns.rain_mean.astype(np.float64), _PSEUDO_ROW * middle])
    # The triangle of the QR decomposition has the same solution as all the rows.
    triangle = np.asarray(np.linalg.qr(np.column_stack([fractions, means]), mode="r"))
    found = lsq_linear(triangle[:, :-1], triangle[:, -1], bounds=(lower, np.maximum(upper, lower + 1e-6)))
    return tuple(np.round(found.x, _DECIMALS).tolist())


def diagnosis(fractions: NDArray[np.float64], rain_mean: NDArray[np.float64]) -> Diagnosis:
    """A `Diagnosis` from fractions (N, B) that sum to 1 but for rounding, and means (N,)."""
    kept = np.clip(fractions, 0.0, None)
    kept = kept / kept.sum(axis=1, keepdims=True)
    return Diagnosis(kept.astype(np.float32), np.clip(rain_mean, 0.0, None).astype(np.float32))


def from_exceedance(above: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractions (N, B) from the fraction at or above each edge (N, B - 1), made not to grow with the edge."""
    falling = np.minimum.accumulate(np.clip(above, 0.0, 1.0), axis=1)
    ends = np.ones((len(falling), 1)), np.zeros((len(falling), 1))
    fractions: NDArray[np.float64] = -np.diff(np.concatenate([ends[0], falling, ends[1]], axis=1), axis=1)
    return fractions


def ranked_score(fractions: NDArray[np.floating], observed: NDArray[np.floating]) -> float:
    """Mean ranked probability score of fractions (N, B) against the observed ones, 0 is perfect.

    The sum over the edges of the squared difference of the fractions above them (Epstein 1969), not divided by B - 1.
    """
    if not len(fractions):
        return float("nan")
    return float(((exceedance(fractions) - exceedance(observed)) ** 2).sum(axis=1).mean())
