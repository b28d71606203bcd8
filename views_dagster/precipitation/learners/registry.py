"""Every learner of this system that a model may name, and the files of a trained one, checked when loaded."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Annotated, Any, Final

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
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import DiagnosisLearner, FittedDiagnosis
from views_dagster.precipitation.learners.boosting import Boosted
from views_dagster.precipitation.learners.box_mean import BoxMean
from views_dagster.precipitation.learners.climatology import Climatology
from views_dagster.precipitation.learners.column_network import ColumnNetwork
from views_dagster.precipitation.learners.extended_logistic import ExtendedLogistic
from views_dagster.precipitation.learners.hurdle import Hurdle
from views_dagster.precipitation.learners.inputs import Inputs
from views_dagster.precipitation.learners.logistic import Logistic
from views_dagster.precipitation.learners.nwp import CalibratedNwp, Nwp

__all__ = [
    "RECORD_FILE",
    "AnyDiagnosisLearner",
    "DiagnosisRecord",
    "load_artifact",
    "read_record",
    "save_artifact",
]

AnyDiagnosisLearner = Annotated[
    Climatology | Nwp | CalibratedNwp | Logistic | ExtendedLogistic | Boosted | Hurdle | BoxMean | ColumnNetwork,
    Field(discriminator="kind"),
]

FORMAT: Final = 1
_ALWAYS: Final = ("numpy",)
_LIBRARIES: Final = {
    "logistic": ("scipy",),
    "extended_logistic": ("scipy",),
    "calibrated_nwp": ("scipy",),
    "boosted": ("lightgbm",),
    "box_mean": ("scipy",),
    "column_network": ("torch", "safetensors"),
}
"""Packages whose version can change what a stored model of a kind predicts."""


class DiagnosisRecord(BaseRecord):
    """What a trained model was trained on."""

    variables: Inputs = Field(description="variables, levels and bands of the columns")
    first_month: int
    last_month: int = Field(description="month of the artifact: the newest that its rows could be of")
    split: dict[str, Any] = Field(description="which rows trained, validated and tested")


def save_artifact(
    learner: DiagnosisLearner,
    fitted: FittedDiagnosis,
    *,
    columns: Columns,
    first_month: int,
    last_month: int,
    split: Mapping[str, Any],
    seed: int,
    inputs: Mapping[str, str],
) -> dict[str, bytes]:
    """Files of a trained model: those of `fitted.to_files()` and `artifact.json`, which describes them.

    Args:
        columns: rows of the feature set that it was trained on; only variables, levels and bands are looked at.
        first_month, last_month: month ids, the window of features that the split divided.
        split: the record of the split, as JSON values.
        seed: what `learner.fit` was given.
        inputs: digest (data version) of each upstream table, by its name.
    """
    files = fitted.to_files()
    record = DiagnosisRecord(
        format=FORMAT,
        learner=learner.model_dump(mode="json"),
        variables=Inputs.of(columns, members=learner.needs_members),
        first_month=first_month,
        last_month=last_month,
        split=dict(split),
        seed=seed,
        inputs=dict(inputs),
        libraries=_libraries(learner),
        files=digests(files),
    )
    return with_record(files, record)


def load_artifact(
    files: Mapping[str, bytes],
    *,
    learner: DiagnosisLearner,
    columns: Columns | None = None,
    last_month: int | None = None,
    inputs: Mapping[str, str] | None = None,
) -> FittedDiagnosis:
    """The trained model in `files`, if it is the one that `learner` makes.

    What is given besides must be that of training: variables, levels and bands of `columns`, the artifact's month, the
    digests of the tables at hand.

    Raises:
        ArtifactError: a file is missing, unknown or changed; or the artifact was trained with other settings,
            variables, months, inputs or library versions. The message names the first such mismatch.
    """
    record = read_record(files)
    content = described_files(files, record)
    expect("learner settings", record.learner, learner.model_dump(mode="json"))
    if columns is not None:
        wanted = Inputs.of(columns, members=learner.needs_members)
        expect("variables", record.variables.model_dump(), wanted.model_dump())
    if last_month is not None:
        expect("last month", to_key(record.last_month), to_key(last_month))
    if inputs is not None:
        expect("inputs", record.inputs, dict(inputs))
    expect("library versions", record.libraries, _libraries(learner))
    return learner.fitted_type().from_files(content)


def read_record(files: Mapping[str, bytes]) -> DiagnosisRecord:
    """The artifact's own description; ArtifactError where it is missing, malformed or of another format."""
    return parse_record(files, DiagnosisRecord, FORMAT)


def _libraries(learner: DiagnosisLearner) -> dict[str, str]:
    kinds = set(_kinds(learner.model_dump(mode="json")))
    used = {name for kind in kinds for name in _LIBRARIES.get(kind, ())}
    return library_versions(sorted(used.union(_ALWAYS)), version)


def _kinds(settings: object) -> Iterator[str]:
    """Every `kind` in nested settings."""
    if isinstance(settings, Mapping):
        if isinstance(settings.get("kind"), str):
            yield settings["kind"]
        for value in settings.values():
            yield from _kinds(value)
