"""The files of a trained model and the record beside them: what every system's artifacts have in common.

What a record says beyond that, and what must match when it is loaded, each system's registry decides.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from views_dagster.errors import ArtifactError

RECORD_FILE: Final = "artifact.json"


class BaseRecord(BaseModel):
    """What `artifact.json` says about the files beside it. It holds no time of writing: equal training, equal bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    learner: dict[str, Any]
    seed: int
    inputs: dict[str, str] = Field(description="digest of each table that the training rows were made from")
    libraries: dict[str, str]
    files: dict[str, str] = Field(description="sha256 of each file")


Record = TypeVar("Record", bound=BaseRecord)


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """sha256 of each file, by its name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def library_versions(names: Iterable[str], version: Callable[[str], str]) -> dict[str, str]:
    """Versions of Python and of these packages, as `version` tells them."""
    # The patch release of Python changes no prediction and differs between machines.
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python, **{name: version(name) for name in names}}


def with_record(files: Mapping[str, bytes], record: BaseRecord) -> dict[str, bytes]:
    """The files and the record that describes them."""
    text = json.dumps(record.model_dump(mode="json"), sort_keys=True, indent=1)
    return {**files, RECORD_FILE: text.encode()}


def parse_record(files: Mapping[str, bytes], record_type: type[Record], format_: int) -> Record:
    """The artifact's own description; ArtifactError where it is missing, malformed or of another format."""
    if RECORD_FILE not in files:
        raise ArtifactError(f"the artifact has no {RECORD_FILE}, only {sorted(files)}; train the model again")
    try:
        record = record_type.model_validate_json(files[RECORD_FILE])
    except ValidationError as error:
        raise ArtifactError(f"{RECORD_FILE} cannot be read: {error}; train the model again") from error
    expect("format", record.format, format_)
    return record


def described_files(files: Mapping[str, bytes], record: BaseRecord) -> dict[str, bytes]:
    """The files without the record, if they are those that it lists; ArtifactError otherwise."""
    content = {name: data for name, data in files.items() if name != RECORD_FILE}
    if content.keys() != record.files.keys():
        raise ArtifactError(
            f"the artifact holds the files {sorted(content)}, its record lists {sorted(record.files)}; "
            "train the model again"
        )
    changed = sorted(name for name, digest in digests(content).items() if digest != record.files[name])
    if changed:
        raise ArtifactError(f"the artifact's {', '.join(changed)} changed since training; train the model again")
    return content


def expect(what: str, found: object, wanted: object) -> None:
    """ArtifactError where an artifact was trained with something else; of dictionaries it names the differences."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        equal = {key for key in found.keys() & wanted.keys() if found[key] == wanted[key]}
        found, wanted = ({key: side[key] for key in sorted(side.keys() - equal)} for side in (found, wanted))
    if found != wanted:
        raise ArtifactError(f"the artifact was trained with {what} {found}, wanted {wanted}; train the model again")
