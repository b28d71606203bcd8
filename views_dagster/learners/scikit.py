"""scikit-learn estimators as blocks of a learner: fitted, and stored without pickle."""

import io
import json
import zipfile
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag

from views_dagster.errors import ArtifactError
from views_dagster.learners.regressors import Block, Estimator, Goal, LightGBMClassifier, LightGBMRegressor, Matrix
from views_dagster.learners.scikit_parameters import (
    ElasticNet,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    LogisticRegression,
    PoissonRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    Ridge,
    SklearnParameters,
    TweedieRegressor,
)

TRUSTED: Final = (
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)
"""Types beyond those that skops trusts by itself which a stored estimator may hold."""

_FIRST_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


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
