"""An evaluation: all frames agree with each other and with scores computed from rows."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from views_dagster.errors import ArtifactError, ForecastError, PanelError
from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis
from views_dagster.precipitation.verification import Evaluation, evaluate
from views_dagster_tests.precipitation.columns_worlds import SIDE, columns_world

SHAPE = (SIDE, SIDE)


def blended(columns: Columns, share: float) -> Diagnosis:
    """What was observed, mixed with the mean over all rows to `share`; the mean where nothing was observed."""
    mean = np.nanmean(columns.fractions, axis=0)
    fractions = np.where(columns.observed[:, None], (1 - share) * columns.fractions + share * mean, mean)
    rain = (1 - share) * np.nan_to_num(columns.rain_mean) + share * np.nanmean(columns.rain_mean)
    fractions /= fractions.sum(axis=1, keepdims=True)
    return Diagnosis(fractions.astype(np.float32), rain.astype(np.float32))


def world() -> tuple[Columns, NDArray[np.int64]]:
    columns = columns_world(SIDE * SIDE * 24 * 6, seed=1, levels=4, members=3, unobserved=0.1)
    return columns, columns.valid_time.astype("datetime64[D]").astype(np.int64)


COLUMNS, EVENTS = world()
SAID = {"good": blended(COLUMNS, 0.2), "poor": blended(COLUMNS, 0.6), "climatology": blended(COLUMNS, 1.0)}
EVALUATION = evaluate(SAID, COLUMNS, EVENTS, SHAPE, references=["climatology"], resamples=200)


def pooled(model: str, score: str, threshold: float | None = None, window: int | None = None) -> dict[str, float]:
    return EVALUATION.pooled.row(
        by_predicate=(pl.col("model") == model)
        & (pl.col("score") == score)
        & pl.col("threshold").eq_missing(threshold)
        & pl.col("neighbourhood").eq_missing(pl.lit(window, pl.Int64)),
        named=True,
    )


def test_scores_are_those_of_the_observed_rows() -> None:
    seen = COLUMNS.observed
    p, o = exceedance(SAID["good"].fractions[seen]), exceedance(COLUMNS.fractions[seen])
    for at, edge in enumerate(COLUMNS.edges):
        expected = 1 - ((p - o) ** 2).sum(axis=0)[at] / (p**2 + o**2).sum(axis=0)[at]
        assert pooled("good", "fss", edge)["value"] == pytest.approx(expected, abs=1e-12)
        assert pooled("good", "fss", edge, 1)["value"] == pytest.approx(expected, abs=1e-12)
        assert pooled("good", "frequency_bias", edge)["value"] == pytest.approx(p[:, at].sum() / o[:, at].sum())
    assert pooled("good", "rps")["value"] == pytest.approx(((p - o) ** 2).sum(axis=1).mean())
    assert pooled("good", "rps")["rows"] == seen.sum()
    assert pooled("good", "rps")["events"] == len(np.unique(EVENTS))


def test_climatology_has_no_r2_and_the_better_model_is_better_everywhere() -> None:
    assert pooled("climatology", "r2")["value"] == pytest.approx(0, abs=1e-3)
    skill = EVALUATION.skill.filter(pl.col("skill").is_not_null())
    assert set(skill["model"]) == {"good", "poor"}
    rows = {
        model: skill.filter(pl.col("model") == model, pl.col("score") != "brier_any").sort(
            "score", "threshold", "neighbourhood"
        )
        for model in ("good", "poor")
    }
    assert (rows["good"]["skill"] > rows["poor"]["skill"]).all()
    assert (rows["poor"]["skill"] > 0).all()
    assert (rows["good"]["share_better"] == 1).all()


def test_intervals_hold_the_value_and_pairs_are_narrower_than_scores() -> None:
    known = EVALUATION.pooled.filter(pl.col("low").is_not_null(), pl.col("score") != "r2")
    assert known.height > 50
    assert (
        known.select(pl.col("value").is_between(pl.col("low") - 1e-9, pl.col("high") + 1e-9)).to_series().mean() > 0.97
    )  # type: ignore[operator]
    rps = EVALUATION.skill.row(by_predicate=(pl.col("model") == "good") & (pl.col("score") == "rps"), named=True)
    own = pooled("climatology", "rps")
    assert rps["difference"] == pytest.approx(rps["value"] - rps["reference_value"])
    assert rps["skill"] == pytest.approx(1 - rps["value"] / rps["reference_value"])
    assert rps["skill_low"] <= rps["skill"] <= rps["skill_high"]
    assert rps["difference_high"] - rps["difference_low"] < own["high"] - own["low"] + 1e-12


def test_scores_of_one_event_are_those_of_its_rows_alone() -> None:
    day = int(EVENTS[0])
    rows = day == EVENTS
    alone = evaluate(
        {name: Diagnosis(each.fractions[rows], each.rain_mean[rows]) for name, each in SAID.items()},
        COLUMNS.take(rows),
        EVENTS[rows],
        SHAPE,
        resamples=10,
    ).pooled.sort("model", "score", "threshold", "neighbourhood")
    same = EVALUATION.by_event.filter(pl.col("event") == day).sort("model", "score", "threshold", "neighbourhood")
    np.testing.assert_allclose(alone["value"].to_numpy(), same["value"].to_numpy(), rtol=1e-6, atol=1e-9)
    assert alone["low"].null_count() == alone.height
    assert set(same["rows"]) == {int((rows & COLUMNS.observed).sum())}


def test_reliability_counts_every_box_once_and_recovers_the_means() -> None:
    table = EVALUATION.reliability.filter(pl.col("model") == "poor", pl.col("threshold") == 0.5)
    seen = COLUMNS.observed
    assert table["rows"].sum() == seen.sum()
    p, o = (exceedance(each[seen])[:, 1] for each in (SAID["poor"].fractions, COLUMNS.fractions))
    weighted = table.select((pl.col("predicted") * pl.col("rows")).sum() / pl.col("rows").sum()).item()
    assert weighted == pytest.approx(p.mean())
    middle = (p >= 0.1) & (p < 0.2)
    row = table.row(by_predicate=pl.col("bin_low") == 0.1, named=True)
    assert row["rows"] == middle.sum()
    assert row["observed"] == pytest.approx(o[middle].mean())
    assert table.filter(pl.col("rows") == 0)["predicted"].null_count() == table.filter(pl.col("rows") == 0).height


def test_band_mix_sums_to_one() -> None:
    mix = EVALUATION.band_mix.group_by("model").agg(pl.col("predicted", "observed").sum())
    np.testing.assert_allclose(mix.select("predicted", "observed").to_numpy(), 1, atol=1e-6)


def test_members_give_the_crps_of_an_ensemble() -> None:
    raw = {"raw": SAID["poor"]}
    point = evaluate(raw, COLUMNS, EVENTS, SHAPE, resamples=10, neighbourhoods=[]).metrics("raw")
    several = evaluate(
        raw, COLUMNS, EVENTS, SHAPE, resamples=10, neighbourhoods=[], members={"raw": COLUMNS.members}
    ).metrics("raw")
    assert point["crps"] == point["mae"]
    assert several["crps"] != several["mae"] == point["mae"]


def test_an_evaluation_survives_its_files_and_is_the_same_each_time() -> None:
    files = EVALUATION.to_files()
    again = Evaluation.from_files(files)
    assert again.pooled.equals(EVALUATION.pooled)
    assert again.by_event.equals(EVALUATION.by_event)
    assert evaluate(SAID, COLUMNS, EVENTS, SHAPE, references=["climatology"], resamples=200).to_files() == files
    with pytest.raises(ArtifactError, match="evaluate again"):
        Evaluation.from_files({"pooled.parquet": b""})


def test_metrics_are_named_for_a_tracker() -> None:
    names = EVALUATION.metrics("good")
    assert {"rps", "fss_0.01", "fss_0.5_window_3", "brier_any_10", "r2"} <= set(names)
    assert all(np.isfinite(value) for value in names.values())


def test_events_may_be_strings() -> None:
    named = np.array([f"storm {number}" for number in EVENTS])
    found = evaluate(SAID, COLUMNS, named, SHAPE, resamples=10, neighbourhoods=[])
    assert found.by_event["event"][0].startswith("storm ")


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(ForecastError, match="no diagnosis"):
        evaluate({}, COLUMNS, EVENTS, SHAPE)
    with pytest.raises(ForecastError, match="absent is a reference"):
        evaluate(SAID, COLUMNS, EVENTS, SHAPE, references=["absent"])
    with pytest.raises(ForecastError, match=r"good has fractions \(9216, 5\), and the columns are \(10, 5\)"):
        evaluate(SAID, COLUMNS.take(np.arange(10)), EVENTS, SHAPE)
    with pytest.raises(PanelError, match="event ids"):
        evaluate(SAID, COLUMNS, EVENTS[1:], SHAPE)
    unseen = replace(COLUMNS, fractions=np.full_like(COLUMNS.fractions, np.nan))
    with pytest.raises(PanelError, match="the rain of no row was observed"):
        evaluate(SAID, unseen, EVENTS, SHAPE)
    gap = np.where(np.arange(len(COLUMNS))[:, None] == 5, np.float32(np.nan), COLUMNS.members)
    with pytest.raises(PanelError, match="members of good"):
        evaluate(SAID, COLUMNS, EVENTS, SHAPE, members={"good": gap})
