from datetime import date

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from views_dagster.calendar import from_key
from views_dagster.errors import SourceError
from views_dagster.precipitation import demo_weather_readers
from views_dagster.precipitation.bands import EDGES, band_of
from views_dagster.precipitation.boxes import month_of_times
from views_dagster.precipitation.demo_weather_readers import DemoColumns, DemoMembers, DemoRain, demo_month

KEYS = ["month_id", "valid_time", "box_id"]
READERS = (DemoColumns, DemoRain, DemoMembers)
MONTH = from_key("2023-11")
SEASONS = [from_key(key) for key in ("2022-01", "2022-04", "2022-07", "2022-10")]


def table(months: list[int], seed: int = 1) -> pl.DataFrame:
    """Columns, rain and members of these months, rows whose rain is known."""
    parts = [
        made.columns.join(made.rain, on=KEYS).join(made.members, on=KEYS)
        for made in (demo_month(seed, month) for month in months)
    ]
    return pl.concat(parts).filter(pl.col("rain_mean").is_not_null())


def array(frame: pl.DataFrame, name: str) -> NDArray[np.float64]:
    return np.stack(frame[name].to_list()).astype(np.float64)


def test_rows_have_the_columns_of_their_tables() -> None:
    keys = {"month_id": pl.Int32, "valid_time": pl.Datetime("us"), "box_id": pl.Int64}
    floats = pl.List(pl.Float32)
    profiles = ("cloud_fraction", "relative_humidity", "temperature", "eastward_wind", "northward_wind")
    assert DemoColumns().read(MONTH, MONTH).frame.schema == pl.Schema(
        keys
        | {"latitude": pl.Float32, "longitude": pl.Float32, "levels": floats}
        | dict.fromkeys(profiles, floats)
        | dict.fromkeys(("surface_pressure", "temperature_2m", "orography"), pl.Float32)
    )
    assert DemoRain().read(MONTH, MONTH).frame.schema == pl.Schema(
        keys | {"fractions": floats} | dict.fromkeys(("rain_mean", "rain_max", "missing"), pl.Float32)
    )
    assert DemoMembers().read(MONTH, MONTH).frame.schema == pl.Schema(keys | {"members": floats})


def test_the_three_tables_have_the_same_rows_in_order() -> None:
    frames = [reader().read(MONTH, MONTH).frame for reader in READERS]
    for frame in frames:
        assert_frame_equal(frame.select(KEYS), frames[0].select(KEYS))
    keys = frames[0].select(KEYS)
    assert keys.equals(keys.sort("valid_time", "box_id"))
    assert not keys.is_duplicated().any()
    assert 2400 <= keys.height <= 4700
    assert keys.height == 100 * keys["valid_time"].n_unique()
    np.testing.assert_array_equal(month_of_times(keys["valid_time"].to_numpy()), keys["month_id"])
    assert set(keys["valid_time"].dt.hour().unique()) <= set(range(0, 24, 3))
    latitude, longitude = DemoColumns().grid.centres(keys["box_id"].to_numpy())
    np.testing.assert_allclose(frames[0]["latitude"], latitude, rtol=1e-6)
    np.testing.assert_allclose(frames[0]["longitude"], longitude, rtol=1e-6)


def test_levels_are_given_from_the_ground_up() -> None:
    frame = DemoColumns().read(MONTH, MONTH).frame
    assert frame["levels"].n_unique() == 1
    levels = frame["levels"][0].to_numpy()
    assert (levels[0], levels[-1], len(levels)) == (1000, 200, 16)
    assert (np.diff(levels) < 0).all()
    assert all((frame[name].list.len() == 16).all() for name in ("temperature", "relative_humidity", "cloud_fraction"))


@pytest.mark.parametrize("reader", READERS)
def test_a_month_read_alone_is_the_month_read_in_a_range(reader: type[DemoColumns]) -> None:
    within = reader().read(MONTH - 1, MONTH + 1).frame
    demo_month.cache_clear()
    alone = reader().read(MONTH, MONTH).frame
    assert_frame_equal(alone, within.filter(pl.col("month_id") == MONTH), check_exact=True)
    assert within["month_id"].unique().sort().to_list() == [MONTH - 1, MONTH, MONTH + 1]


