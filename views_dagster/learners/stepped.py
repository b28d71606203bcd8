"""One model a step on one matrix: training of all steps in parallel, the fitted model and its files.

What is fitted for a step, and how it becomes draws, belongs to the learners built on this (`step_shift`, `hurdle`).
"""

import io
import os
from abc import abstractmethod
from bisect import bisect
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from views_dagster.calendar import to_key
from views_dagster.errors import ArtifactError, PanelError
from views_dagster.forecasts import Forecast
from views_dagster.learners.balance import BALANCE, Balance, balancing, slices
from views_dagster.learners.base import FittedModel, Learner
from views_dagster.learners.baselines import check_forecastable, check_history
from views_dagster.learners.dependence import joint_draws
from views_dagster.learners.regressors import Block, Estimator, Matrix
from views_dagster.learners.step_rows import Sampling, StepRows, recent_mean, rows_of_step
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

MODEL_FILE: Final = "model.json"
LEVEL_ROWS: Final = 100_000
"""About so many rows tell the level of a step where there are more."""


class OwnHistory(BaseModel):
    """A share of the draws taken from the unit's own last months (conflictology), the rest from the model.

    A linear pool (Gneiting & Ranjan 2013, Electronic J. Statistics 7). A regression on all units knows where a unit is
    heading, but little of how it differs from others that look alike; its own last months know nothing else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(default=0.5, gt=0, lt=1, description="share of the draws that are the unit's own months")
    months: int = Field(default=12, ge=1, description="how many of the unit's last months")


@dataclass(frozen=True)
class FittedStep:
    """What one step learnt: named estimators, and named tables whose shapes are the same for all steps."""

    estimators: Mapping[str, Estimator]
    tables: Mapping[str, NDArray[np.float64]]


class SteppedLearner(Learner):
    """Settings that all learners with one model a step share, and the training of all steps on one matrix."""

    sampling: Sampling = Field(default=Sampling(), description="which rows each step learns from")
    trained_steps: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="steps that get models of their own, ascending; between two of them quantiles are interpolated, "
        "beyond them the nearest one's hold; null: all",
    )
    balance: Balance | None = Field(default=None, description="hold the mean of the draws to the level observed")
    own_history: OwnHistory | None = Field(default=None, description="mix in the unit's own last months")
    workers: int | None = Field(
        default=None, ge=1, exclude=True, description="steps trained at once; default one a core; changes no result"
    )

    @field_validator("trained_steps")
    @classmethod
    def _ascending(cls, steps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if steps is not None and (steps[0] < 1 or any(second <= first for first, second in pairwise(steps))):
            raise ValueError(f"trained_steps {list(steps)} are not ascending from 1 on")
        return steps

    @abstractmethod
    def blocks(self) -> Mapping[str, Block]:
        """The estimator settings by the prefix of the names that `fit_step` gives to their estimators."""

    @abstractmethod
    def needed_months(self, step: int) -> int:
        """Months of history without which `step` cannot be trained."""

    @abstractmethod
    def fit_step(
        self, step: int, rows: StepRows, matrices: Mapping[str, Matrix], *, months: int, seed: int
    ) -> FittedStep:
        """Train one step; `months` is the panel's length and `matrices` has the keys of `blocks`."""

    @abstractmethod
    def quantiles(
        self,
        fitted: FittedStep,
        features: NDArray[np.float32],
        anchor: NDArray[np.float64],
        probabilities: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(U, S) quantiles of the target at ascending `probabilities` (U, S), given features (U, P) and anchor (U,)."""

    @abstractmethod
    def means(
        self, fitted: FittedStep, features: NDArray[np.float32], anchor: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(N,) means of the same distributions; needed for `balance` only."""

    def anchors(self, panel: Panel) -> NDArray[np.float64] | None:
        """(M, U) what the learner measures change from, on the log scale; None where it learns none."""
        return None

    @property
    def needed_columns(self) -> tuple[str, ...]:
        return self.sampling.near

    def shares(self, step: int) -> dict[int, float]:
        """The trained steps that `step` is forecast by, with the share of each: the one before it and the one after.

        Quantiles are averaged, as in vincentization (Ratcliff 1979), so that a forecast runs smoothly over steps.
        """
        own = self.trained_steps
        if own is None or step in own:
            return {step: 1.0}
        after = bisect(own, step)
        if after in (0, len(own)):
            return {own[min(after, len(own) - 1)]: 1.0}
        first, second = own[after - 1], own[after]
        share = (step - first) / (second - first)
        return {first: 1 - share, second: share}

    def to_train(self, steps: Sequence[int]) -> tuple[int, ...]:
        """The steps to train so that all of `steps` are forecast, ascending."""
        return tuple(sorted({trained for step in steps for trained in self.shares(step)}))

    def train(self, panel: Panel, *, steps: Sequence[int], seed: int) -> tuple[FittedStep, ...]:
        """One fitted step for each of `self.to_train(steps)`.

        Raises:
            PanelError: a feature or target that is not finite, or too little history for a step.
        """
        from threadpoolctl import threadpool_limits

        check_history(panel)
        steps = self.to_train(steps)
        needed = max(self.needed_months(step) for step in steps)
        if len(panel.months) < needed:
            raise PanelError(
                f"step {max(steps)} needs at least {needed} months of history, the panel has {len(panel.months)} "
                f"({to_key(int(panel.months[0]))}..{to_key(panel.origin)}); make more months or forecast fewer steps"
            )
        _check_features(panel)
        features = panel.features.reshape(-1, panel.features.shape[2])
        anchors, tiers = self.anchors(panel), self.sampling.tiers(panel)
        own = None if self.own_history is None else recent_mean(panel, self.own_history.months).reshape(-1)
        matrices = {name: block.matrix(features) for name, block in self.blocks().items()}

        def one(step: int) -> FittedStep:
            rows = rows_of_step(panel, step, tiers, anchors)
            chosen = seed_for(seed, "step", step)
            fitted = self.fit_step(step, rows, matrices, months=len(panel.months), seed=chosen)
            if self.balance is None:
                return fitted
            latest = self.balance.latest(rows, step=step, months=len(panel.months))
            return self._balanced(fitted, latest, features, own, seed=chosen)

        workers = min(self.workers or os.cpu_count() or 1, len(steps))
        # Sums over several BLAS threads depend on how many there are.
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
            return tuple(pool.map(one, steps))

    def _balanced(
        self,
        fitted: FittedStep,
        rows: StepRows,
        features: NDArray[np.float32],
        own: NDArray[np.float64] | None,
        *,
        seed: int,
    ) -> FittedStep:
        """The step with the table `BALANCE`; `own` are the flattened means of each unit's own months."""
        # Not the sample that the step was fitted on, which would flatter it.
        sampling = self.sampling.at_least(LEVEL_ROWS / max(len(rows), 1))
        kept, weight = rows.thinned(sampling, seed=seed_for(seed, "level"))
        learnt = float((weight * self.means(fitted, features[kept.rows], kept.anchor)).sum())
        observed = float(rows.outcome.sum(dtype=np.float64))
        if self.own_history is None or own is None:
            factors = balancing(observed, learnt)
        else:
            factors = balancing(observed, learnt, own=float(own[rows.rows].sum()), share=self.own_history.share)
        return FittedStep(fitted.estimators, {**fitted.tables, BALANCE: factors})


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


def _check_features(panel: Panel) -> None:
    """Refuse features that cannot be learnt from.

    Raises:
        PanelError: a feature that is not finite where its unit exists.
    """
    # A year at a time, so that the mask of a large panel is never whole in memory.
    for first in range(0, len(panel.months), 12):
        year = slice(first, first + 12)
        bad = ~np.isfinite(panel.features[year]) & panel.exists[year, :, None]
        if bad.any():
            name = panel.feature_names[int(np.argwhere(bad)[0][2])]
            raise PanelError(
                f"feature {name} is NaN or infinite in the panel's history; end its transforms with fill and replace_na"
            )


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
