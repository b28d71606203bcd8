import hashlib
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from views_dagster.calendar import from_key
from views_dagster.conflict import demo_readers
from views_dagster.conflict.countries import COUNTRY_SCHEMA
from views_dagster.conflict.demo_covariates import COLUMNS, MISSING, country_years
from views_dagster.conflict.demo_geography import (
    ABSORPTION,
    DISSOLUTION,
    REGIONS,
    SECESSIONS,
    UNIFICATION,
    WORLD_FIRST,
    WORLD_LAST,
    demo_map,
)
from views_dagster.conflict.demo_readers import DemoCountries, DemoEvents, DemoYearTable
from views_dagster.conflict.demo_violence import simulate
from views_dagster.conflict.demo_world import demo_countries, demo_events
from views_dagster.conflict.ucdp_events import EVENT_MONTH_SCHEMA, EVENT_SCHEMA, clean
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.sources.tables import YearTable

OTHER_SEEDS = (2, 7)
LAST_REAL = from_key("2023-12")


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return demo_events(1)


def test_the_default_world_is_the_same_on_every_machine(events: pl.DataFrame) -> None:
    columns = events.select("id", "country_id", "priogrid_gid", "type_of_violence", "best", "low", "high")
    numbers = np.ascontiguousarray(columns.cast(pl.Int64).to_numpy()).astype("<i8")
    assert hashlib.sha256(numbers.tobytes()).hexdigest()[:16] == "e40104105b29dc21"


def test_history_does_not_change_when_later_months_are_asked_for() -> None:
    last = WORLD_FIRST + 40
    short, long = simulate(3, last), simulate(3, last + 30)
    known = long.month <= last
    for name in ("month", "kind", "cell", "faction", "best", "uniform"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[known])


def test_a_month_read_alone_is_the_month_read_in_a_range() -> None:
    reader = DemoEvents()
    first, month, last = from_key("2001-01"), from_key("2001-05"), from_key("2001-12")
    alone, within = reader.read(month, month).frame, reader.read(first, last).frame
    assert_frame_equal(alone, within.filter(pl.col("month_id") == month))


@pytest.mark.slow
@pytest.mark.parametrize("seed", OTHER_SEEDS)
def test_another_seed_is_another_valid_world(seed: int, events: pl.DataFrame) -> None:
    other = demo_events(seed)
    assert not other.head(100).equals(events.head(100))
    assert sum(clean(other)[1].values()) == 0
    assert set(other["month_id"].unique()) == set(range(WORLD_FIRST, WORLD_LAST + 1))


def test_events_are_well_formed_ucdp_events(events: pl.DataFrame) -> None:
    assert events.schema == pl.Schema(EVENT_SCHEMA)
    assert sum(events.null_count().row(0)) == 0
    repaired, repairs = clean(events)
    assert_frame_equal(repaired, events)
    assert sum(repairs.values()) == 0
    assert set(events["type_of_violence"].unique()) == {1, 2, 3}
    assert events["where_prec"].is_between(1, 6).all()
    crossing = (events["date_end"].dt.month_start() > events["date_start"].dt.month_start()).mean()
    assert isinstance(crossing, float)
    assert 0.01 < crossing < 0.04


def test_coordinates_lie_in_the_cell_and_the_cell_in_the_country(events: pl.DataFrame) -> None:
    row = np.floor((events["latitude"].to_numpy() + 90) * 2) + 1
    column = np.floor((events["longitude"].to_numpy() + 180) * 2) + 1
    gid = events["priogrid_gid"].to_numpy()
    np.testing.assert_array_equal((row - 1) * 720 + column, gid)

    world = demo_map(1)
    region = world.region[world.position[gid]]
    assert (world.position[gid] >= 0).all()
    np.testing.assert_array_equal(
        world.holder[events["month_id"].to_numpy() - WORLD_FIRST, region], events["country_id"].to_numpy()
    )


