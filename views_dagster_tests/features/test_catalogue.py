"""The shipped querysets: they load, name only what exists, and leave nothing unknown for a learner to refuse."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from views_dagster.features.compute import compute
from views_dagster.features.querysets import Queryset, check
from views_dagster.features.registry import TRANSFORMS
from views_dagster.geography import gid_of
from views_dagster.panel import Panel
from views_dagster_tests.features.worlds import CellUnits, Ready, cells_table, units_table

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "assets" / "conflict" / "features"
FILES, CELL_FILES = (sorted(FOLDER.glob(f"{level}_*/defs.yaml")) for level in ("cm", "pgm"))
COLUMNS = {
    "ucdp_ged": ("sb_best", "ns_best", "os_best"),
    "world_bank": (
        "sp_pop_totl",
        "sp_dyn_imrt_in",
        "ny_gdp_pcap_cd",
        "sp_urb_totl_in_zs",
        "nv_agr_totl_zs",
        "sp_dyn_tfrt_in",
    ),
    "vdem": ("v2x_polyarchy", "v2x_libdem", "v2x_civlib", "v2x_clphy", "v2xpe_exlsocgr", "v2x_partipdem"),
}
SOURCES = {"countries": Ready(names=())} | {source: Ready(names=names) for source, names in COLUMNS.items()}
FIRST, LAST = 121, 190


CELL_COLUMNS = ("land_share", "city_population", "capital_distance")
EVENT_COLUMNS = tuple(f"{kind}_{measure}" for kind in ("sb", "ns", "os") for measure in ("best", "located"))
CELL_SOURCES = SOURCES | {
    "prio_grid": CellUnits(names=CELL_COLUMNS),
    "ucdp_ged_events": Ready(names=EVENT_COLUMNS, level="pgm", events=True),
}


def queryset(file: Path) -> Queryset:
    document = yaml.safe_load(file.read_text())
    assert document["type"] == "views_dagster.components.Queryset"
    return Queryset.model_validate(document["attributes"])


@pytest.fixture(scope="module")
def world() -> dict[str, pl.LazyFrame]:
    """A unit that lives throughout, one that appears, one that vanishes and returns; a third of all values unknown."""
    lives = {2: range(FIRST, LAST + 1), 20: range(150, LAST + 1), 70: [*range(FIRST, 140), *range(160, LAST + 1)]}
    units = units_table(lives, {2: [20, 70], 20: [2], 70: [2]})
    generator = np.random.default_rng(7)

    def unknown_thirds(names: tuple[str, ...]) -> pl.LazyFrame:
        values = generator.exponential(100, (units.height, len(names)))
        values[generator.random(values.shape) < 1 / 3] = np.nan
        return units.select("month_id", "unit_id").hstack(pl.DataFrame(values, schema=list(names))).lazy()

    return {"countries": units.lazy()} | {source: unknown_thirds(names) for source, names in COLUMNS.items()}


def test_at_least_four_querysets() -> None:
    assert {"cm_baseline", "cm_conflict_history", "cm_structural", "cm_all"} <= {file.parent.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_a_shipped_queryset_leaves_no_unit_month_unknown(file: Path, world: dict[str, pl.LazyFrame]) -> None:
    shipped = queryset(file)
    assert shipped.description
    assert list(shipped.targets) == ["sb_best", "ns_best", "os_best"]
    check(shipped, SOURCES)
    frame, report = compute(shipped, SOURCES, world, FIRST, LAST)
    assert set(report.nulls.values()) == {0}
    for target in shipped.targets:
        Panel.from_frame(frame, target=target, features=list(shipped.columns))
        raw = world["ucdp_ged"].select("month_id", "unit_id", target).sort("month_id", "unit_id").collect()
        assert frame[target].equals(raw[target].fill_nan(0).cast(pl.Float32).rename(target))


@pytest.fixture(scope="module")
def cells(world: dict[str, pl.LazyFrame]) -> dict[str, pl.LazyFrame]:
    """A block of cells, one of which changes from a parent to another, with events in a tenth of the cell-months."""
    block = [int(gid_of(180 + row, 360 + column)) for row in range(4) for column in range(5)]
    units = cells_table(
        {cell: range(150, LAST + 1) for cell in block}, lambda cell, month: 2 if cell < block[9] or month > 170 else 20
    )
    generator = np.random.default_rng(8)
    static = pl.DataFrame(generator.exponential(10, (units.height, 3)), schema=list(CELL_COLUMNS))
    shape = (units.height, len(EVENT_COLUMNS))
    values = np.where(generator.random(shape) < 0.1, generator.integers(1, 600, shape), 0)
    events = units.select("month_id", "unit_id").hstack(pl.DataFrame(values, schema=list(EVENT_COLUMNS)))
    return world | {"prio_grid": units.hstack(static).lazy(), "ucdp_ged_events": events.lazy()}


def test_five_querysets_of_cells() -> None:
    assert {file.parent.name for file in CELL_FILES} >= {
        "pgm_baseline",
        "pgm_conflict_history",
        "pgm_natural_social",
        "pgm_spacetime_distance",
        "pgm_treelag",
    }


@pytest.mark.parametrize("file", CELL_FILES, ids=lambda file: file.parent.name)
def test_a_shipped_queryset_of_cells(file: Path, cells: dict[str, pl.LazyFrame]) -> None:
    shipped = queryset(file)
    assert shipped.description
    assert (shipped.level, list(shipped.targets)) == ("pgm", ["sb_best", "ns_best", "os_best"])
    check(shipped, CELL_SOURCES)
    frame, report = compute(shipped, CELL_SOURCES, cells, 150, LAST)
    assert set(report.nulls.values()) == {0}
    for target in shipped.targets:
        Panel.from_frame(frame, target=target, features=list(shipped.columns))
    # What a year of violence in and around a cell is: training rows are drawn where it is above 0.
    month = frame.filter(pl.col("month_id") == LAST).sort("unit_id")
    year = cells["ucdp_ged_events"].filter(pl.col("month_id") > LAST - 12).collect()
    origin = shipped.targets["sb_best"].column
    deaths = year.group_by("unit_id").agg(pl.col(origin).sum()).sort("unit_id")[origin].to_numpy().reshape(4, 5)
    padded = np.pad(deaths, 1)
    around = sum(padded[row : row + 4, column : column + 5] for row in range(3) for column in range(3))
    assert month["sb_near_12"].to_list() == around.ravel().tolist()


def test_the_table_of_the_documentation_lists_every_transform() -> None:
    text = (ROOT / "docs" / "features.md").read_text().partition("## Transforms")[2].partition("###")[0]
    assert set(re.findall(r"^\| `(\w+)", text, re.MULTILINE)) == set(TRANSFORMS)
