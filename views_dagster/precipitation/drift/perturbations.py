"""Months as they should be, and the faults that are put into them: one for each check of the three suites."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.precipitation import bands
from views_dagster.precipitation.boxes import times_of_months
from views_dagster.precipitation.columns import Columns
from views_dagster.seeds import seed_for

MONTH: Final = 487
BOXES: Final = 64
LEVELS: Final = (100.0, 1000.0, 3000.0, 6000.0)
HISTORY: Final = 12

Suite = Literal["columns", "diagnosis", "performance"]


@dataclass(frozen=True)
class Perturbation:
    """A fault: which check must see it, what it is, and how to put it into good data."""

    suite: Suite
    check: str
    fault: str
    columns: Callable[[Columns], Columns] = lambda columns: columns
    frame: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame


@cache
def good_columns(month: int) -> Columns:
    """Six-hourly columns of one month over `BOXES` boxes: temperature, eastward wind, orography, and rain."""
    rng = np.random.default_rng(seed_for("column drift self-test", month))
    times = times_of_months(month, month, 6)
    count = len(times) * BOXES
    box = np.tile(np.arange(BOXES), len(times))
    height = np.array(LEVELS)
    temperature = 288 - 0.0065 * height + rng.normal(0, 6, (count, 1)) + rng.normal(0, 1, (count, len(LEVELS)))
    wind = 5 + 0.002 * height + rng.normal(0, 8, (count, len(LEVELS)))
    wet = rng.random(count) < 0.3
    # Enough pixels that hardly two boxes are alike.
    rates = rng.lognormal(0, 1.2, (count, 49)) * (rng.random((count, 49)) < 0.6) * wet[:, None]
    of_pixel = bands.band_of(rates)
    fractions = np.stack([(of_pixel == band).mean(axis=1) for band in range(len(bands.EDGES) + 1)], axis=1)
    return Columns(
        month_id=np.full(count, month, dtype=np.int32),
        valid_time=np.repeat(times.astype("datetime64[s]"), BOXES),
        box_id=box.astype(np.int64),
        latitude=(45 + 0.2 * (box // 8)).astype(np.float32),
        longitude=(2 + 0.2 * (box % 8)).astype(np.float32),
        profiles=np.stack([temperature, wind], axis=1).astype(np.float32),
        profile_names=("temperature", "eastward_wind"),
        levels=height.astype(np.float32),
        level_unit="m",
        surface=(40.0 * (box % 16))[:, None].astype(np.float32),
        surface_names=("orography",),
        fractions=fractions.astype(np.float32),
        rain_mean=rates.mean(axis=1).astype(np.float32),
        rain_max=rates.max(axis=1).astype(np.float32),
        missing=np.zeros(count, dtype=np.float32),
        members=np.zeros((count, 0), dtype=np.float32),
        edges=bands.EDGES,
    )


def good_diagnosis(month: int) -> pl.DataFrame:
    """A sharp diagnosis of the good columns, as it is stored."""
    columns = good_columns(month)
    said = 0.9 * columns.fractions + 0.1 * columns.fractions.mean(axis=0)
    return pl.DataFrame(
        {
            "valid_time": columns.valid_time.astype("datetime64[us]"),
            "box_id": columns.box_id,
            "fractions": pl.Series(said.astype(np.float32)).arr.to_list(),
            "rain_mean": columns.rain_mean,
        }
    )


def good_scores() -> pl.DataFrame:
    """Scores of `MONTH` and of the year before it, which the weather moves and the model beats by a third."""
    rng = np.random.default_rng(seed_for("column drift self-test", "scores"))
    reference = rng.uniform(0.08, 0.12, 13)
    months = np.arange(MONTH - 12, MONTH + 1)
    return pl.DataFrame({"month_id": months, "score": reference * rng.uniform(0.64, 0.69, 13), "reference": reference})


def perturbations() -> list[Perturbation]:
    """One fault for each check of the three suites."""
    return [*_faults_of_rows(), *_faults_of_values(), *_faults_of_rain(), *_faults_of_diagnoses(), *_faults_of_scores()]


def _columns(check: str, fault: str, change: Callable[[Columns], Columns]) -> Perturbation:
    return Perturbation("columns", check, fault, columns=change)


def _faults_of_rows() -> list[Perturbation]:
    def dropped(rows: Callable[[Columns], NDArray[np.bool_]]) -> Callable[[Columns], Columns]:
        return lambda columns: columns.take(~rows(columns))

    def with_new_boxes(columns: Columns) -> Columns:
        more = columns.take(columns.box_id < 2)
        both = columns.take(np.concatenate([np.arange(len(columns)), np.flatnonzero(columns.box_id < 2)]))
        return replace(both, box_id=np.concatenate([columns.box_id, more.box_id + BOXES]))

    def stuck(columns: Columns) -> Columns:
        profiles = columns.profiles.copy()
        profiles[BOXES : 2 * BOXES] = profiles[:BOXES]
        return replace(columns, profiles=profiles)

    return [
        _columns("structure", "one row twice", lambda c: c.take(np.append(np.arange(len(c)), 7))),
        _columns("same_fields", "levels in another unit", lambda c: replace(c, levels=c.levels / np.float32(1000))),
        _columns("missing_times", "three days gone", dropped(lambda c: c.valid_time > c.valid_time[-1 - 12 * BOXES])),
        _columns("missing_rows", "each box gone once in twenty times", dropped(lambda c: _every(len(c), 19))),
        _columns("missing_boxes", "one box gone", dropped(lambda c: c.box_id == 5)),
        _columns("new_boxes", "two boxes more", with_new_boxes),
        _columns("repeated_times", "one time repeats the one before", stuck),
    ]


def _faults_of_values() -> list[Perturbation]:
    def changed(
        variable: int, level: int, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> Callable[[Columns], Columns]:
        def apply(columns: Columns) -> Columns:
            profiles = columns.profiles.copy()
            profiles[:, variable, level] = change(profiles[:, variable, level].astype(np.float64))
            return replace(columns, profiles=profiles)

        return apply

    def first(value: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        return lambda values: np.where(np.arange(len(values)) == 0, value, values)

    def shifted(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(_every(len(values), 6), values + 4.5 * values.std(), values)

    def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
        signs = np.where(np.arange(len(values)) % 2, 1.0, -1.0)
        return np.where(_every(len(values), 13), values.mean() + 8 * values.std() * signs, values)

    def upwards(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Half of the lower half moved evenly over the upper one."""
        order = np.argsort(values, kind="stable")
        lower, upper = order[: len(order) // 2], order[len(order) // 2 :]
        moved = lower[::2]
        out = values.copy()
        out[moved] = values[upper[:: max(len(upper) // len(moved), 1)][: len(moved)]]
        return out

    def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
        rank = np.argsort(np.argsort(values)) / len(values)
        return np.quantile(values, np.floor(rank * 5) / 5 + 0.1)

    return [
        _columns("not_finite", "one value is NaN", changed(1, 2, first(np.nan))),
        _columns("physical_bounds", "one temperature in degrees Celsius", changed(0, 0, first(12.0))),
        _columns("mean_shift", "a sixth of the winds far too strong", changed(1, 1, shifted)),
        _columns("spread_shift", "one wind of thirteen far off to either side", changed(1, 0, spread)),
        _columns("ks_distance", "half of the lower temperatures moved up", changed(0, 3, upwards)),
        _columns("psi", "temperatures rounded to five values", changed(0, 1, rounded)),
    ]


def _faults_of_rain() -> list[Perturbation]:
    def unseen(columns: Columns) -> Columns:
        gone = _every(len(columns), 5)
        nan = np.float32(np.nan)
        return replace(
            columns,
            fractions=np.where(gone[:, None], nan, columns.fractions),
            rain_mean=np.where(gone, nan, columns.rain_mean),
            rain_max=np.where(gone, nan, columns.rain_max),
            missing=np.where(gone, np.float32(1), columns.missing),
        )

    def first_wet(columns: Columns, name: str, factor: float) -> Columns:
        values = getattr(columns, name).copy()
        values[np.argmax(columns.fractions[:, 2])] *= factor
        return replace(columns, **{name: values})

    def too_much(columns: Columns) -> Columns:
        fractions = columns.fractions.copy()
        fractions[0, 0] += np.float32(0.1)
        return replace(columns, fractions=fractions)

    def wetter(columns: Columns) -> Columns:
        wet = np.flatnonzero(columns.rain_max > 0)
        rows = np.arange(len(columns))
        turned = np.flatnonzero((columns.rain_max == 0) & _every(len(columns), 2))
        rows[turned] = wet[np.arange(len(turned)) % len(wet)]
        names = ("fractions", "rain_mean", "rain_max")
        return replace(columns, **{name: getattr(columns, name)[rows] for name in names})

    def often_inconsistent(columns: Columns) -> Columns:
        mean = np.where(_every(len(columns), 40), 2 * columns.rain_max + 1, columns.rain_mean)
        return replace(columns, rain_mean=mean.astype(np.float32))

    return [
        _columns("rain_missing", "rain of every fifth row gone", unseen),
        _columns("fractions", "one row sums to 1.1", too_much),
        _columns("rain_rates", "one pixel at many times its rate", lambda c: first_wet(c, "rain_max", 100.0)),
        _columns("rain_consistency", "one mean of forty above its maximum", often_inconsistent),
        _columns("wet_share", "half of the dry rows turned wet", wetter),
    ]


def _faults_of_diagnoses() -> list[Perturbation]:
    def diagnosis(check: str, fault: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Perturbation:
        return Perturbation("diagnosis", check, fault, frame=change)

    def with_fractions(
        change: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ) -> Callable[[pl.DataFrame], pl.DataFrame]:
        def apply(frame: pl.DataFrame) -> pl.DataFrame:
            said = np.stack([*frame["fractions"].to_numpy()]).astype(np.float64)
            changed = pl.Series("fractions", change(said).astype(np.float32)).arr.to_list()
            return frame.with_columns(changed)

        return apply

    first = pl.int_range(pl.len()) == 0
    negative = pl.when(first).then(-1.0).otherwise("rain_mean").cast(pl.Float32).alias("rain_mean")
    return [
        diagnosis("complete", "one row gone", lambda frame: frame.slice(1)),
        diagnosis(
            "fractions",
            "one row sums to 0.9",
            with_fractions(lambda said: said * np.where(np.arange(len(said)) == 0, 0.9, 1.0)[:, None]),
        ),
        diagnosis("rain_mean", "one negative mean", lambda frame: frame.with_columns(negative)),
        diagnosis(
            "band_mix",
            "a fifth of each box's dry area said to be in the third band",
            with_fractions(lambda said: said + 0.25 * said[:, :1] * np.array([-1.0, 0.0, 1.0, 0.0, 0.0])),
        ),
        diagnosis(
            "sharpness",
            "boxes nearly alike",
            with_fractions(lambda said: 0.2 * said + 0.8 * said.mean(axis=0)),
        ),
    ]


def _faults_of_scores() -> list[Perturbation]:
    now = pl.col("month_id") == MONTH

    def scaled(**factors: float) -> Callable[[pl.DataFrame], pl.DataFrame]:
        return lambda frame: frame.with_columns(
            pl.when(now).then(pl.col(name) * factor).otherwise(name).alias(name) for name, factor in factors.items()
        )

    return [
        Perturbation("performance", "score", "all models three times as wrong", frame=scaled(score=3, reference=3)),
        Perturbation("performance", "skill", "the reference as good as the model", frame=scaled(reference=0.67)),
    ]


def _every(count: int, stride: int) -> NDArray[np.bool_]:
    return np.equal(np.arange(count) % stride, 0)
