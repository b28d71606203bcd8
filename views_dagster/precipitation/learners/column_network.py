"""The column network: one-dimensional convolutions over the levels of a column, and a softmax over the bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import (
    Checkpoint,
    Diagnosis,
    DiagnosisLearner,
    FittedDiagnosis,
    Report,
)
from views_dagster.precipitation.learners.inputs import (
    Inputs,
    Stored,
    band_rates,
    check_training,
    diagnosis,
    read_stored,
)
from views_dagster.precipitation.learners.network_calibration import calibration
from views_dagster.precipitation.learners.network_parts import (
    Arrays,
    Examples,
    Shape,
    choose_device,
    predicted_fractions,
    predicted_scores,
    reproducible,
)
from views_dagster.precipitation.learners.network_training import Plan, train_network
from views_dagster.precipitation.normalisation import Normalisation
from views_dagster.precipitation.rebalancing import NoRebalance, Rebalance, RebalanceReport
from views_dagster.seeds import seed_for

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE = "network.safetensors"


class ColumnNetwork(Plan, DiagnosisLearner):
    """A residual network over levels: variables are channels, surface fields join before the last layers."""

    trains_with: ClassVar[str] = "pytorch"

    kind: Literal["column_network"] = "column_network"
    depth: int = Field(2, ge=0, le=20, description="residual blocks of two convolutions each")
    width: int = Field(32, ge=1, le=512, description="channels of every convolution")
    kernel: int = Field(3, ge=1, le=512, description="levels that a convolution sees; odd")
    hidden: int = Field(64, ge=1, le=8192, description="units in which levels and surface fields are joined")
    rebalance: Rebalance = Field(default=NoRebalance(), description="the mix of bands that it is trained on")
    calibrate: bool = Field(
        False, description="fit a temperature and a bias per band on the validation rows, so that mean fractions match"
    )

    @field_validator("kernel")
    @classmethod
    def _centred(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"a kernel of {kernel} levels has no middle; use an odd number")
        return kernel

    def fit(
        self,
        train: Columns,
        validation: Columns,
        *,
        seed: int,
        report: Report | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> FittedColumnNetwork:
        """Train; `validation` decides when to stop by its ranked probability score, after the prior correction.

        Equal bytes come of equal arguments on the same kind of processor and version of torch, whatever the number of
        cores, and whether the training was interrupted and resumed from `checkpoint` or not. Predicting is always done
        on the CPU.

        Raises:
            PanelError: too few rows, none to validate with, rows without observed rain, or a NaN.
            QuerysetError: the rebalancing states shares of another number of bands.
            ForecastError: the training diverged.
            ArtifactError: the checkpoint is damaged.
        """
        inputs = check_training(train, validation)
        if not len(validation):
            raise PanelError("the column network needs validation rows to stop by; let the split give it some")
        rebalanced = self.rebalance.apply(train.fractions, train.edges, seed=seed_for(seed, "rebalance"))
        normalisation = Normalisation.fit(train)
        shape = Shape(
            variables=len(train.profile_names),
            levels=len(train.levels),
            surface=len(train.surface_names),
            bands=train.fractions.shape[1],
            depth=self.depth,
            width=self.width,
            kernel=self.kernel,
            hidden=self.hidden,
        )
        examples, seen = _examples(normalisation, train), _examples(normalisation, validation)
        device = choose_device(self.device)
        with reproducible(device) as workers:
            progress = train_network(
                self,
                shape,
                examples,
                rebalanced,
                seen,
                device=device,
                workers=workers,
                seed=seed,
                report=report,
                checkpoint=checkpoint,
            )
            scale, offset = 1.0, progress.best_offset
            if self.calibrate:
                scores = predicted_scores(as_tensors(progress.best), seen, workers)
                scale, offset = calibration(scores, seen.fractions, offset, temperature=True)
        return FittedColumnNetwork(
            _Stored(
                inputs=inputs,
                shape=shape,
                scale=scale,
                offset=tuple(offset.tolist()),
                band_rates=band_rates(train),
                scores=tuple(progress.scores),
                rebalance=rebalanced.report,
            ),
            normalisation,
            progress.best,
        )

    def resume(
        self, train: Columns, validation: Columns, *, seed: int, report: Report | None, checkpoint: Checkpoint
    ) -> FittedColumnNetwork:
        """`fit`, which keeps its state after each epoch."""
        return self.fit(train, validation, seed=seed, report=report, checkpoint=checkpoint)

    def fitted_type(self) -> type[FittedColumnNetwork]:
        """`FittedColumnNetwork`."""
        return FittedColumnNetwork


class _Stored(Stored):
    """What `model.json` says of a column network.

    `scale` and `offset` turn the network's scores into those of the prediction; `scores` are the validation scores
    after each epoch, of which the lowest is the network that was kept.
    """

    kind: Literal["column_network"] = "column_network"
    inputs: Inputs
    shape: Shape
    scale: float
    offset: tuple[float, ...]
    band_rates: tuple[float, ...]
    scores: tuple[float, ...]
    rebalance: RebalanceReport


@dataclass(frozen=True)
class FittedColumnNetwork(FittedDiagnosis):
    """A trained column network.

    Attributes:
        stored: its sizes, variables, validation scores and what was done to its training rows.
        normalisation: of its training rows.
        parameters: float32 arrays, by the names of `Shape.parameters`.
    """

    stored: _Stored
    normalisation: Normalisation
    parameters: Arrays

    def predict(self, columns: Columns) -> Diagnosis:
        """Diagnose; a row's fractions do not depend on how many threads there are."""
        examples = self.examples(columns)
        with reproducible("cpu") as workers:
            fractions = predicted_fractions(
                as_tensors(self.parameters), examples, self.stored.scale, np.asarray(self.stored.offset), workers
            )
        return diagnosis(fractions, fractions @ np.asarray(self.stored.band_rates))

    @property
    def rebalance(self) -> RebalanceReport:
        """What was done to its training rows."""
        return self.stored.rebalance

    def examples(self, columns: Columns) -> Examples:
        """The columns as the network sees them; PanelError where it cannot be given them."""
        self.stored.inputs.check(columns)
        return _examples(self.normalisation, columns)

    def to_files(self) -> dict[str, bytes]:
        """`model.json`, and the weights and the normalisation as safetensors."""
        from safetensors.numpy import save

        arrays = self.parameters | self.normalisation.to_arrays()
        return {
            "model.json": self.stored.to_json(),
            WEIGHTS_FILE: save({name: np.ascontiguousarray(value) for name, value in arrays.items()}),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> FittedColumnNetwork:
        """Undo `to_files`; ArtifactError where a file is absent, damaged, or does not fit the others."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        stored = read_stored(files, _Stored)
        if WEIGHTS_FILE not in files:
            raise ArtifactError(f"the trained model has no {WEIGHTS_FILE}, only {sorted(files)}; train the model again")
        try:
            arrays = load(files[WEIGHTS_FILE])
        except SafetensorError as error:
            raise ArtifactError(f"{WEIGHTS_FILE} cannot be read: {error}; train the model again") from error
        shape = stored.shape
        wanted = shape.parameters()
        found = {name: arrays[name].shape if name in arrays else None for name in wanted}
        if found != wanted or not shape.bands == len(stored.offset) == len(stored.band_rates):
            raise ArtifactError(f"{WEIGHTS_FILE} holds arrays {found}, not {wanted}; train the model again")
        normalisation = Normalisation.from_arrays(arrays, shape.variables, shape.levels, shape.surface)
        return cls(stored, normalisation, {name: arrays[name] for name in wanted})


def as_tensors(parameters: Arrays) -> dict[str, Tensor]:
    """Parameters as tensors on the CPU, convolutions in channels-last memory."""
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in parameters.items()}
    return {
        name: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in tensors.items()
    }


def _examples(normalisation: Normalisation, columns: Columns) -> Examples:
    return Examples(normalisation.profiles(columns), normalisation.surface(columns), columns.fractions)
