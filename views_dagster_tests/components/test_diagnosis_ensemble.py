"""Ensembles of band fractions in Dagster: what they make of their members, what they refuse, and what does not load."""

import io
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from views_dagster.components.blocks import CatalogueError
from views_dagster.errors import ArtifactError, ForecastError
from views_dagster_tests.homes import Home, open_home, table_names, write_catalogue
from views_dagster_tests.skies import MONTH, SKY, TABLE, artifact, rewrite

POOLED, MEDIAN = "ensembles/pooled_storm", "ensembles/median_storm"
ENTRY = "precipitation/ensembles/pooled_storm"
MODELS = "group:trained_artifacts or key:forecasts/deep_column or key:forecasts/level_line or key:forecasts/mean_season"
KEYS = ("valid_time", "box_id")
Write = Callable[[Mapping[str, Mapping[str, Any]]], dg.Definitions]


@pytest.fixture(scope="module")
def trained(sky_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The models of 2022-07 and both ensembles."""
    home = sky_home.copy(tmp_path_factory.mktemp("trained"))
    home.run(f"{MODELS} or group:ensembles", MONTH, checks=False)
    return home


def fractions(home: Home, table: str) -> NDArray[np.float64]:
    return np.array(home.rows(table, MONTH).sort(KEYS)["fractions"].to_list(), dtype=np.float64)


def above(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share at or above each edge."""
    return 1 - shares.cumsum(axis=1)[:, :-1]


def validation(home: Home, model: str) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(artifact(home, model)["validation.parquet"])).sort(KEYS)


def test_members_validate_on_the_same_events_and_say_what_was_observed(trained: Home) -> None:
    one, other = (validation(trained, name) for name in ("level_line", "mean_season"))
    assert one.select(*KEYS, "observed").equals(other.select(*KEYS, "observed"))
    stored = trained.store.scan(TABLE, 0, 9999).select(*KEYS, "fractions").collect()
    joined = one.join(stored, on=KEYS, how="left", suffix="_seen").sort(KEYS)
    assert joined["observed"].to_list() == joined["fractions_seen"].to_list()
    assert one["valid_time"].to_list()[-1] < datetime(2022, 7, 1), "the month itself is unseen"


def test_a_trained_pool_has_the_weights_that_are_best_where_its_members_validated(trained: Home) -> None:
    """Against every weight in steps of a thousandth; a tenth of the weight is shared equally."""
    rows = {name: validation(trained, name) for name in ("level_line", "mean_season")}
    truth = above(np.array(rows["level_line"]["observed"].to_list(), dtype=np.float64))
    line, season = (above(np.array(each["fractions"].to_list(), dtype=np.float64)) for each in rows.values())
    tried = np.linspace(0, 1, 1001)
    best = min(tried, key=lambda weight: float(((weight * line + (1 - weight) * season - truth) ** 2).sum()))
    weight = 0.9 * best + 0.05
    shown = trained.metadata(POOLED, MONTH)["weights"]
    assert f"{weight:.2f}"[:4] in shown
    expected = weight * fractions(trained, "forecasts/level_line") + (1 - weight) * fractions(
        trained, "forecasts/mean_season"
    )
    np.testing.assert_allclose(fractions(trained, POOLED), expected, atol=1e-3)


def test_a_median_pool_has_the_median_above_each_edge(trained: Home) -> None:
    members = [above(fractions(trained, f"forecasts/{name}")) for name in ("deep_column", "level_line", "mean_season")]
    np.testing.assert_allclose(above(fractions(trained, MEDIAN)), np.median(members, axis=0), atol=2e-6)


def test_an_ensemble_has_the_columns_of_its_members(trained: Home) -> None:
    columns = trained.rows(TABLE, MONTH).select(KEYS).sort(KEYS)
    for table in (POOLED, MEDIAN):
        rows = trained.rows(table, MONTH).sort(KEYS)
        assert rows.select(KEYS).equals(columns)
        assert rows["model"].unique().to_list() == [table.split("/")[1]]


def test_it_reads_validation_only_where_it_needs_to(trained: Home) -> None:
    reads = {
        spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps}
        for spec in trained.defs.resolve_all_asset_specs()
    }
    members = {"forecasts/level_line", "forecasts/mean_season"}
    assert reads[POOLED] == {TABLE, *members, "artifacts/level_line", "artifacts/mean_season"}
    assert reads[MEDIAN] == {TABLE, *members, "forecasts/deep_column"}


def test_the_order_of_members_changes_nothing(trained: Home, tmp_path: Path) -> None:
    turned = {**SKY[ENTRY], "members": SKY[ENTRY]["members"][::-1]}
    home = trained.copy(tmp_path, project=write_catalogue(tmp_path, {**SKY, ENTRY: turned}))
    home.run(f"key:{POOLED}", MONTH)
    assert home.metadata(POOLED, MONTH)["digest"] == trained.metadata(POOLED, MONTH)["digest"]


def test_members_that_validated_on_other_columns_are_refused(trained: Home, tmp_path: Path) -> None:
    season = "precipitation/models/mean_season"
    entries = {**SKY, season: {**SKY[season], "split": {"seed": 7}}}
    home = trained.copy(tmp_path, project=write_catalogue(tmp_path, entries))
    home.run("key:artifacts/mean_season", MONTH)
    with pytest.raises(ForecastError, match="mean_season validated on other columns than level_line; give members the"):
        home.run(f"key:{POOLED}", MONTH)


