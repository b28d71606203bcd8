"""The release table and its manifest."""

import json

import numpy as np
import polars as pl
import pytest

from views_dagster.conflict.release import RELEASE_SCHEMA, manifest, release_rows, release_table
from views_dagster.errors import ForecastError
from views_dagster.forecasts import Forecast


def forecast(origin: int = 529) -> Forecast:
    """Two units, two steps, 20 draws: unit 57 has 0..19 and 0..1900, unit 99 has nothing."""
    draws = np.zeros((2, 2, 20), dtype=np.float32)
    draws[0, 0] = np.arange(20)
    draws[0, 1] = 100 * np.arange(20)
    return Forecast(origin=origin, units=np.array([57, 99]), steps=np.array([1, 2]), draws=draws)


def rows(model: str = "a_model", origin: int = 529) -> pl.DataFrame:
    return release_rows(forecast(origin), model=model, level="cm", target="sb_best")


def test_rows_by_hand() -> None:
    table = rows()
    assert table.schema == pl.Schema(RELEASE_SCHEMA)
    first, second, third, _ = table.to_dicts()
    assert {name: first[name] for name in ("month_id", "model", "level", "unit_id", "step", "target")} == {
        "month_id": 529,
        "model": "a_model",
        "level": "cm",
        "unit_id": 57,
        "step": 1,
        "target": "sb_best",
    }
    assert (first["target_month"], second["target_month"]) == (530, 531)
    assert (first["mean"], first["median"], first["q50"]) == (9.5, 9.5, 9.5)
    assert [first[name] for name in ("q05", "q10", "q25", "q75", "q90", "q95")] == pytest.approx(
        [0.95, 1.9, 4.75, 14.25, 17.1, 18.05]
    )
    # 18 of 20 neighbouring values; all such windows are equally wide and the lowest is taken.
    assert (first["hdi90_low"], first["hdi90_high"]) == (0, 17)
    names = [f"p_at_least_{threshold}" for threshold in (1, 25, 100, 1000)]
    assert [first[name] for name in names] == pytest.approx([0.95, 0, 0, 0])
    assert [second[name] for name in names] == pytest.approx([0.95, 0.95, 0.95, 0.5])
    assert all(third[name] == 0 for name in ("mean", "median", "q95", "hdi90_high", *names))


def test_the_mean_is_the_one_that_is_stored_with_the_draws() -> None:
    rng = np.random.default_rng(0)
    random = Forecast(
        origin=529,
        units=np.arange(5),
        steps=np.arange(1, 4),
        draws=rng.gamma(0.2, 900, size=(5, 3, 77)).astype(np.float32),
    )
    stored = random.to_frame(model="a_model", level="cm", target="sb_best")
    assert release_rows(random, model="a_model", level="cm", target="sb_best")["mean"].equals(stored["mean"])


def test_the_table_holds_every_model_in_one_order() -> None:
    table = release_table([rows("b_model"), rows("a_model")])
    assert table.height == 8
    assert table["model"].to_list() == ["a_model"] * 4 + ["b_model"] * 4
    assert table.equals(release_table([rows("a_model"), rows("b_model")]))


def test_a_release_of_two_months_twice_the_same_model_or_nothing_is_refused() -> None:
    with pytest.raises(ForecastError, match="2024-01, 2024-02"):
        release_table([rows("a_model"), rows("b_model", origin=530)])
    with pytest.raises(ForecastError, match="several forecasts of a_model"):
        release_table([rows("a_model"), rows("b_model"), rows("a_model")])
    with pytest.raises(ForecastError, match="no forecasts"):
        release_table([])


def test_manifest_is_json_in_one_order() -> None:
    def made(tables: list[str]) -> str:
        made_from = {table: {"digest": "d1", "table_version": 3} for table in tables}
        return json.dumps(manifest(month_id=529, release={"table_version": 3}, made_from=made_from))

    assert made(["forecasts/a", "raw/b"]) == made(["raw/b", "forecasts/a"])
    content = json.loads(made(["forecasts/a"]))
    assert (content["month"], content["month_id"]) == ("2024-01", 529)
    assert content["made_from"] == {"forecasts/a": {"digest": "d1", "table_version": 3}}
    assert content["libraries"]["polars"] == pl.__version__


def test_a_manifest_that_says_nothing_or_cannot_be_written_is_refused() -> None:
    with pytest.raises(ForecastError, match="names nothing that it was made from"):
        manifest(month_id=529, release={}, made_from={})
    with pytest.raises(ForecastError, match="2024-01 cannot be written as JSON"):
        manifest(month_id=529, release={}, made_from={"forecasts/a": {"weight": float("nan")}})
