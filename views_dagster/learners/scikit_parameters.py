"""The scikit-learn estimators that a model may name, each with the parameters it may set.

An estimator joins the allow-list as a class of its own, so that a misspelt parameter fails when the YAML is read.
"""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from views_dagster.learners.regressors import Goal


class SklearnParameters(BaseModel):
    """Parameters of one estimator, under scikit-learn's names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    module: ClassVar[str]
    scaled: ClassVar[bool] = False
    goals: ClassVar[frozenset[str]] = frozenset({"mean"})

    def make(self, goal: Goal, seed: int) -> Any:
        """An unfitted estimator of `goal`, on one thread; features are standardised first where it needs that."""
        from importlib import import_module

        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        kind = getattr(import_module(self.module), self.model_dump()["estimator"])
        known = kind().get_params()
        fixed = {"random_state": seed % 2**31, "early_stopping": False}
        settings: dict[str, Any] = {name: value for name, value in fixed.items() if name in known}
        settings |= self.model_dump(exclude={"estimator"})
        if isinstance(goal, float):
            settings |= {"loss": "quantile", "quantile": goal}
        made = kind(**settings)
        return make_pipeline(StandardScaler(), made) if self.scaled else made

    @property
    def positive_only(self) -> bool:
        """Whether it fits the mean of a non-negative outcome on a log link."""
        return False


class _Boosting(SklearnParameters):
    module: ClassVar[str] = "sklearn.ensemble"

    learning_rate: float = Field(default=0.05, gt=0, description="how much each tree contributes")
    max_iter: int = Field(default=100, ge=1, le=100_000, description="number of trees")
    max_leaf_nodes: int = Field(default=31, ge=2, description="most leaves of a tree")
    max_depth: int | None = Field(default=None, ge=1, description="most splits from root to leaf; null for no limit")
    min_samples_leaf: int = Field(default=50, ge=1, description="fewest rows in a leaf")
    l2_regularization: float = Field(default=0.0, ge=0, description="L2 penalty on leaf values")
    max_features: float = Field(default=1.0, gt=0, le=1, description="share of the columns that a split may use")
    max_bins: int = Field(default=63, ge=2, le=255, description="bins of a feature; more is slower and rarely better")


class HistGradientBoostingRegressor(_Boosting):
    estimator: Literal["HistGradientBoostingRegressor"]
    goals: ClassVar[frozenset[str]] = frozenset({"mean", "quantile"})
    loss: Literal["squared_error", "poisson"] = Field(
        default="squared_error",
        description="loss; poisson learns the mean on a log link and needs `transform: identity`",
    )

    @property
    def positive_only(self) -> bool:
        return self.loss == "poisson"


class HistGradientBoostingClassifier(_Boosting):
    estimator: Literal["HistGradientBoostingClassifier"]
    goals: ClassVar[frozenset[str]] = frozenset({"probability"})


class _Forest(SklearnParameters):
    module: ClassVar[str] = "sklearn.ensemble"

    n_estimators: int = Field(default=100, ge=1, le=100_000, description="number of trees")
    max_depth: int | None = Field(default=None, ge=1, description="most splits from root to leaf; null for no limit")
    min_samples_leaf: int = Field(default=20, ge=1, description="fewest rows in a leaf")
    max_features: float | Literal["sqrt", "log2"] = Field(
        default=0.33, description="share of the columns that a split may use"
    )
    max_samples: float | None = Field(
        default=0.2, gt=0, le=1, description="share of the rows that a tree draws; null for as many as there are"
    )
    bootstrap: Literal[True] = True


class RandomForestRegressor(_Forest):
    estimator: Literal["RandomForestRegressor"]


class ExtraTreesRegressor(_Forest):
    estimator: Literal["ExtraTreesRegressor"]


class RandomForestClassifier(_Forest):
    estimator: Literal["RandomForestClassifier"]
    goals: ClassVar[frozenset[str]] = frozenset({"probability"})


class ExtraTreesClassifier(_Forest):
    estimator: Literal["ExtraTreesClassifier"]
    goals: ClassVar[frozenset[str]] = frozenset({"probability"})


class _Linear(SklearnParameters):
    module: ClassVar[str] = "sklearn.linear_model"
    scaled: ClassVar[bool] = True


class Ridge(_Linear):
    estimator: Literal["Ridge"]
    alpha: float = Field(default=1.0, ge=0, description="L2 penalty on standardised features")


class ElasticNet(_Linear):
    estimator: Literal["ElasticNet"]
    alpha: float = Field(default=0.01, ge=0, description="penalty on standardised features")
    l1_ratio: float = Field(default=0.5, ge=0, le=1, description="share of the penalty that is L1")
    max_iter: int = Field(default=1000, ge=1, le=100_000, description="most iterations of the solver")


class PoissonRegressor(_Linear):
    estimator: Literal["PoissonRegressor"]
    alpha: float = Field(default=1.0, ge=0, description="L2 penalty on standardised features")
    max_iter: int = Field(default=300, ge=1, le=100_000, description="most iterations of the solver")

    @property
    def positive_only(self) -> bool:
        return True


class TweedieRegressor(_Linear):
    estimator: Literal["TweedieRegressor"]
    power: float = Field(default=1.5, ge=1, lt=2, description="variance grows with the mean to this power")
    alpha: float = Field(default=1.0, ge=0, description="L2 penalty on standardised features")
    link: Literal["log"] = "log"
    max_iter: int = Field(default=300, ge=1, le=100_000, description="most iterations of the solver")

    @property
    def positive_only(self) -> bool:
        return True


class LogisticRegression(_Linear):
    estimator: Literal["LogisticRegression"]
    goals: ClassVar[frozenset[str]] = frozenset({"probability"})
    C: float = Field(default=1.0, gt=0, description="inverse of the L2 penalty on standardised features")
    max_iter: int = Field(default=300, ge=1, le=100_000, description="most iterations of the solver")
