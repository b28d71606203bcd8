"""A trained model as the rows of its table, one a file, whatever it learns from."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import polars as pl

from views_dagster.errors import ArtifactError

ARTIFACT_KEYS: Final = ("month_id", "path")
ARTIFACT_SCHEMA: Final = {"month_id": pl.Int32(), "path": pl.String(), "content": pl.Binary()}
MODEL_FOLDER: Final = "model/"


def artifact_rows(month: int, model: Mapping[str, bytes], beside: Mapping[str, bytes]) -> pl.DataFrame:
    """The rows of a month's artifact: the files of the model, and others that are stored with it."""
    content = {**{f"{MODEL_FOLDER}{path}": data for path, data in model.items()}, **beside}
    columns = {"month_id": [month] * len(content), "path": list(content), "content": list(content.values())}
    return pl.DataFrame(columns, schema=ARTIFACT_SCHEMA)


def model_files(artifact: pl.DataFrame) -> dict[str, bytes]:
    """Files of the trained model among the rows of its artifact."""
    rows = artifact.filter(pl.col("path").str.starts_with(MODEL_FOLDER))
    return {path.removeprefix(MODEL_FOLDER): content for path, content in rows.select("path", "content").iter_rows()}


def stored_beside(artifact: pl.DataFrame, path: str, model: str) -> bytes:
    """A file that is stored with the model called `model`.

    Raises:
        ArtifactError: there is none of that name.
    """
    found = artifact.filter(pl.col("path") == path)["content"]
    if found.is_empty():
        raise ArtifactError(f"the artifact of {model} has no {path}; train it again")
    return cast(bytes, found[0])


def stored_bytes(artifact: pl.DataFrame) -> int:
    """Size of all files together."""
    return int(artifact["content"].bin.size().sum())


def flat_settings(prefix: str, value: Any) -> dict[str, Any]:
    """Nested settings as `learner.classifier.n_estimators: 100`, which a tracker can compare between runs."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[str, Any]] = value.items()
        return {name: leaf for key, inner in items for name, leaf in flat_settings(f"{prefix}.{key}", inner).items()}
    return {prefix: value}
