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
from views_dagster.panel import Panel
from views_dagster_tests.features.worlds import Ready, units_table

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "assets" / "conflict" / "features").glob("*/defs.yaml"))
COLUMNS = {
    "ucdp_ged": ("sb_best", "ns_best", "os_best"),
    "world_bank": ("sp_pop_totl", "sp_dyn_imrt_in", "ny_gdp_pcap_cd", "sp_urb_totl_in_zs"),
    "vdem": ("v2x_polyarchy", "v2x_libdem", "v2x_civlib", "v2x_clphy", "v2xpe_exlsocgr", "v2x_partipdem"),
}
SOURCES = {"countries": Ready(names=())} | {source: Ready(names=names) for source, names in COLUMNS.items()}
FIRST, LAST = 121, 190


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


def test_the_table_of_the_documentation_lists_every_transform() -> None:
    text = (ROOT / "docs" / "features.md").read_text().partition("## Transforms")[2].partition("###")[0]
    assert set(re.findall(r"^\| `(\w+)", text, re.MULTILINE)) == set(TRANSFORMS)