def test_each_region_is_one_connected_piece_of_land() -> None:
    world = demo_map(1)
    left = dict(zip(world.gid.tolist(), world.region.tolist(), strict=True))
    pieces: Counter[int] = Counter()
    while left:
        gid, region = left.popitem()
        pieces[region] += 1
        reached = [gid]
        while reached:
            here = reached.pop()
            start = here - (here - 1) % 720
            sides = (here + 720, here - 720, start + (here - start + 1) % 720, start + (here - start - 1) % 720)
            for near in sides:
                if left.get(near) == region:
                    del left[near]
                    reached.append(near)
    assert pieces == Counter(range(REGIONS))


def test_land_and_country_sizes_are_like_the_real_ones() -> None:
    world = demo_map(1)
    assert 25_000 < len(world.gid) < 40_000
    cells = np.bincount(world.region)
    # Real countries on PRIO-GRID: 1.87, and the largest fifth of them holds 83 % of the land.
    assert np.log(cells).std() > 1.2
    assert np.sort(cells)[-REGIONS // 5 :].sum() / cells.sum() > 0.5


def test_neighbours_are_countries_whose_cells_touch() -> None:
    world, month = demo_map(1), from_key("2012-01")
    grid = np.zeros(360 * 720, dtype=np.int64)
    grid[world.gid - 1] = world.holder[month - WORLD_FIRST][world.region]
    grid = grid.reshape(360, 720)
    touching: dict[int, set[int]] = {int(country): set() for country in np.unique(grid) if country}
    for one, other in ((grid[:-1], grid[1:]), (grid, np.roll(grid, -1, axis=1))):
        for a, b in set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)):
            if a and b and a != b:
                touching[a].add(b)
                touching[b].add(a)
    frame = demo_countries(1).filter(pl.col("month_id") == month)
    assert dict(zip(frame["unit_id"], (n.to_list() for n in frame["neighbours"]), strict=True)) == {
        country: sorted(near) for country, near in touching.items()
    }
    assert any(not near for near in touching.values())


def test_countries_appear_and_vanish_on_the_announced_dates() -> None:
    frame = DemoCountries().read(WORLD_FIRST, WORLD_LAST).frame
    assert frame.schema == pl.Schema(COUNTRY_SCHEMA)
    units = {month: set(group["unit_id"]) for (month,), group in frame.group_by("month_id")}
    changes = {
        month: (len(units[month] - units[month - 1]), len(units[month - 1] - units[month]))
        for month in range(WORLD_FIRST + 1, WORLD_LAST + 1)
        if units[month] != units[month - 1]
    }
    assert changes == {
        from_key(ABSORPTION): (0, 1),
        from_key(DISSOLUTION): (3, 1),
        from_key(UNIFICATION): (1, 2),
        **{from_key(month): (1, 0) for month in SECESSIONS},
    }
    assert min(map(len, units.values())) > 110
    names = frame.select("unit_id", "name", "iso3").unique()
    assert names["unit_id"].min() == 1
    assert names.height == names["unit_id"].n_unique() == names["name"].n_unique() == names["iso3"].n_unique()
    assert names["iso3"].str.contains("^X[A-Z]{2}$").all()


@pytest.mark.parametrize("dating", ["split_by_day", "start"])
def test_deaths_are_conserved_and_fall_in_countries_that_exist(dating: str, events: pl.DataFrame) -> None:
    reader = DemoEvents.model_validate({"dating": dating})
    rows = reader.read(WORLD_FIRST, WORLD_LAST).frame
    assert rows.schema == pl.Schema(EVENT_MONTH_SCHEMA)
    assert rows["best"].sum() == events["best"].sum()
    existing = demo_countries(1).select("month_id", country_id="unit_id")
    assert rows.join(existing, on=["month_id", "country_id"], how="anti").is_empty()


def test_a_world_stays_small(events: pl.DataFrame) -> None:
    until_2026 = events.filter(pl.col("month_id") <= from_key("2026-12"))
    assert until_2026.height < 300_000
    assert until_2026.group_by("month_id").len()["len"].median() < 1_000