@pytest.mark.parametrize("reader", READERS)
def test_another_seed_is_another_world(reader: type[DemoColumns]) -> None:
    one, other = reader().read(MONTH, MONTH), reader(seed=2).read(MONTH, MONTH)
    assert not one.frame.equals(other.frame)
    assert one.provenance == {"demo atmosphere": "synthetic, seed 1"}
    assert other.provenance == {"demo atmosphere": "synthetic, seed 2"}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("first", "last", "said"), [("2021-12", "2022-01", "2021-12"), ("2035-12", "2036-02", "2036-01")]
)
def test_months_outside_the_world_are_refused(reader: type[DemoColumns], first: str, last: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        reader().read(from_key(first), from_key(last))


def test_readers_say_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Today(date):
        @classmethod
        def today(cls) -> "Today":
            return cls(2024, 3, 1)

    monkeypatch.setattr(demo_weather_readers, "date", Today)
    for reader, kind in zip(READERS, ("demo_columns", "demo_rain", "demo_members"), strict=True):
        made = reader()
        assert made.kind == kind
        assert made.invented
        assert made.begins == from_key("2022-01")
        assert made.latest_month() == from_key("2024-02")
        assert list(made.row_keys) == KEYS
    assert [reader().lists_units for reader in READERS] == [True, False, False]
    assert DemoRain().edges == EDGES
    assert DemoColumns().level_unit == "hPa"
    others = {*KEYS, "latitude", "longitude", "levels"}
    assert DemoColumns().fields == {*DemoColumns().read(MONTH, MONTH).frame.columns} - others


def test_rain_is_null_exactly_where_too_many_pixels_are_missing() -> None:
    frame = DemoRain().read(MONTH, MONTH).frame
    unseen = frame["missing"] > 0.5
    for name in ("fractions", "rain_mean", "rain_max"):
        assert frame[name].is_null().equals(unseen.rename(name))
        assert frame[name].drop_nulls().len() > 0
    assert frame["missing"].is_between(0, 1).all()
    assert not frame["rain_mean"].is_nan().any()


def test_the_default_world_is_the_one_that_was_published() -> None:
    made = demo_month(1, MONTH)
    # Sums of many float32 numbers differ between machines in the last digits only.
    assert made.columns["temperature_2m"].mean() == pytest.approx(277.385431, rel=1e-5)
    assert made.columns["relative_humidity"].list.get(10).mean() == pytest.approx(54.735910, rel=1e-4)
    assert made.rain["rain_mean"].mean() == pytest.approx(0.275197, rel=1e-3)
    assert made.members["members"].list.mean().mean() == pytest.approx(0.293151, rel=1e-3)


@pytest.mark.slow
def test_bands_are_as_common_as_in_a_rainy_climate() -> None:
    rows = table(list(range(from_key("2022-01"), from_key("2024-01"))))
    fractions = array(rows, "fractions")
    dry = (fractions[:, 0] > 0.999).mean()
    assert 0.6 < dry < 0.75
    share = fractions.mean(axis=0)
    assert (np.diff(share) < 0).all()
    assert 0.05 < share[2] < 0.12
    assert 0.004 < share[3] < 0.02
    assert 0.001 < share[4] < 0.006


@pytest.mark.slow
def test_summer_rain_falls_in_cells_and_winter_rain_is_wide() -> None:
    def coverage(months: list[int]) -> float:
        fractions = array(table(months), "fractions")
        wet = fractions[:, 3:].sum(axis=1) > 0
        return float((1 - fractions[wet, 0]).mean())

    winter = [from_key(f"{year}-{month}") for year in (2022, 2023, 2024) for month in ("01", "02", "12")]
    summer = [from_key(f"{year}-{month}") for year in (2022, 2023, 2024) for month in ("06", "07", "08")]
    assert coverage(winter) > coverage(summer) + 0.05


@pytest.mark.slow
def test_members_drizzle_too_often_are_too_smooth_and_too_sure() -> None:
    rows = table(list(range(from_key("2022-01"), from_key("2023-01"))))
    members, mean = array(rows, "members"), rows["rain_mean"].to_numpy()
    forecast = np.bincount(band_of(members).ravel(), minlength=5) / members.size
    observed = np.bincount(band_of(mean), minlength=5) / mean.size
    assert forecast[1] > 1.2 * observed[1]
    assert (members > 0.01).mean() > 1.2 * (mean > 0.01).mean()
    assert forecast[4] < 0.5 * observed[4]
    assert np.quantile(members, 0.999) < 0.8 * np.quantile(mean, 0.999)
    assert 0.7 < members.mean() / mean.mean() < 1.5
    error = np.sqrt(((members.mean(axis=1) - mean) ** 2).mean())
    spread = np.sqrt(members.var(axis=1, ddof=1).mean())
    assert spread < 0.7 * error


@pytest.mark.slow
def test_columns_say_more_than_members_and_levels_more_than_their_mean() -> None:
    train = table(list(range(from_key("2022-01"), from_key("2023-01"))))
    test = table(list(range(from_key("2023-01"), from_key("2023-07"))))
    profiles = ("cloud_fraction", "relative_humidity", "temperature", "eastward_wind", "northward_wind")
    fields = ("surface_pressure", "temperature_2m", "orography")

    def levels(frame: pl.DataFrame) -> NDArray[np.float64]:
        return np.column_stack([*(array(frame, name) for name in profiles), frame.select(fields).to_numpy()])

    def means(frame: pl.DataFrame) -> NDArray[np.float64]:
        return np.column_stack(
            [*(array(frame, name).mean(axis=1) for name in profiles), frame.select(fields).to_numpy()]
        )

    def members(frame: pl.DataFrame) -> NDArray[np.float64]:
        said = np.sqrt(array(frame, "members"))
        return np.column_stack([said.mean(axis=1), said.std(axis=1), said.max(axis=1)])

    def explained(of: object) -> float:
        """Share of the variance of the square root of unseen rain that a linear regression explains."""
        known, asked = (np.column_stack([of(frame), np.ones(frame.height)]) for frame in (train, test))  # type: ignore[operator]
        fitted = np.linalg.lstsq(known, np.sqrt(train["rain_mean"].to_numpy()), rcond=None)[0]
        rain = np.sqrt(test["rain_mean"].to_numpy())
        return float(1 - ((rain - np.maximum(0, asked @ fitted)) ** 2).mean() / rain.var())

    by_levels, by_means, by_members = explained(levels), explained(means), explained(members)
    assert by_levels > by_means + 0.02
    assert by_levels > by_members > 0.3
    assert by_levels < 0.9


@pytest.mark.slow
def test_shares_of_members_have_skill_over_climatology() -> None:
    rows = table(SEASONS + [month + 12 for month in SEASONS])
    members, fractions = array(rows, "members"), array(rows, "fractions")
    shares = np.stack([(band_of(members) == band).mean(axis=1) for band in range(len(EDGES) + 1)], axis=1)

    def score(forecast: NDArray[np.float64]) -> float:
        return float(((forecast - fractions).cumsum(axis=1) ** 2).sum(axis=1).mean())

    assert score(shares) < score(np.broadcast_to(fractions.mean(axis=0), fractions.shape))
