"""A trained stepped learner: from one fitted step a step to draws that belong together, and its files."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from views_dagster.errors import ArtifactError
from views_dagster.forecasts import Forecast
from views_dagster.learners.balance import BALANCE, slices
from views_dagster.learners.base import FittedModel
from views_dagster.learners.baselines import check_forecastable
from views_dagster.learners.dependence import joint_draws
from views_dagster.learners.regressors import Block
from views_dagster.learners.stepped import FittedStep, SteppedLearner
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

MODEL_FILE: Final = "model.json"


class SteppedModel(FittedModel):
    """A trained stepped learner: its settings, and one fitted step a step."""

    learner_type: ClassVar[type[SteppedLearner]]

    def __init__(
        self,
        learner: SteppedLearner,
        parts: Sequence[FittedStep],
        *,
        feature_names: Sequence[str],
        steps: Sequence[int],
        origin: int,
    ) -> None:
        self.learner = learner
        self.parts = tuple(parts)
        self.feature_names = tuple(feature_names)
        self.steps = tuple(steps)
        self.origin = origin
        self.trained_steps = learner.to_train(self.steps)

    @classmethod
    def trained(cls, learner: SteppedLearner, panel: Panel, *, steps: Sequence[int], seed: int) -> Self:
        """Train `learner` on the panel."""
        steps = sorted(steps)
        parts = learner.train(panel, steps=steps, seed=seed)
        return cls(learner, parts, feature_names=panel.feature_names, steps=steps, origin=panel.origin)

    def predict(self, panel: Panel, *, draws: int, seed: int) -> Forecast:
        check_forecastable(panel, feature_names=self.feature_names, trained_until=self.origin)
        current = panel.current
        anchors = self.learner.anchors(panel)
        anchor = np.zeros(len(current)) if anchors is None else anchors[-1, current]
        margins = np.zeros((len(current), len(self.steps), draws), dtype=np.float32)
        own = 0 if self.learner.own_history is None else round(self.learner.own_history.share * draws)
        margins[:, :, draws - own :] = self._own_draws(panel, own, seed=seed)[:, None, :]
        shares = [self.learner.shares(step) for step in self.steps]
        for step, part in zip(self.trained_steps, self.parts, strict=True):
            levels = self._slices(len(current), draws - own, seed=seed_for(seed, "slices", step))
            learnt = self.learner.quantiles(part, panel.features[-1, current], anchor, levels)
            if BALANCE in part.tables:
                learnt *= part.tables[BALANCE][0]
            for position, of_step in enumerate(shares):
                if step in of_step:
                    margins[:, position, : draws - own] += of_step[step] * learnt
        return Forecast(
            origin=panel.origin,
            units=panel.units[current],
            steps=np.asarray(self.steps, dtype=np.int64),
            draws=joint_draws(margins, panel, steps=self.steps, seed=seed),
        )

    def _slices(self, units: int, number: int, *, seed: int) -> NDArray[np.float64]:
        return slices(units, number, seed=None if self.learner.balance is None else seed)

    def _own_draws(self, panel: Panel, number: int, *, seed: int) -> NDArray[np.float32]:
        """(U, n) quantiles of each current unit's last months."""
        months = 1 if self.learner.own_history is None else self.learner.own_history.months
        latest = panel.exists[-months:, panel.current], panel.target[-months:, panel.current]
        recent = np.sort(np.where(*latest, np.nan), axis=0)
        # NaN sorts last, so a unit's n existing months are its first n rows.
        known = np.isfinite(recent).sum(axis=0)[:, None]
        levels = self._slices(len(panel.current), number, seed=seed_for(seed, "own"))
        return np.take_along_axis(recent.T, (levels * known).astype(np.intp), axis=1)

    def to_files(self) -> dict[str, bytes]:
        about = _About(
            learner=self.learner.model_dump(mode="json"),
            feature_names=self.feature_names,
            steps=self.steps,
            origin=self.origin,
            estimators=tuple(tuple(part.estimators) for part in self.parts),
            tables=tuple(self.parts[0].tables),
        )
        files = {MODEL_FILE: about.model_dump_json().encode()}
        blocks = self.learner.blocks()
        for step, part in zip(self.trained_steps, self.parts, strict=True):
            for name, estimator in part.estimators.items():
                files[_estimator_file(step, name, blocks)] = estimator.to_bytes()
        for name in about.tables:
            buffer = io.BytesIO()
            np.save(buffer, np.stack([part.tables[name] for part in self.parts]), allow_pickle=False)
            files[f"{name}.npy"] = buffer.getvalue()
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        try:
            about = _About.model_validate_json(files[MODEL_FILE])
            learner = cls.learner_type.model_validate(about.learner)
            blocks = learner.blocks()
            tables = {name: np.load(io.BytesIO(files[f"{name}.npy"]), allow_pickle=False) for name in about.tables}
            trained = zip(learner.to_train(about.steps), about.estimators, strict=True)
            parts = [
                FittedStep(
                    {name: blocks[_prefix(name)].read(files[_estimator_file(step, name, blocks)]) for name in names},
                    {name: table[position] for name, table in tables.items()},
                )
                for position, (step, names) in enumerate(trained)
            ]
        except (KeyError, IndexError, ValueError) as error:
            raise ArtifactError(f"not the files of a {cls.__name__}: {error}; train the model again") from error
        return cls(learner, parts, feature_names=about.feature_names, steps=about.steps, origin=about.origin)


class _About(BaseModel):
    """What `model.json` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learner: dict[str, Any]
    feature_names: tuple[str, ...]
    steps: tuple[int, ...]
    origin: int
    estimators: tuple[tuple[str, ...], ...]
    tables: tuple[str, ...]


def _prefix(name: str) -> str:
    return name.split("-")[0]


def _estimator_file(step: int, name: str, blocks: Mapping[str, Block]) -> str:
    return f"step-{step:02d}-{name}.{blocks[_prefix(name)].suffix}"