def test_an_artifact_without_validation_rows_is_refused(trained: Home, tmp_path: Path) -> None:
    home = trained.copy(tmp_path)
    rows = home.rows("artifacts/level_line", MONTH).filter(pl.col("path") != "validation.parquet")
    rewrite(home, "artifacts/level_line", MONTH, rows)
    with pytest.raises(ArtifactError, match=r"artifact of level_line has no validation\.parquet; train it again"):
        home.run(f"key:{POOLED}", MONTH)


@pytest.mark.parametrize("value", [float("nan"), -1.0, 2.0], ids=str)
def test_bad_rows_written_by_hand_are_refused(trained: Home, tmp_path: Path, value: float) -> None:
    """The checks of the model do not run again: the ensemble itself must see it."""
    home = trained.copy(tmp_path)
    version = home.store.open(MEDIAN).version()
    spoilt = pl.col("fractions").list.eval(
        pl.when(pl.int_range(pl.len()) == 2).then(pl.lit(value, pl.Float32)).otherwise(pl.element())
    )
    rewrite(home, "forecasts/deep_column", MONTH, home.rows("forecasts/deep_column", MONTH).with_columns(spoilt))
    with pytest.raises(ForecastError, match="columns have fractions that are negative, not finite or do not sum to 1"):
        home.run(f"key:{MEDIAN}", MONTH)
    assert home.store.open(MEDIAN).version() == version


@pytest.mark.parametrize(
    "changed",
    [lambda rows: rows.head(100), lambda rows: rows.with_columns(pl.col("valid_time").dt.offset_by("1h"))],
    ids=["fewer", "an hour later"],
)
def test_a_member_of_other_columns_is_refused(
    trained: Home, tmp_path: Path, changed: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    home = trained.copy(tmp_path)
    rewrite(home, "forecasts/deep_column", MONTH, changed(home.rows("forecasts/deep_column", MONTH)))
    with pytest.raises(ForecastError, match=f"forecasts/deep_column of {MONTH} is of other boxes or times"):
        home.run(f"key:{MEDIAN}", MONTH)


# What does not load.


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def load(changes: Mapping[str, Mapping[str, Any]]) -> dg.Definitions:
        return open_home(tmp_path, write_catalogue(tmp_path, {**SKY, **changes})).defs

    return load


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": ["level_line", "mean_seson"]}, "members: there is no model mean_seson; did you mean mean_season?"),
        ({"members": ["level_line", "level_line"]}, "members: level_line is named twice"),
        ({"members": ["level_line"]}, "members: "),
        ({"method": {"kind": "trained_pol"}}, "method.kind: there is no kind trained_pol; did you mean trained_pool?"),
        (
            {"method": {"kind": "linear_pool", "weights": {"level_line": 1.0, "deep_column": 1.0}}},
            "method.weights: ",
        ),
    ],
    ids=["unknown member", "member twice", "one member", "unknown method", "weights of others"],
)
def test_a_mistake_names_its_file(write: Write, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogueError) as raised:
        write({ENTRY: {**SKY[ENTRY], **changes}})
    (said,) = (line for line in str(raised.value).splitlines() if message in line)
    assert "/ensembles/pooled_storm/defs.yaml:" in said


def test_a_retired_member_does_not_load(write: Write) -> None:
    line = "precipitation/models/level_line"
    with pytest.raises(CatalogueError, match=r"storm/defs.yaml:\d+: members: level_line is retired; take it out"):
        write({line: {**SKY[line], "maturity": "retired"}})


def test_members_of_other_column_sets_do_not_load(write: Write) -> None:
    columns, season = "precipitation/features/storm_columns", "precipitation/models/mean_season"
    changes = {
        "precipitation/features/low_columns": {**SKY[columns], "levels": {"unit": "hPa", "values": [925, 850]}},
        season: {**SKY[season], "features": "low_columns"},
    }
    message = (
        r"defs.yaml:\d+: members: they learn from different column sets: .*level_line from storm_columns, "
        "mean_season from low_columns"
    )
    with pytest.raises(CatalogueError, match=message):
        write(changes)


def test_only_one_leads(write: Write) -> None:
    leading = {**SKY[ENTRY], "leading": True}
    with pytest.raises(CatalogueError, match=r"defs.yaml:\d+: leading: .* says so too; leave it to one"):
        write({ENTRY: leading, "precipitation/ensembles/other_storm": leading})


def test_it_begins_with_the_last_of_its_members(write: Write) -> None:
    season = "precipitation/models/mean_season"
    defs = write({season: {**SKY[season], "least_months": 9}})
    begins = {spec.key.to_user_string(): spec.metadata.get("begins") for spec in defs.resolve_all_asset_specs()}
    assert (begins["forecasts/level_line"], begins["forecasts/mean_season"], begins[POOLED]) == (
        "2022-05",
        "2022-10",
        "2022-10",
    )


def test_a_retired_ensemble_has_no_asset(write: Write) -> None:
    assert POOLED not in table_names(write({ENTRY: {**SKY[ENTRY], "maturity": "retired"}}))
