"""The reconciliation asset: cells that sum to their countries, what it says of itself, and what does not load."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from views_dagster.calendar import from_key
from views_dagster.components.blocks import CatalogueError
from views_dagster.conflict.reconciliation import choose_draws
from views_dagster.forecasts import Forecast
from views_dagster.seeds import seed_for
from views_dagster_tests.homes import SB, SMALL, Home, open_home, write_catalogue

MONTH = "1990-12"
KIND = "views_dagster.components.Reconciliation"
CONFLICTOLOGY = {"kind": "conflictology", "window": 8}
CELLS = {"features": "cells", "target": "sb_best", "draws": 8, "learner": CONFLICTOLOGY}
BLUE_RIVER = {"type": KIND, "cells": "stony_field", "parents": "quiet_echo", "draws": 8, "maturity": "deployed"}
GRID: Mapping[str, Mapping[str, Any]] = {
    **SMALL,
    "sources/prio_grid": {"reader": {"kind": "demo_cells", "countries": [1, 18, 21, 67]}, "level": "pgm"},
    "features/cells": {
        "level": "pgm",
        "units": "prio_grid",
        "targets": {"sb_best": SB, "ns_best": {"from": "ucdp_ged.ns_best", "transforms": ["replace_na(0)"]}},
        "columns": {"ln_sb": {"from": "ucdp_ged.sb_best", "transforms": ["replace_na(0)", "ln"]}},
    },
    "models/stony_field": CELLS,
    "ensembles/blue_river": BLUE_RIVER,
}

Write = Callable[..., dg.Definitions]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The small catalogue with cells of four countries, one month of it made."""
    folder = tmp_path_factory.mktemp("grid")
    made = open_home(folder, write_catalogue(folder, GRID))
    made.history(MONTH, checks=False)
    made.history(MONTH, first=MONTH, checks=False)
    made.release(MONTH)
    return made


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Load the catalogue with some entries changed, or taken out."""

    def load(changes: Mapping[str, Mapping[str, Any] | None]) -> dg.Definitions:
        entries = {place: entry for place, entry in {**GRID, **changes}.items() if entry is not None}
        return open_home(tmp_path, write_catalogue(tmp_path, entries)).defs

    return load


@pytest.mark.slow
def test_cells_sum_to_the_countries_draw_by_draw(home: Home) -> None:
    reconciled, cells, countries = (
        Forecast.from_frame(home.rows(table, MONTH))
        for table in ("ensembles/blue_river", "forecasts/stony_field", "forecasts/quiet_echo")
    )
    assert reconciled.draws.shape == cells.draws.shape == (len(cells.units), 36, 8)
    # 12 draws of the countries, 8 of the cells.
    chosen = choose_draws(countries, 8, seed=seed_for("blue_river", "choose draws", from_key(MONTH)))
    holder = dict(home.rows("raw/prio_grid", MONTH).select("unit_id", "parent_id").iter_rows())
    placed = 0
    for row, country in enumerate(countries.units.tolist()):
        inside = [position for position, cell in enumerate(cells.units.tolist()) if holder[cell] == country]
        if inside:
            before = cells.draws[inside].sum(axis=0, dtype=np.float64)
            after = reconciled.draws[inside].sum(axis=0, dtype=np.float64)
            np.testing.assert_allclose(after, np.where(before > 0, chosen.draws[row], 0), rtol=1e-6)
            placed += int((after > 0).sum())
    assert placed
    assert ((cells.draws > 0) | (reconciled.draws == 0)).all()


@pytest.mark.slow
def test_the_materialisation_says_what_was_done(home: Home) -> None:
    metadata = home.metadata("ensembles/blue_river", MONTH)
    assert metadata["countries"] == 4
    countries = home.rows("forecasts/quiet_echo", MONTH)["unit_id"].n_unique()
    assert metadata["countries_without_cells"] == countries - 4
    placed = home.rows("ensembles/blue_river", MONTH)["mean"].cast(pl.Float64).sum()
    assert metadata["reconciled_sum_of_means"] == pytest.approx(placed, rel=1e-3)
    scaled_to = metadata["parents_sum_of_means"] * metadata["chosen_draws_to_all"]
    assert placed + metadata["unplaced"] == pytest.approx(scaled_to, rel=2e-3)
    assert metadata["unplaced_share"] == pytest.approx(metadata["unplaced"] / scaled_to, rel=2e-3)
    assert {"country", "largest_factor", "all_zero_draws", "unplaced"} <= set(metadata["largest_factors"].split())
    assert metadata["largest_factor"] > 1


@pytest.mark.slow
def test_it_is_checked_tagged_and_released_like_any_ensemble(home: Home) -> None:
    spec = next(spec for spec in home.defs.resolve_all_asset_specs() if spec.key.path == ["ensembles", "blue_river"])
    assert spec.group_name == "ensembles"
    assert {"level": "pgm", "target": "sb_best", "maturity": "deployed"}.items() <= spec.tags.items()
    assert {dep.asset_key.to_user_string() for dep in spec.deps} == {
        "features/cells",
        "features/little",
        "forecasts/quiet_echo",
        "forecasts/stony_field",
        "raw/prio_grid",
    }
    checks = {key.name for key in home.defs.resolve_asset_graph().asset_check_keys if key.asset_key == spec.key}
    assert {"validity_complete", "validity_bound"} <= checks
    released = home.rows("forecasts", MONTH)
    assert {"blue_river", "white_mustang"} <= set(released["model"])
    assert released.filter(pl.col("model") == "blue_river")["level"].unique().to_list() == ["pgm"]


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"cells": "stony_fild"}, ["cells: there is no model or ensemble stony_fild; did you mean stony_field?"]),
        ({"parents": "white_mustan"}, ["parents: there is no model or ensemble white_mustan; did you mean white_m"]),
        ({"parents": "blue_river"}, ["parents: blue_river is a reconciliation itself; name what it is made from"]),
        (
            {"cells": "still_water", "draws": 12},
            ["cells: still_water is at level cm, whose units (countries) lie in no"],
        ),
        (
            {"parents": "stony_field"},
            ["stony_field is at level pgm; the units of stony_field (prio_grid) lie in those of level cm"],
        ),
        ({"draws": 64}, ["draws: stony_field has 8 draws, which a reconciliation keeps; write draws: 8"]),
        ({"cells": None}, ["cells: this setting is missing. Name of the model or ensemble whose forecast is scaled."]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_does_not_load(write: Write, changes: dict[str, Any], messages: list[str]) -> None:
    entry = {key: value for key, value in {**BLUE_RIVER, **changes}.items() if value is not None}
    with pytest.raises(CatalogueError) as raised:
        write({"ensembles/blue_river": entry})
    for message in messages:
        assert message in str(raised.value)
    assert "ensembles/blue_river/defs.yaml:" in str(raised.value)


def test_units_of_no_source_are_named_by_the_queryset(write: Write) -> None:
    cells = {**GRID["features/cells"], "units": "prio_gird"}
    with pytest.raises(CatalogueError, match="units: no source is called prio_gird"):
        write({"features/cells": cells})


def test_two_targets_do_not_load(write: Write) -> None:
    with pytest.raises(CatalogueError, match="parents: quiet_echo forecasts sb_best, stony_field ns_best"):
        write({"models/stony_field": {**CELLS, "target": "ns_best"}})


def test_a_retired_part_does_not_load(write: Write) -> None:
    with pytest.raises(CatalogueError, match="cells: stony_field is retired; name another"):
        write({"models/stony_field": {**CELLS, "maturity": "retired"}})


def test_a_retired_reconciliation_has_no_asset(write: Write) -> None:
    defs = write({"ensembles/blue_river": {**BLUE_RIVER, "maturity": "retired"}})
    assert "ensembles/blue_river" not in {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}


def test_ensembles_may_be_reconciled_too(write: Write) -> None:
    entry = {**BLUE_RIVER, "cells": "red_fox", "parents": "white_mustang"}
    members = {"members": ["stony_field", "sandy_plain"], "method": {"kind": "mixture"}, "draws": 8}
    defs = write({"models/sandy_plain": CELLS, "ensembles/red_fox": members, "ensembles/blue_river": entry})
    spec = next(spec for spec in defs.resolve_all_asset_specs() if spec.key.path == ["ensembles", "blue_river"])
    assert {"ensembles/red_fox", "ensembles/white_mustang"} <= {dep.asset_key.to_user_string() for dep in spec.deps}
