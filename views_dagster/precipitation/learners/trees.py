"""Boosted trees that the learners of this system grow side by side: one booster an outcome, stopped by validation."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from views_dagster.learners.regressors import Estimator, LightGBMBlock, LightGBMParameters
from views_dagster.precipitation.learners.base import Report
from views_dagster.precipitation.learners.softmax import STRENGTHS

Floats = NDArray[np.float64]
Objective = Literal["cross_entropy", "regression", "tweedie"]
_SMALLEST: Final = 1e-9


class DiagnosisTrees(LightGBMParameters):
    """Parameters of boosted trees, with defaults for columns: many rows, few storms, correlated levels."""

    n_estimators: int = Field(
        default=400, ge=1, le=100_000, description="most trees of one outcome; validation may stop earlier"
    )
    learning_rate: float = Field(default=0.08, gt=0, le=1, description="how much each tree contributes")
    num_leaves: int = Field(default=15, ge=2, le=131_072, description="most leaves of a tree")
    min_child_samples: int = Field(default=200, ge=1, description="fewest rows in a leaf")
    reg_lambda: float = Field(default=5.0, ge=0, description="L2 penalty on leaf values")
    colsample_bytree: float = Field(default=0.3, gt=0, le=1, description="share of the columns that a tree may use")
    patience: int = Field(default=20, ge=1, description="trees without a better validation score before growth stops")


@dataclass(frozen=True)
class Outcomes:
    """What K boosters learn from N rows: `labels` (N, K), with one weight a row and predictors (N, P) for all."""

    table: NDArray[np.float32]
    labels: NDArray[np.float32]
    weight: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class Grown:
    """A booster in LightGBM's text format, and what is to be added to the log-odds that it predicts."""

    text: bytes
    shift: float


def grow(
    train: Outcomes,
    validation: Outcomes,
    settings: DiagnosisTrees,
    *,
    objective: Objective,
    seed: int,
    shift: Floats | None = None,
    report: Report | None = None,
) -> list[Grown]:
    """One booster for each outcome.

    Boosters grow tree by tree side by side, each on one thread, so that equal seeds give equal bytes on any machine.
    Each stops, and is cut back to its best, when its loss on the validation rows has not improved for
    `settings.patience` trees; without validation rows all trees are kept.

    Args:
        objective: `cross_entropy` for labels in 0..1, which may be fractions; `regression` or `tweedie` for means.
        shift: (K,) added to log-odds: the correction of rebalanced training rows. How much of it is right the
            validation rows tell (`STRENGTHS`), for each outcome by itself; without them it is added whole.
        report: told, after each tree, the squared error on the validation rows, summed over the outcomes.
    """
    parameters = settings.model_dump(exclude={"n_estimators", "subsample", "patience"})
    if settings.subsample < 1:
        parameters |= {"bagging_fraction": settings.subsample, "bagging_freq": 1}
    parameters |= {
        "objective": objective,
        "metric": "None",
        "bin_construct_sample_cnt": 20_000,
        "force_row_wise": True,
        "deterministic": True,
        "num_threads": 1,
        "seed": seed % 2**31,
        "verbosity": -1,
    }
    count = train.labels.shape[1]
    shifts = np.zeros(count) if shift is None else shift
    with ThreadPoolExecutor(max(1, min(count, os.cpu_count() or 1))) as pool:
        growing = list(
            pool.map(
                lambda k: _Growing(train, validation, k, parameters, settings.patience, float(shifts[k])), range(count)
            )
        )
        for number in range(settings.n_estimators):
            active = [one for one in growing if one.active]
            if not active:
                break
            list(pool.map(_Growing.add_tree, active))
            if report is not None and len(validation):
                report(number, float(sum(one.squared_error for one in growing)))
        return list(pool.map(_Growing.result, growing))


class _Growing:
    """One booster, its loss on the validation rows and whether it still gets better."""

    def __init__(
        self,
        train: Outcomes,
        validation: Outcomes,
        number: int,
        parameters: dict[str, Any],
        patience: int,
        shift: float,
    ) -> None:
        import lightgbm

        labels, seen = (np.ascontiguousarray(rows.labels[:, number]) for rows in (train, validation))
        data = lightgbm.Dataset(train.table, label=labels, weight=train.weight, params=parameters)
        self._booster = lightgbm.Booster(parameters, data)
        self._objective = parameters["objective"]
        self._observed = seen.astype(np.float64)
        self._patience = patience
        self._shifts = [strength * shift for strength in STRENGTHS] if shift and len(validation) else [shift]
        self._best_shift = self._shifts[0]
        self._trees = self._best_trees = 0
        self._best_loss = np.inf
        self.squared_error = 0.0
        self.active = True
        if len(validation):
            self._booster.add_valid(data.create_valid(validation.table, label=seen, params=parameters), "")

    def add_tree(self) -> None:
        """Grow one tree, unless none helps any more, and score the validation rows."""
        self.active = not self._booster.update()
        self._trees += 1
        if not len(self._observed):
            self._best_trees = self._trees
            return
        names_and_scores = self._booster.eval_valid(self._scores)
        scores = np.array([score for _, _, score, _ in names_and_scores]).reshape(-1, 2)
        best = int(np.argmin(scores[:, 0]))
        if scores[best, 0] < self._best_loss:
            self._best_loss, self.squared_error = scores[best].tolist()
            self._best_trees, self._best_shift = self._trees, self._shifts[best]
        elif self._trees - self._best_trees >= self._patience:
            self.active = False

    def _scores(self, predicted: Floats, _: object) -> list[tuple[str, float, bool]]:
        """Loss and squared error on the validation rows with each shift."""
        found = []
        for shift in self._shifts:
            moved = shifted(predicted, shift)
            squared_error = loss = float(((moved - self._observed) ** 2).mean())
            if self._objective == "cross_entropy":
                inside = np.clip(moved, _SMALLEST, 1 - _SMALLEST)
                entropy = self._observed * np.log(inside) + (1 - self._observed) * np.log1p(-inside)
                loss = -float(entropy.mean())
            found += [("loss", loss, False), ("squared error", squared_error, False)]
        return found

    def result(self) -> Grown:
        """The booster up to its best tree."""
        text = self._booster.model_to_string(num_iteration=self._best_trees)
        return Grown(text.encode(), self._best_shift)


def shifted(chance: Floats, shift: float) -> Floats:
    """Probabilities with `shift` added to their log-odds."""
    if shift == 0:
        return chance
    odds = np.exp(shift)
    moved: Floats = chance * odds / (1 - chance + chance * odds)
    return moved


def read_trees(content: bytes) -> Estimator:
    """A booster from its text; ArtifactError where it is none."""
    return LightGBMBlock(lightgbm=LightGBMParameters()).read(content)


def predict_all(trees: Sequence[Estimator], table: NDArray[np.float32]) -> list[Floats]:
    """(N,) predictions of each booster for predictors (N, P), boosters side by side."""
    with ThreadPoolExecutor(max(1, min(len(trees), os.cpu_count() or 1))) as pool:
        return list(pool.map(lambda one: one.predict(table), trees))


def trees_in(content: bytes) -> int:
    """Trees of a booster in text form."""
    import lightgbm

    return int(lightgbm.Booster(model_str=content.decode()).num_trees())
