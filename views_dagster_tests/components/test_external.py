"""Forecasts that arrive as files: they become a model's table, or an error that names what is wrong with the file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from views_dagster.calendar import STEPS, from_key
from views_dagster.components.blocks import CatalogueError
from views_dagster.conflict.interchange import to_pred_columns
from views_dagster.errors import ForecastError, SourceError
from views_dagster.forecasts import Forecast
from views_dagster.sources.files import digest
from views_dagster_tests.homes import SMALL, Home, open_home, write_catalogue

MONTH = "1992-12"
KIND = "views_dagster.components.ExternalForecast"


def entry(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "type": KIND,
        "path": str(folder / "{month}.parquet"),
        "features": "little",
        "target": "sb_best",
        "draws": 3,
        "maturity": "deployed",
        **changes,
    }


@pytest.fixture
def arrived(small_copy: Home, tmp_path: Path) -> Home:
    """The small catalogue with a forecast from elsewhere, which has arrived, and an ensemble that it is a member of."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    units = small_copy.rows("features/little", MONTH)["unit_id"].sort().to_numpy()
    draws = np.random.default_rng(0).gamma(0.5, 10, (len(units), len(STEPS), 3)).astype(np.float32)
    theirs = Forecast(origin=from_key(MONTH), units=units, steps=np.array(STEPS), draws=draws)
    to_pred_columns(theirs, level="cm", target="sb_best").write_parquet(folder / f"{MONTH}.parquet")
    white_mustang = {**SMALL["ensembles/white_mustang"], "members": ["quiet_echo", "far_shore"]}
    entries = {**SMALL, "models/far_shore": entry(folder), "ensembles/white_mustang": white_mustang}
    home = small_copy.copy(tmp_path / "other", project=write_catalogue(tmp_path / "other", entries))
    home.history(MONTH, first=MONTH, checks=False)
    return home


@pytest.mark.slow
def test_it_takes_part_in_ensembles_and_the_release(arrived: Home, tmp_path: Path) -> None:
    arrived.release(MONTH)
    file = tmp_path / "incoming" / f"{MONTH}.parquet"
    rows = arrived.rows("forecasts/far_shore", MONTH)
    there = pl.read_parquet(file).sort("country_id", "month_id")
    assert rows.sort("unit_id", "step")["draws"].to_list() == there["pred_sb_best"].to_list()
    assert rows.select("model", "level", "target").unique().rows() == [("far_shore", "cm", "sb_best")]
    metadata = arrived.metadata("forecasts/far_shore", MONTH)
    assert (metadata["file"], metadata["file_digest"]) == (str(file), digest(file))
    assert {"quiet_echo", "far_shore", "white_mustang"} <= set(arrived.rows("forecasts", MONTH)["model"])
    spec = next(spec for spec in arrived.defs.resolve_all_asset_specs() if spec.key.path == ["forecasts", "far_shore"])
    assert [dep.asset_key.to_user_string() for dep in spec.deps] == ["features/little"]


def test_a_file_that_has_not_arrived_is_named(arrived: Home, tmp_path: Path) -> None:
    (tmp_path / "incoming" / f"{MONTH}.parquet").unlink()
    with pytest.raises(SourceError, match=rf"no forecast from {MONTH} at .*/incoming/{MONTH}.parquet.*put it there"):
        arrived.run("forecasts/far_shore", MONTH)
    assert not arrived.store.exists("forecasts/far_shore")


def test_a_forecast_that_diverged_is_refused_like_a_model(arrived: Home, tmp_path: Path) -> None:
    file = tmp_path / "incoming" / f"{MONTH}.parquet"
    pl.read_parquet(file).with_columns(pred_sb_best=[1e12, 0.0, 0.0]).write_parquet(file)
    with pytest.raises(ForecastError, match="far_shore forecasts 1e\\+12"):
        arrived.run("forecasts/far_shore", MONTH)


Write = Callable[[Mapping[str, Mapping[str, Any]]], dg.Definitions]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def load(changes: Mapping[str, Mapping[str, Any]]) -> dg.Definitions:
        return open_home(tmp_path, write_catalogue(tmp_path, {**SMALL, **changes})).defs

    return load


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": "litle"}, "features: there is no queryset litle; did you mean little?"),
        ({"target": "sb_bst"}, "target: little has no target sb_bst; did you mean sb_best?"),
        ({"format": "csv"}, "format: should be 'pred_columns' or 'prediction_frame', not 'csv'"),
        ({"format": "prediction_frame", "path": "all"}, "does not say after which month it was made; write {month}"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_does_not_load(write: Write, tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(CatalogueError) as raised:
        write({"models/far_shore": entry(tmp_path, **changes)})
    assert message in str(raised.value)
    assert "models/far_shore/defs.yaml:" in str(raised.value)


def test_trained_weights_cannot_have_it_as_a_member(write: Write, tmp_path: Path) -> None:
    ensemble = {"members": ["quiet_echo", "far_shore"], "draws": 12, "method": {"kind": "trained_weights"}}
    message = r"white_mustang/defs.yaml:\d+: members: far_shore is made elsewhere and has no backtests"
    with pytest.raises(CatalogueError, match=message):
        write({"models/far_shore": entry(tmp_path), "ensembles/white_mustang": ensemble})
    write({"models/far_shore": entry(tmp_path), "ensembles/white_mustang": {**ensemble, "method": {"kind": "mixture"}}})


def test_a_retired_one_has_no_asset(write: Write, tmp_path: Path) -> None:
    defs = write({"models/far_shore": entry(tmp_path, maturity="retired")})
    assert "forecasts/far_shore" not in {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
