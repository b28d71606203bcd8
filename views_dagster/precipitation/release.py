"""What the month's release holds of this system: the fractions of every deployed model, in one table."""

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

TABLE: Final = "released_fractions"
KEYS: Final = ("model", "valid_time", "box_id")


def released_diagnoses(frames: Sequence[pl.DataFrame], artifact_of: Callable[[str], str | None]) -> pl.DataFrame:
    """Rows of all models, sorted by `KEYS`, each with the digest of the artifact that made it; null for ensembles."""
    together = pl.concat(frames)
    digests = {model: artifact_of(model) for model in together["model"].unique().to_list()}
    return together.with_columns(artifact=pl.col("model").replace_strict(digests, return_dtype=pl.String)).sort(KEYS)


def wettest_boxes(frame: pl.DataFrame, *, count: int) -> pl.DataFrame:
    """The boxes and times with most rain by one model's rows, wettest first."""
    return (
        frame.sort("rain_mean", "valid_time", "box_id", descending=[True, False, False])
        .head(count)
        .select("valid_time", "latitude", "longitude", "rain_mean", "fractions")
    )
