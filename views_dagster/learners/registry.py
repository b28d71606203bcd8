"""Every learner a model may name, and the files of a trained one: what was trained on what, checked when loaded."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from views_dagster.calendar import to_key
from views_dagster.errors import ArtifactError
from views_dagster.learners.base import FittedModel, Learner
from views_dagster.learners.baselines import Average, Conflictology, Locf, Zero
from views_dagster.learners.climatology import NegativeBinomialClimatology
from views_dagster.learners.hurdle import Hurdle
from views_dagster.learners.step_shift import StepShift
from views_dagster.panel import Panel

AnyLearner = Annotated[
    Zero | Locf | Average | Conflictology | NegativeBinomialClimatology | StepShift | Hurdle,
    Field(discriminator="kind"),
]

RECORD_FILE: Final = "artifact.json"
FORMAT: Final = 1
LIBRARIES: Final = ("numpy", "scipy", "scikit-learn", "lightgbm", "skops")
"""Packages whose version can change what a stored model predicts."""


class ArtifactRecord(BaseModel):
    """What `artifact.json` says about the files beside it. It holds no time of writing: equal training, equal bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    learner: dict[str, Any]
    feature_names: tuple[str, ...]
    target: str
    first_month: int
    origin: int
    steps: tuple[int, ...]
    seed: int
    inputs: dict[str, str] = Field(description="digest of each table the panel was made from")
    libraries: dict[str, str]
    files: dict[str, str] = Field(description="sha256 of each file")


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
        libraries=_libraries(),
        files={name: _digest(content) for name, content in files.items()},
    )
    text = json.dumps(record.model_dump(mode="json"), sort_keys=True, indent=1)
    return {**files, RECORD_FILE: text.encode()}


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
    content = {name: data for name, data in files.items() if name != RECORD_FILE}
    if content.keys() != record.files.keys():
        raise ArtifactError(
            f"the artifact holds the files {sorted(content)}, its record lists {sorted(record.files)}; "
            "train the model again"
        )
    changed = [name for name, data in content.items() if _digest(data) != record.files[name]]
    if changed:
        raise ArtifactError(
            f"the artifact's {', '.join(sorted(changed))} changed since training; train the model again"
        )
    _expect("learner settings", record.learner, learner.model_dump(mode="json"))
    _expect("features", list(record.feature_names), list(feature_names))
    _expect("target", record.target, target)
    _expect("last month", to_key(record.origin), to_key(origin))
    if inputs is not None:
        _expect("inputs", record.inputs, dict(inputs))
    _expect("library versions", record.libraries, _libraries())
    return learner.fitted_type().from_files(content)


def read_record(files: Mapping[str, bytes]) -> ArtifactRecord:
    """The artifact's own description; ArtifactError where it is missing, malformed or of another format."""
    if RECORD_FILE not in files:
        raise ArtifactError(f"the artifact has no {RECORD_FILE}, only {sorted(files)}; train the model again")
    try:
        record = ArtifactRecord.model_validate_json(files[RECORD_FILE])
    except ValidationError as error:
        raise ArtifactError(f"{RECORD_FILE} cannot be read: {error}; train the model again") from error
    _expect("format", record.format, FORMAT)
    return record


def _expect(what: str, found: object, wanted: object) -> None:
    if isinstance(found, dict) and isinstance(wanted, dict):
        equal = {key for key in found.keys() & wanted.keys() if found[key] == wanted[key]}
        found, wanted = ({key: side[key] for key in sorted(side.keys() - equal)} for side in (found, wanted))
    if found != wanted:
        raise ArtifactError(f"the artifact was trained with {what} {found}, wanted {wanted}; train the model again")


def _libraries() -> dict[str, str]:
    # The patch release of Python changes no prediction and differs between machines.
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python, **{name: version(name) for name in LIBRARIES}}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