def moments(deaths: pl.DataFrame) -> dict[str, float]:
    """Moments of country-month deaths (`unit_id`, `month_id`, `deaths`, one row for every existing country)."""
    rows = deaths.sort("unit_id", "month_id").with_columns(
        x=pl.col("deaths").log1p(), before=pl.col("deaths").log1p().shift(1).over("unit_id")
    )
    values = np.sort(rows["deaths"].to_numpy())[::-1]
    pairs = rows.drop_nulls("before").select("x", "before").to_numpy()
    quiet = pairs[:, 1] == 0
    active = rows.group_by("unit_id").agg((pl.col("deaths") > 0).mean())["deaths"].to_numpy()
    return {
        "zero": float((values == 0).mean()),
        "top_1_percent": float(values[: len(values) // 100].sum() / values.sum()),
        "autocorrelation": float(np.corrcoef(pairs.T)[0, 1]),
        "onset": float((pairs[quiet, 0] > 0).mean()),
        "persistence": float((pairs[~quiet, 0] > 0).mean()),
        "ever": float((active > 0).mean()),
        "often": float((active > 0.05).mean()),
        "log_median_if_any": float(np.log(np.median(values[values > 0]))),
    }


BANDS = {
    "zero": 0.03,
    "top_1_percent": 0.2,
    "autocorrelation": 0.15,
    "onset": 0.012,
    "persistence": 0.16,
    "ever": 0.15,
    "often": 0.12,
    "log_median_if_any": 0.8,
}


@pytest.mark.parametrize(
    ("violence", "real"), [("sb", "ged_sb_best"), ("ns", "ged_ns_best_1m"), ("os", "ged_os_best_1m")]
)
def test_moments_are_within_bands_of_ucdp(violence: str, real: str, shared_data: Path) -> None:
    observed = pl.read_parquet(shared_data / "conflict" / "ucdp_country_month.parquet").select(
        "month_id", unit_id="gwno", deaths=pl.col(real).cast(pl.Float64)
    )
    reader = DemoEvents(dating="start")
    panel = reader.panel(reader.read(WORLD_FIRST, LAST_REAL).frame.lazy(), "cm").collect()
    demo = (
        demo_countries(1)
        .filter(pl.col("month_id") <= LAST_REAL)
        .join(panel, on=["month_id", "unit_id"], how="left")
        .select("month_id", "unit_id", deaths=pl.col(f"{violence}_best").fill_null(0))
    )
    expected, found = moments(observed.drop_nulls()), moments(demo)
    outside = {name: (expected[name], found[name]) for name in BANDS if abs(expected[name] - found[name]) > BANDS[name]}
    assert outside == {}


def test_deaths_per_event_are_distributed_as_in_ucdp(events: pl.DataFrame, shared_data: Path) -> None:
    real = pl.read_parquet(shared_data / "conflict" / "ged_events.parquet")
    for kind in (1, 2, 3):
        expected, found = (
            frame.filter(pl.col("type_of_violence") == kind)["best"].to_numpy() for frame in (real, events)
        )
        assert abs((expected == 0).mean() - (found == 0).mean()) < 0.05
        for quantile in (0.5, 0.75, 0.9, 0.95, 0.99):
            ratio = (1 + np.quantile(found, quantile)) / (1 + np.quantile(expected, quantile))
            assert 0.5 < ratio < 2, (kind, quantile)


def test_risk_follows_development_and_spreads_to_neighbours(events: pl.DataFrame) -> None:
    world = demo_map(1)
    deaths = np.bincount(world.region[world.position[events["priogrid_gid"]]], events["best"], minlength=REGIONS)
    poor = world.development < np.median(world.development)
    assert np.log1p(deaths[poor]).mean() > np.log1p(deaths[~poor]).mean() + 1
    one, other = np.log1p(deaths)[world.borders].T
    assert np.corrcoef(one, other)[0, 1] > 0.2


def test_no_country_bears_a_real_name(shared_data: Path) -> None:
    real = pl.read_parquet(shared_data / "conflict" / "countries.parquet")
    assert not set(demo_map(1).names) & set(real["name"])
    assert not set(demo_map(1).codes) & set(real["iso3"].drop_nulls())


@pytest.mark.parametrize("table", ["world_bank", "vdem"])
def test_covariates_are_seen_when_they_are_published(table: str) -> None:
    reader = DemoYearTable.model_validate({"table": table, "publication_lag": 9})
    for month, year in (("2012-08", 2010), ("2012-09", 2011), ("2013-08", 2011)):
        frame = reader.read(from_key(month), from_key(month)).frame
        published = country_years(1, reader.table).filter(pl.col("year") == year).drop("year")
        both = frame.drop("month_id").join(published, on="unit_id", suffix="_published")
        assert both.height > 110
        for name in COLUMNS[reader.table]:
            assert both[name].equals(both[f"{name}_published"])


def test_a_new_country_has_no_covariates_until_its_first_year_is_published() -> None:
    reader = DemoYearTable(table="world_bank", publication_lag=9)
    frame = reader.read(from_key("2011-06"), from_key("2012-09")).frame
    new = set(frame.filter(month_id=from_key("2011-07"))["unit_id"]) - set(
        frame.filter(month_id=from_key("2011-06"))["unit_id"]
    )
    (country,) = new
    population = frame.filter(pl.col("unit_id") == country).sort("month_id")["sp_pop_totl"]
    assert population.is_not_null().to_list() == [False] * 14 + [True]


@pytest.mark.parametrize("lag", [0, 3, 9, 12, 25])
def test_publication_lag_means_what_it_means_for_files(lag: int) -> None:
    file = YearTable.model_validate(
        {"path": "x.csv", "level": "cm", "unit": "gwno", "columns": {"a": "a"}, "publication_lag": lag}
    )
    demo = DemoYearTable(table="vdem", publication_lag=lag)
    months = range(from_key("2010-01"), from_key("2012-12") + 1)
    assert [demo.newest_year(month) for month in months] == [file.newest_year(month) for month in months]


def test_covariates_have_the_announced_gaps_and_plausible_values(shared_data: Path) -> None:
    real = pl.read_parquet(shared_data / "conflict" / "country_year_covariates.parquet")
    real = real.filter(pl.col("year").is_between(1989, 2023))
    demo = country_years(1, "world_bank").filter(pl.col("year").is_between(1989, 2023))
    for name, share in MISSING["world_bank"].items():
        assert abs(demo[name].null_count() / demo.height - share) < 0.25 * share + 0.02, name
        expected, found = real[f"wdi_{name}"].drop_nulls().median(), demo[name].drop_nulls().median()
        assert isinstance(expected, float)
        assert isinstance(found, float)
        assert 0.4 < found / expected < 2.5, name


def test_vdem_indices_lie_between_0_and_1() -> None:
    indices = country_years(1, "vdem").select(COLUMNS["vdem"])
    assert indices.select(pl.all().drop_nulls().is_between(0, 1).all()).row(0) == (True,) * 6


def test_readers_say_what_they_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Today(date):
        @classmethod
        def today(cls) -> "Today":
            return cls(2024, 3, 1)

    monkeypatch.setattr(demo_readers, "date", Today)
    readers = (DemoEvents(), DemoCountries(), DemoYearTable(table="vdem"))
    for reader in readers:
        assert reader.latest_month() == from_key("2024-02")
        frame = reader.read(529, 531).frame
        assert frame.schema["month_id"] == pl.Int32
        assert set(frame["month_id"].unique()) == {529, 530, 531}
        assert not frame.select(reader.row_keys).is_duplicated().any()
        panel = reader.panel(frame.lazy(), "cm").collect()
        assert set(panel.columns) == {"month_id", "unit_id", *reader.columns("cm")}
        with pytest.raises(QuerysetError, match="village"):
            reader.columns("village")


@pytest.mark.parametrize(("first", "last"), [("1988-12", "1989-02"), ("2035-12", "2036-01")])
def test_months_outside_the_world_are_refused(first: str, last: str) -> None:
    for reader in (DemoEvents(), DemoCountries(), DemoYearTable(table="vdem")):
        with pytest.raises(SourceError, match=r"1989-01\.\.2035-12"):
            reader.read(from_key(first), from_key(last))
