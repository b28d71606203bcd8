"""Every learner a model may name, and the files of a trained one: what was trained on what, checked when loaded."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Annotated, Final

from pydantic import Field

from views_dagster.calendar import to_key
from views_dagster.learners.artifacts import (
    RECORD_FILE,
    BaseRecord,
    described_files,
    digests,
    expect,
    library_versions,
    parse_record,
    with_record,
)
from views_dagster.learners.base import FittedModel, Learner
from views_dagster.learners.baselines import Average, Conflictology, Locf, Zero
from views_dagster.learners.climatology import NegativeBinomialClimatology
from views_dagster.learners.hurdle import Hurdle
from views_dagster.learners.step_shift import StepShift
from views_dagster.panel import Panel

__all__ = ["RECORD_FILE", "AnyLearner", "ArtifactRecord", "load_artifact", "read_record", "save_artifact"]

AnyLearner = Annotated[
    Zero | Locf | Average | Conflictology | NegativeBinomialClimatology | StepShift | Hurdle,
    Field(discriminator="kind"),
]

FORMAT: Final = 1
LIBRARIES: Final = ("numpy", "scipy", "scikit-learn", "lightgbm", "skops")
"""Packages whose version can change what a stored model predicts."""


class ArtifactRecord(BaseRecord):
    """What a trained model was trained on."""

    feature_names: tuple[str, ...]
    target: str
    first_month: int
    origin: int
    steps: tuple[int, ...]


def save_artifact(
    learner: Learner, fitted: FittedModel, *, panel: Panel, steps: Sequence[int], seed: int, inputs: Mapping[str, str]
) -> dict[str, bytes]:
    """Files of a trained model: those of `fitted.to_files()` and `artifact.json`, which describes them.

    Args:
        panel, steps, seed: what `learner.fit` was given.
        inputs: digest (data version) of each upstream table, by its name.
    """
    files = fitted.to_files()
    record = ArtifactRecord(
        format=FORMAT,
        learner=learner.model_dump(mode="json"),
        feature_names=panel.feature_names,
        target=panel.target_name,
        first_month=int(panel.months[0]),
        origin=panel.origin,
        steps=tuple(steps),
        seed=seed,
        inputs=dict(inputs),
        libraries=library_versions(LIBRARIES, version),
        files=digests(files),
    )
    return with_record(files, record)


def load_artifact(
    files: Mapping[str, bytes],
    *,
    learner: Learner,
    feature_names: Sequence[str],
    target: str,
    origin: int,
    inputs: Mapping[str, str] | None = None,
) -> FittedModel:
    """The trained model in `files`, if it is the one that `learner` makes for these features, this target and origin.

    With `inputs`, the digests of the tables at hand must be those it was trained on.

    Raises:
        ArtifactError: a file is missing, unknown or changed; or the artifact was trained with other settings, features,
            target, origin, inputs or library versions. The message names the first such mismatch.
    """
    record = read_record(files)
    content = described_files(files, record)
    expect("learner settings", record.learner, learner.model_dump(mode="json"))
    expect("features", list(record.feature_names), list(feature_names))
    expect("target", record.target, target)
    expect("last month", to_key(record.origin), to_key(origin))
    if inputs is not None:
        expect("inputs", record.inputs, dict(inputs))
    expect("library versions", record.libraries, library_versions(LIBRARIES, version))
    return learner.fitted_type().from_files(content)


def read_record(files: Mapping[str, bytes]) -> ArtifactRecord:
    """The artifact's own description; ArtifactError where it is missing, malformed or of another format."""
    return parse_record(files, ArtifactRecord, FORMAT)
