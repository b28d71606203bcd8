"""scikit-learn estimators that a model may name, the parameters it may set, and their files.

An estimator joins the allow-list as a class of its own, so that a misspelt parameter fails when the YAML is read.
"""

import io
import json
import zipfile
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from views_dagster.errors import ArtifactError
from views_dagster.learners.regressors import Block, Estimator, Goal, LightGBMClassifier, LightGBMRegressor, Matrix

TRUSTED: Final = (
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)
"""Types beyond those that skops trusts by itself which a stored estimator may hold."""

_FIRST_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


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
    max_iter: int = Field(default=100, ge=1, description="number of trees")
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

    n_estimators: int = Field(default=100, ge=1, description="number of trees")
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
    max_iter: int = Field(default=1000, ge=1, description="most iterations of the solver")


class PoissonRegressor(_Linear):
    estimator: Literal["PoissonRegressor"]
    alpha: float = Field(default=1.0, ge=0, description="L2 penalty on standardised features")
    max_iter: int = Field(default=300, ge=1, description="most iterations of the solver")

    @property
    def positive_only(self) -> bool:
        return True


class TweedieRegressor(_Linear):
    estimator: Literal["TweedieRegressor"]
    power: float = Field(default=1.5, ge=1, lt=2, description="variance grows with the mean to this power")
    alpha: float = Field(default=1.0, ge=0, description="L2 penalty on standardised features")
    link: Literal["log"] = "log"
    max_iter: int = Field(default=300, ge=1, description="most iterations of the solver")

    @property
    def positive_only(self) -> bool:
        return True


class LogisticRegression(_Linear):
    estimator: Literal["LogisticRegression"]
    goals: ClassVar[frozenset[str]] = frozenset({"probability"})
    C: float = Field(default=1.0, gt=0, description="inverse of the L2 penalty on standardised features")
    max_iter: int = Field(default=300, ge=1, description="most iterations of the solver")


class SklearnBlock(Block):
    """What `{sklearn: {estimator: ..., ...}}` means wherever it stands."""

    sklearn: SklearnParameters = Field(description="an estimator of scikit-learn; `estimator` picks it")

    def matrix(self, features: NDArray[np.float32]) -> Matrix:
        return _SklearnMatrix(features, self.sklearn)

    def read(self, content: bytes) -> Estimator:
        return _Stored(content)

    @property
    def suffix(self) -> str:
        return "skops"

    @property
    def goals(self) -> frozenset[str]:
        return self.sklearn.goals

    @property
    def positive_only(self) -> bool:
        return self.sklearn.positive_only


class SklearnRegressor(SklearnBlock):
    sklearn: Annotated[
        HistGradientBoostingRegressor
        | RandomForestRegressor
        | ExtraTreesRegressor
        | Ridge
        | ElasticNet
        | PoissonRegressor
        | TweedieRegressor,
        Field(discriminator="estimator", description="an estimator of scikit-learn; `estimator` picks it"),
    ]


class SklearnClassifier(SklearnBlock):
    sklearn: Annotated[
        HistGradientBoostingClassifier | RandomForestClassifier | ExtraTreesClassifier | LogisticRegression,
        Field(discriminator="estimator", description="an estimator of scikit-learn; `estimator` picks it"),
    ]


def _library(block: object) -> str | None:
    """The tag of a union of blocks: the one key of its mapping."""
    names = (
        list(block) if isinstance(block, dict) else list(type(block).model_fields) if isinstance(block, Block) else []
    )
    return names[0] if len(names) == 1 else None


_ONE_KEY: Final = Discriminator(
    _library,
    custom_error_type="library",
    custom_error_message="write one of {lightgbm: {...}} and {sklearn: {estimator: ..., ...}}",
)
Regressor = Annotated[
    Annotated[LightGBMRegressor, Tag("lightgbm")] | Annotated[SklearnRegressor, Tag("sklearn")], _ONE_KEY
]
Classifier = Annotated[
    Annotated[LightGBMClassifier, Tag("lightgbm")] | Annotated[SklearnClassifier, Tag("sklearn")], _ONE_KEY
]


class _SklearnMatrix(Matrix):
    def __init__(self, features: NDArray[np.float32], parameters: SklearnParameters) -> None:
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
        import skops.io
        from threadpoolctl import threadpool_limits

        made = self._parameters.make(goal, seed)
        last = made.steps[-1][0] + "__" if self._parameters.scaled else ""
        # OpenMP counts threads for each calling thread, so the limit is set in the one that fits.
        with threadpool_limits(limits=1, user_api="openmp"):
            made.fit(self.features[rows], outcome, **{f"{last}sample_weight": weight})
        return _Stored(canonical(skops.io.dumps(made)))


class _Stored(Estimator):
    """An estimator read from its skops file, also just after training, so that what was saved is what was tried."""

    def __init__(self, content: bytes) -> None:
        import skops.io
        from skops.io.exceptions import UntrustedTypesFoundException

        self._content = content
        try:
            self._estimator = skops.io.loads(content, trusted=TRUSTED)
        except (zipfile.BadZipFile, KeyError, ValueError, UntrustedTypesFoundException) as error:
            raise ArtifactError(f"not a trusted scikit-learn model: {error}; train the model again") from error

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1, user_api="openmp"):
            if not hasattr(self._estimator, "predict_proba"):
                return np.asarray(self._estimator.predict(features), dtype=np.float64)
            chance = self._estimator.predict_proba(features)
        classes = list(self._estimator.classes_)
        return np.asarray(chance[:, classes.index(1)] if 1 in classes else np.zeros(len(features)), dtype=np.float64)

    def to_bytes(self) -> bytes:
        return self._content


def canonical(content: bytes) -> bytes:
    """The same skops file with ids counted from 1 and fixed dates, for skops writes memory addresses and times."""
    numbers: dict[int, int] = {}

    def renumber(node: Any) -> Any:
        if isinstance(node, list):
            return [renumber(item) for item in node]
        if not isinstance(node, dict):
            return node
        new: dict[str, Any] = {}
        for key, value in node.items():
            if key == "__id__":
                new[key] = numbers.setdefault(value, len(numbers) + 1)
            elif key == "file":
                stem, _, suffix = value.partition(".")
                new[key] = f"{numbers.setdefault(int(stem), len(numbers) + 1)}.{suffix}"
            else:
                new[key] = renumber(value)
        return new

    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        schema = renumber(json.loads(old.read("schema.json")))
        members = {"schema.json": json.dumps(schema).encode()}
        for name in old.namelist():
            stem, _, suffix = name.partition(".")
            if stem.isdigit():
                members[f"{numbers[int(stem)]}.{suffix}"] = old.read(name)
        for name in sorted(members):
            new.writestr(zipfile.ZipInfo(name, date_time=_FIRST_ZIP_DATE), members[name])
    return buffer.getvalue()
