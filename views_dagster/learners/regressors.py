"""Regressors and classifiers that the step-shifted learners fit: their settings, one shared matrix, their files.

An estimator appears here when it can be named in a model's YAML. Everything runs on one thread, so that equal seeds
give equal bytes on any machine; steps are what runs in parallel. How draws arise is not decided here.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.errors import ArtifactError

Goal = Literal["mean", "probability"] | float
"""What an estimator learns: the conditional mean, the probability of a 0/1 outcome, or the quantile of that level."""


class Estimator(ABC):
    """A fitted estimator of one goal."""

    @abstractmethod
    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,) predictions for features (N, P): the mean, the quantile, or the probability of 1."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The estimator in a format that cannot execute code when read; equal estimators give equal bytes."""


class Matrix(ABC):
    """Features (N, P) prepared once, for estimators that are each fitted on some of its rows."""

    features: NDArray[np.float32]

    @abstractmethod
    def fit(
        self,
        rows: NDArray[np.intp],
        outcome: NDArray[np.float64],
        weight: NDArray[np.float64],
        *,
        goal: Goal,
        seed: int,
    ) -> Estimator:
        """Fit on ascending `rows` with their `outcome` and `weight`, all (n,). Safe to call from several threads."""


class Block(BaseModel, ABC):
    """Settings of one estimator under the name of its library, as written in YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def matrix(self, features: NDArray[np.float32]) -> Matrix:
        """Prepare features (N, P)."""

    @abstractmethod
    def read(self, content: bytes) -> Estimator:
        """Undo `Estimator.to_bytes`; ArtifactError where the content is not this kind of estimator."""

    @property
    @abstractmethod
    def suffix(self) -> str:
        """Suffix of the files that hold its estimators."""

    @property
    def goals(self) -> frozenset[str]:
        """Which of mean, quantile and probability it can learn."""
        return frozenset({"mean", "quantile", "probability"})

    @property
    def positive_only(self) -> bool:
        """Whether it can only learn the mean of an outcome that is never negative."""
        return False


class LightGBMParameters(BaseModel):
    """Parameters of gradient-boosted trees, under the names of LightGBM's scikit-learn interface."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_estimators: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    num_leaves: int = Field(default=31, ge=2)
    max_depth: int = Field(default=-1, ge=-1)
    min_child_samples: int = Field(default=50, ge=1)
    min_child_weight: float = Field(default=1e-3, ge=0)
    reg_alpha: float = Field(default=0.0, ge=0)
    reg_lambda: float = Field(default=0.0, ge=0)
    colsample_bytree: float = Field(default=1.0, gt=0, le=1)
    colsample_bynode: float = Field(default=1.0, gt=0, le=1)
    subsample: float = Field(default=1.0, gt=0, le=1)
    extra_trees: bool = False
    path_smooth: float = Field(default=0.0, ge=0)
    max_bin: int = Field(default=63, ge=2, le=255, description="bins of a feature; more is slower and rarely better")


class LightGBMRegressorParameters(LightGBMParameters):
    """A boosted regressor. Poisson and Tweedie learn the mean on a log link and need `transform: identity`."""

    objective: Literal["regression", "huber", "poisson", "tweedie"] = "regression"
    tweedie_variance_power: float = Field(default=1.5, ge=1, lt=2)


class LightGBMBlock(Block):
    """What `{lightgbm: {...}}` means wherever it stands."""

    lightgbm: LightGBMParameters

    def matrix(self, features: NDArray[np.float32]) -> Matrix:
        return _LightGBMMatrix(features, self.lightgbm)

    def read(self, content: bytes) -> Estimator:
        return _Trees(content)

    @property
    def suffix(self) -> str:
        return "lightgbm.txt"


class LightGBMRegressor(LightGBMBlock):
    lightgbm: LightGBMRegressorParameters

    @property
    def positive_only(self) -> bool:
        return self.lightgbm.objective in ("poisson", "tweedie")


class LightGBMClassifier(LightGBMBlock):
    lightgbm: LightGBMParameters


class _LightGBMMatrix(Matrix):
    """Features binned once: a fit takes rows of the bins, so it costs no binning and no copy of the features."""

    def __init__(self, features: NDArray[np.float32], parameters: LightGBMParameters) -> None:
        import lightgbm

        self.features = features
        self._parameters = parameters
        self._dataset = lightgbm.Dataset(features, params=self._binning(), free_raw_data=True).construct()

    def _binning(self) -> dict[str, Any]:
        return {
            "max_bin": self._parameters.max_bin,
            # Rows are chosen after binning: a feature without a split over all rows may have one over some.
            "feature_pre_filter": False,
            # Sparse or bundled bins make LightGBM 4.7 crash on small subsets of a dataset; dense ones are as fast here.
            "is_enable_sparse": False,
            "enable_bundle": False,
            "force_row_wise": True,
            "deterministic": True,
            "num_threads": 1,
            "verbosity": -1,
        }

    def fit(
        self,
        rows: NDArray[np.intp],
        outcome: NDArray[np.float64],
        weight: NDArray[np.float64],
        *,
        goal: Goal,
        seed: int,
    ) -> Estimator:
        import lightgbm

        settings = self._parameters.model_dump(exclude={"n_estimators", "subsample", "max_bin"})
        if goal == "probability":
            settings["objective"] = "binary"
        elif isinstance(goal, float):
            settings |= {"objective": "quantile", "alpha": goal}
        if self._parameters.subsample < 1:
            settings |= {"bagging_fraction": self._parameters.subsample, "bagging_freq": 1}
        settings |= self._binning() | {"seed": seed % 2**31}
        part = self._dataset.subset(rows.tolist(), params=self._binning()).construct()
        part.set_label(outcome)
        part.set_weight(weight)
        booster = lightgbm.train(settings, part, num_boost_round=self._parameters.n_estimators)
        return _Trees(booster.model_to_string().encode())


class _Trees(Estimator):
    """A booster read from its text, also just after training, so that what was saved is what was tried."""

    def __init__(self, content: bytes) -> None:
        import lightgbm

        self._content = content
        try:
            self._booster = lightgbm.Booster(model_str=content.decode())
        except (UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
            raise ArtifactError(f"not a LightGBM model in text form: {error}; train the model again") from error

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(self._booster.predict(features, num_threads=1), dtype=np.float64)

    def to_bytes(self) -> bytes:
        return self._content
