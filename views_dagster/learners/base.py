"""The learner contract: settings that know how to fit, and a fitted model that predicts and saves itself.

A learner is a pydantic model whose fields are its hyperparameters; `kind` names it in YAML.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from views_dagster.forecasts import Forecast
from views_dagster.panel import Panel


class FittedModel(ABC):
    """A trained model. It remembers its feature names, steps and training origin."""

    @abstractmethod
    def predict(self, panel: Panel, *, draws: int, seed: int) -> Forecast:
        """Forecast the units that exist at `panel.origin`, for the steps it was fitted on.

        Equal seeds give equal bytes. Units never seen in training are forecast too.

        Raises:
            PanelError: the panel's features are not those of training, or hold NaN for a current unit.
        """

    @abstractmethod
    def to_files(self) -> dict[str, bytes]:
        """The model as named files, in formats that cannot execute code when read."""

    @classmethod
    @abstractmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedModel":
        """Undo `to_files`; ArtifactError where the files are not this kind of model."""


class Learner(BaseModel, ABC):
    """Hyperparameters of one algorithm. Subclasses add `kind: Literal[...]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def fit(self, panel: Panel, *, steps: Sequence[int], seed: int) -> FittedModel:
        """Train on everything in `panel`, whose last month is the origin; step k learns y[t + k] from x[t].

        Raises:
            PanelError: too little history to train any step.
        """

    @property
    def needs_cells(self) -> bool:
        """Whether unit ids must be those of the lattice's cells (`views_dagster.geography`)."""
        return False

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """Columns that the settings name, which the panel must have."""
        return ()

    @abstractmethod
    def fitted_type(self) -> type[FittedModel]:
        """The class whose `from_files` reads what `fit(...).to_files()` wrote."""
