"""One model a step on one matrix: training of all steps in parallel, the fitted model and its files.

What is fitted for a step, and how it becomes draws, belongs to the learners built on this (`step_shift`, `hurdle`).
"""

import io
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.calendar import to_key
from views_dagster.errors import ArtifactError, PanelError
from views_dagster.forecasts import Forecast
from views_dagster.learners.base import FittedModel, Learner
from views_dagster.learners.baselines import check_history
from views_dagster.learners.dependence import joint_draws
from views_dagster.learners.regressors import Block, Estimator, Matrix
from views_dagster.learners.step_rows import QUIET_MONTHS, StepRows, rows_of_step
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

MODEL_FILE: Final = "model.json"


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

    quiet_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description=f"share that is used of the rows with {QUIET_MONTHS} months of zeros and a zero outcome; each "
        "then stands for 1 / share: unbiased and much faster",
    )
    own_history: OwnHistory | None = Field(default=None, description="mix in the unit's own last months")
    workers: int | None = Field(
        default=None, ge=1, exclude=True, description="steps trained at once; default one a core; changes no result"
    )

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
        """(U, S) quantiles of the target at ascending `probabilities` (S,), given features (U, P) and anchor (U,)."""

    def anchors(self, panel: Panel) -> NDArray[np.float64]:
        """(M, U) what the learner measures change from, on the log scale; zeros where it learns none."""
        return np.zeros(panel.exists.shape)

    def thinned(self, rows: StepRows, *, seed: int) -> tuple[StepRows, NDArray[np.float64]]:
        """Rows to use and their weights (n,): of the quiet ones a random share stands for all.

        Which rows stay depends on the seed alone, so that fewer months of history keep the same ones.
        """
        lot = np.random.default_rng(seed_for(seed, "quiet")).random(len(rows.rows))
        keep = ~rows.quiet | (lot < self.quiet_share)
        return rows.where(keep), np.where(rows.quiet[keep], 1 / self.quiet_share, 1.0)

    def train(self, panel: Panel, *, steps: Sequence[int], seed: int) -> tuple[FittedStep, ...]:
        """One fitted step for each of ascending `steps`.

        Raises:
            PanelError: a feature or target that is not finite, or too little history for a step.
        """
        from threadpoolctl import threadpool_limits

        check_history(panel)
        needed = max(self.needed_months(step) for step in steps)
        if len(panel.months) < needed:
            raise PanelError(
                f"step {max(steps)} needs at least {needed} months of history, the panel has {len(panel.months)} "
                f"({to_key(int(panel.months[0]))}..{to_key(panel.origin)}); make more months or forecast fewer steps"
            )
        features = panel.features[panel.exists]
        bad = ~np.isfinite(features)
        if bad.any():
            name = panel.feature_names[int(np.argwhere(bad)[0][1])]
            raise PanelError(
                f"feature {name} is NaN or infinite in the panel's history; end its transforms with fill and replace_na"
            )
        anchor = self.anchors(panel)
        matrices = {name: block.matrix(features) for name, block in self.blocks().items()}

        def one(step: int) -> FittedStep:
            rows = rows_of_step(panel, step, anchor)
            return self.fit_step(step, rows, matrices, months=len(panel.months), seed=seed_for(seed, "step", step))

        workers = min(self.workers or os.cpu_count() or 1, len(steps))
        # Sums over several BLAS threads depend on how many there are.
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
            return tuple(pool.map(one, steps))


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

    @classmethod
    def trained(cls, learner: SteppedLearner, panel: Panel, *, steps: Sequence[int], seed: int) -> Self:
        """Train `learner` on the panel."""
        steps = sorted(steps)
        parts = learner.train(panel, steps=steps, seed=seed)
        return cls(learner, parts, feature_names=panel.feature_names, steps=steps, origin=panel.origin)

    def predict(self, panel: Panel, *, draws: int, seed: int) -> Forecast:
        check_history(panel)
        if panel.feature_names != self.feature_names:
            raise PanelError(
                f"the model was trained on features {list(self.feature_names)}, "
                f"the panel has {list(panel.feature_names)}"
            )
        if panel.origin < self.origin:
            raise PanelError(
                f"the model has seen {to_key(self.origin)}, it may not forecast from {to_key(panel.origin)}; "
                "train it on an earlier month"
            )
        current = panel.current
        own = self._own_draws(panel, draws)
        learnt = draws - own.shape[1]
        probabilities = (np.arange(learnt) + 0.5) / max(learnt, 1)
        features, anchor = panel.features[-1, current], self.learner.anchors(panel)[-1, current]
        margins = np.empty((len(current), len(self.steps), draws), dtype=np.float32)
        margins[:, :, learnt:] = own[:, None, :]
        for position, part in enumerate(self.parts):
            margins[:, position, :learnt] = self.learner.quantiles(part, features, anchor, probabilities)
        return Forecast(
            origin=panel.origin,
            units=panel.units[current],
            steps=np.asarray(self.steps, dtype=np.int64),
            draws=joint_draws(margins, panel, steps=self.steps, seed=seed),
        )

    def _own_draws(self, panel: Panel, draws: int) -> NDArray[np.float32]:
        """(U, n) quantiles of each current unit's last months, n its share of the draws."""
        setting = self.learner.own_history
        if setting is None:
            return np.empty((len(panel.current), 0), dtype=np.float32)
        number = round(setting.share * draws)
        recent = np.sort(np.where(panel.exists, panel.target, np.nan)[-setting.months :, panel.current], axis=0)
        # NaN sorts last, so a unit's n existing months are its first n rows.
        known = np.isfinite(recent).sum(axis=0)[:, None]
        picks = ((np.arange(number)[None, :] + 0.5) / max(number, 1) * known).astype(np.intp)
        return np.take_along_axis(recent.T, picks, axis=1)

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
        for step, part in zip(self.steps, self.parts, strict=True):
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
            parts = [
                FittedStep(
                    {name: blocks[_prefix(name)].read(files[_estimator_file(step, name, blocks)]) for name in names},
                    {name: table[position] for name, table in tables.items()},
                )
                for position, (step, names) in enumerate(zip(about.steps, about.estimators, strict=True))
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
