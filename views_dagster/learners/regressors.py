"""Regressors and classifiers that the step-shifted learners fit: their settings, one shared matrix, their files.

An estimator appears here when it can be named in a model's YAML. Everything runs on one thread, so that equal seeds
give equal bytes on any machine; steps are what runs in parallel. How draws arise is not decided here.
"""

from abc import ABC, abstractmethod
from typing import Literal

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
    """Features (N, P), for estimators that are each fitted on some of its rows."""

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
        """The features (N, P) as its estimators take them."""

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

    n_estimators: int = Field(default=100, ge=1, le=100_000, description="number of trees")
    learning_rate: float = Field(default=0.05, gt=0, le=1, description="how much each tree contributes")
    num_leaves: int = Field(default=31, ge=2, le=131_072, description="most leaves of a tree")
    max_depth: int = Field(default=-1, ge=-1, description="most splits from root to leaf; -1 for no limit")
    min_child_samples: int = Field(default=50, ge=1, description="fewest rows in a leaf")
    min_child_weight: float = Field(default=1e-3, ge=0, description="smallest sum of second derivatives in a leaf")
    reg_alpha: float = Field(default=0.0, ge=0, description="L1 penalty on leaf values")
    reg_lambda: float = Field(default=0.0, ge=0, description="L2 penalty on leaf values")
    colsample_bytree: float = Field(default=1.0, gt=0, le=1, description="share of the columns that a tree may use")
    colsample_bynode: float = Field(
        default=1.0, gt=0, le=1, description="share of the tree's columns that a split may use"
    )
    subsample: float = Field(default=1.0, gt=0, le=1, description="share of the rows drawn anew for each tree")
    extra_trees: bool = Field(default=False, description="one random threshold a column and split")
    path_smooth: float = Field(
        default=0.0, ge=0, description="pulls the values of small leaves towards their parents'; more is smoother"
    )
    max_bin: int = Field(default=63, ge=2, le=255, description="bins of a feature; more is slower and rarely better")


class LightGBMRegressorParameters(LightGBMParameters):
    """A boosted regressor. Poisson and Tweedie learn the mean on a log link and need `transform: identity`."""

    objective: Literal["regression", "huber", "poisson", "tweedie"] = Field(default="regression", description="loss")
    tweedie_variance_power: float = Field(
        default=1.5, ge=1, lt=2, description="variance grows with the mean to this power; only for tweedie"
    )


class LightGBMBlock(Block):
    """What `{lightgbm: {...}}` means wherever it stands."""

    lightgbm: LightGBMParameters = Field(description="gradient-boosted trees of LightGBM")

    def matrix(self, features: NDArray[np.float32]) -> Matrix:
        return _LightGBMMatrix(features, self.lightgbm)

    def read(self, content: bytes) -> Estimator:
        return _Trees(content)

    @property
    def suffix(self) -> str:
        return "lightgbm.txt"


class LightGBMRegressor(LightGBMBlock):
    lightgbm: LightGBMRegressorParameters = Field(description="gradient-boosted trees of LightGBM")

    @property
    def positive_only(self) -> bool:
        return self.lightgbm.objective in ("poisson", "tweedie")


class LightGBMClassifier(LightGBMBlock):
    lightgbm: LightGBMParameters = Field(description="gradient-boosted trees of LightGBM")


class _LightGBMMatrix(Matrix):
    """The features, binned anew for each fit.

    Fitting on subsets of a dataset that is binned once would save a tenth of the time, but LightGBM 4.7 sizes the
    buffers of a subset by the zeros of the whole dataset and ends the process where the subset has fewer; and so it
    does with rows that are put into the bins of another dataset (`reference`).
    """

    def __init__(self, features: NDArray[np.float32], parameters: LightGBMParameters) -> None:
        self.features = features
        self._parameters = parameters

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

        parameters = self._parameters
        settings = parameters.model_dump(exclude={"n_estimators", "subsample"})
        if goal == "probability":
            settings["objective"] = "binary"
        elif isinstance(goal, float):
            settings |= {"objective": "quantile", "alpha": goal}
        if parameters.subsample < 1:
            settings |= {"bagging_fraction": parameters.subsample, "bagging_freq": 1}
        settings |= {
            "bin_construct_sample_cnt": 20_000,
            "force_row_wise": True,
            "deterministic": True,
            "num_threads": 1,
            "seed": seed % 2**31,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(self.features[rows], label=outcome, weight=weight, params=settings)
        booster = lightgbm.train(settings, data, num_boost_round=parameters.n_estimators)
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
