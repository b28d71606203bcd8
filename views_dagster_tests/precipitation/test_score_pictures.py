"""Every picture of an evaluation is a small PNG that depends on what it shows and on nothing else."""

import io
from collections.abc import Callable

import polars as pl
import pytest
from PIL import Image

from views_dagster.precipitation import score_pictures
from views_dagster.precipitation.verification import Evaluation, evaluate
from views_dagster_tests.precipitation.columns_worlds import SIDE, columns_world
from views_dagster_tests.precipitation.test_verification import blended

COLUMNS = columns_world(SIDE * SIDE * 24 * 4, seed=1, levels=2)
DAYS = COLUMNS.valid_time.astype("datetime64[D]").astype(int)
EVALUATION = evaluate(
    {"network": blended(COLUMNS, 0.3), "nwp": blended(COLUMNS, 0.7)},
    COLUMNS,
    DAYS,
    (SIDE, SIDE),
    references=["nwp"],
    resamples=50,
)
PICTURES: dict[str, Callable[[Evaluation], bytes]] = {
    "reliability": lambda e: score_pictures.reliability_diagram(e.reliability, title="t"),
    "scale": lambda e: score_pictures.fss_by_scale(e.pooled, title="t"),
    "threshold": lambda e: score_pictures.fss_by_threshold(e.pooled, title="t"),
    "skill": lambda e: score_pictures.skill_chart(e.skill, reference="nwp", title="t"),
    "events": lambda e: score_pictures.event_strip(e.by_event, score="fss", threshold=0.5, title="t"),
}


def dry(columns: Evaluation) -> Evaluation:
    """Scores of thresholds as they are where nothing occurs: undefined."""
    gone = pl.when(pl.col("threshold") >= 0.5).then(None).otherwise(pl.col("value")).alias("value")
    return Evaluation(
        columns.pooled.with_columns(gone, low=None, high=None).cast({"low": pl.Float64, "high": pl.Float64}),
        columns.by_event.with_columns(gone),
        columns.skill,
        columns.reliability,
        columns.band_mix,
    )


def size(png: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(png))
    image.verify()
    return image.size


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_small_pngs_and_the_same_each_time(name: str) -> None:
    png = PICTURES[name](EVALUATION)
    assert min(size(png)) > 150
    assert len(png) < 60_000
    assert PICTURES[name](EVALUATION) == png


@pytest.mark.parametrize("name", ["scale", "threshold", "events"])
def test_undefined_scores_and_intervals_are_left_out(name: str) -> None:
    assert PICTURES[name](dry(EVALUATION)) != PICTURES[name](EVALUATION)


def test_models_can_be_chosen() -> None:
    one = score_pictures.fss_by_threshold(EVALUATION.pooled, title="t", models=["nwp"])
    assert one != score_pictures.fss_by_threshold(EVALUATION.pooled, title="t", models=["network"])
