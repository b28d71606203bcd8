"""The self-test: good data, perturbed once for each check, must make that check fire and no other.

The data are made here and hold what real tables hold: zero-inflated counts, an indicator, a yearly index, a constant, a
column with gaps. A second world is a lattice (`drift/lattice_world.py`), for checks that must see as much in many units
that are almost all zero. Run it with the thresholds of production to see what they would still catch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl

from views_dagster.drift import lattice_world
from views_dagster.drift.changes import check_output_drift
from views_dagster.drift.inputs import check_input
from views_dagster.drift.outputs import check_output_validity
from views_dagster.drift.results import CheckResult
from views_dagster.drift.settings import InputDriftSettings, OutputDriftSettings, OutputValiditySettings
from views_dagster.forecasts import Forecast
from views_dagster.seeds import seed_for

MONTH: Final = 529
UNITS: Final = 120
STEPS: Final = tuple(range(1, 13))
DRAWS: Final = 64
COUNTS: Final = tuple(f"events_{i}" for i in range(1, 9))
TARGET: Final = COUNTS[0]

Suite = Literal["input", "validity", "drift"]
World = Literal["units", "lattice"]


@dataclass(frozen=True)
class Perturbation:
    """A fault: which check must see it, what it is, and how to put it into good data (a window or a forecast)."""

    suite: Suite
    check: str
    fault: str
    apply: Callable[[pl.DataFrame], pl.DataFrame]
    world: World = "units"


def good_window() -> pl.DataFrame:
    """30 months of history and `MONTH` for `UNITS` units: counts, indicator, index, growth, gaps and a constant."""
    rng = np.random.default_rng(seed_for("drift self-test", "window"))
    months = np.arange(MONTH - 30, MONTH + 1)
    shape = (len(months), UNITS)
    years = (months - 1) // 12 - (months[0] - 1) // 12
    unit = np.arange(UNITS)
    columns: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
    for offset, name in enumerate(COUNTS):
        # Half of the units are active, each column in others; one of them pauses each month.
        active = np.broadcast_to((unit + offset) % 8 < 4, shape).copy()
        active[np.arange(len(months)), 8 * rng.integers(0, UNITS // 8, len(months)) - offset % 8] = False
        columns[name] = np.ceil(rng.lognormal(3, 1.5, shape)) * active
    columns["indicator"] = (columns[TARGET] >= 25).astype(np.float64)
    columns["index"] = (rng.uniform(0.1, 0.9, UNITS) + rng.normal(0, 0.02, (years[-1] + 1, UNITS)))[years]
    columns["growth"] = rng.normal(2, 4, shape)
    columns["gaps"] = np.where(unit % 3 == 0, np.nan, rng.gamma(3, 2, shape))
    columns["constant"] = np.ones(shape)
    keys = {"month_id": np.repeat(months, UNITS).astype(np.int32), "unit_id": np.tile(unit + 1, len(months))}
    return pl.DataFrame(keys | {name: values.ravel() for name, values in columns.items()}).fill_nan(None)


def good_forecast(origin: int = MONTH) -> pl.DataFrame:
    """A valid forecast of `TARGET`; those of two origins agree but for a few percent."""
    level = np.random.default_rng(seed_for("drift self-test", "level")).lognormal(0, 1.5, UNITS).clip(0, 20)
    rng = np.random.default_rng(seed_for("drift self-test", "forecast", origin))
    shape = (UNITS, len(STEPS), DRAWS)
    draws = rng.gamma(2, 0.5, shape) * level[:, None, None]
    forecast = Forecast(origin, np.arange(1, UNITS + 1), np.array(STEPS), draws.astype(np.float32))
    return forecast.to_frame(model="good_model", level="cm", target=TARGET)


def perturbations() -> list[Perturbation]:
    """One fault for each check of the three suites, and those of the lattice."""
    now = pl.col("month_id") == MONTH
    columns = [name for name in good_window().columns if name not in ("month_id", "unit_id")]

    def inputs(check: str, fault: str, *changes: pl.Expr) -> Perturbation:
        return Perturbation("input", check, fault, lambda frame: frame.with_columns(*changes))

    def where(condition: pl.Expr, name: str, value: pl.Expr | float | None) -> pl.Expr:
        changed = value if isinstance(value, pl.Expr) else pl.lit(value)
        return pl.when(now & condition).then(changed).otherwise(pl.col(name)).alias(name)

    unit = pl.col("unit_id")
    growth = good_window().filter(pl.col("month_id") < MONTH)["growth"].to_numpy()
    rank = np.linspace(0, 1, UNITS, endpoint=False)
    coarse = np.quantile(growth, np.floor(rank * 5) / 5 + 0.05)
    higher = np.quantile(growth, np.where(rank < 0.15, rank / 0.15 * 0.5, 0.5 + (rank - 0.15) / 0.85 * 0.5))

    def newest(
        name: str, values: np.ndarray[tuple[int], np.dtype[np.float64]]
    ) -> Callable[[pl.DataFrame], pl.DataFrame]:
        return lambda frame: pl.concat(
            [frame.filter(~now), frame.filter(now).with_columns(pl.Series(name, values, dtype=pl.Float64))]
        )

    return [
        Perturbation("input", "structure", "one row twice", lambda f: pl.concat([f, f.filter(now).head(1)])),
        inputs("infinite_values", "one infinite value", where(unit == 2, "growth", float("inf"))),
        Perturbation("input", "missing_units", "two units gone", lambda f: f.filter(~(now & (unit <= 2)))),
        Perturbation(
            "input",
            "new_units",
            "four units more",
            lambda f: pl.concat([f, f.filter(now & unit.is_between(9, 12)).with_columns(unit + UNITS)]),
        ),
        inputs(
            "completeness",
            "one column of each unit missing",
            *(where(unit % len(columns) == at, name, None) for at, name in enumerate(columns)),
        ),
        inputs("missing_by_column", "one column missing in a fifth of the units", where(unit % 5 == 0, "index", None)),
        inputs("missing_by_unit", "one unit without values", *(where(unit == 1, name, None) for name in columns)),
        inputs(
            "zeros",
            "every count zero in a quarter of its active units",
            *(where((unit - 1 + at) % 8 == 1, name, 0.0) for at, name in enumerate(COUNTS)),
        ),
        inputs("zeros_by_column", "one count zero in most of its active units", where(unit % 4 != 0, COUNTS[2], 0.0)),
        inputs("zeros_by_unit", "one unit zero everywhere", *(where(unit == 4, name, 0.0) for name in columns)),
        Perturbation(
            "input",
            "unchanged_month",
            "last month copied",
            lambda f: pl.concat(
                [f.filter(~now), f.filter(pl.col("month_id") == MONTH - 1).with_columns(pl.col("month_id") + 1)]
            ),
        ),
        inputs("extremes", "one value a thousandfold", where(unit == 4, "index", pl.col("index") * 1000)),
        inputs("new_negatives", "one negative value in an index", where(unit == 4, "index", -pl.col("index"))),
        Perturbation("input", "kl_divergence", "one column rounded to five values", newest("growth", coarse)),
        Perturbation("input", "ks_distance", "one column mostly in its upper half", newest("growth", higher)),
        *_validity_faults(),
        *_drift_faults(),
        *(
            Perturbation(suite, check, fault, apply, "lattice")
            for suite, check, fault, apply in lattice_world.faults(MONTH)
        ),
    ]


def _first_row(frame: pl.DataFrame, draws: list[float], mean: float | None = None) -> pl.DataFrame:
    mean = float(np.mean(draws)) if mean is None else mean
    row = frame.head(1).with_columns(
        pl.lit(mean, dtype=pl.Float32).alias("mean"), pl.Series("draws", [draws], dtype=pl.List(pl.Float32))
    )
    return pl.concat([row, frame.slice(1)])


def _validity_faults() -> list[Perturbation]:
    draws: list[float] = good_forecast()["draws"][0].to_list()
    mean = float(good_forecast()["mean"][0])
    largest = float(good_window()[TARGET].max())  # type: ignore[arg-type]
    first = (pl.col("unit_id") == 1) & (pl.col("step") == 1)

    def fault(check: str, what: str, values: list[float], stated: float | None = None) -> Perturbation:
        return Perturbation("validity", check, what, lambda frame: _first_row(frame, values, stated))

    return [
        Perturbation(
            "validity",
            "labels",
            "one target month off by one",
            lambda f: f.with_columns(pl.col("target_month") + first.cast(pl.Int32)),
        ),
        Perturbation("validity", "complete", "one row gone", lambda f: f.slice(1)),
        fault("draw_count", "one draw too many", [*draws, mean]),
        fault("finite", "one draw is NaN", [float("nan"), *draws[1:]], mean),
        fault("non_negative", "one draw below zero", [-1.0, *draws[1:]]),
        fault("mean_of_draws", "one mean a hundredth too high", draws, 1.01 * mean + 0.01),
        fault("bound", "one draw far beyond history", [11 * largest, *draws[1:]]),
        fault("high_means", "one row above all history", [1.5 * largest] * DRAWS),
    ]


def _drift_faults() -> list[Perturbation]:
    unit, log = pl.col("unit_id"), pl.col("mean").log1p()

    def fault(check: str, what: str, moved: pl.Expr) -> Perturbation:
        return Perturbation("drift", check, what, lambda frame: frame.with_columns(mean=moved.cast(pl.Float32)))

    swing = pl.when(unit % 8 == 0).then(0.9).when(unit % 8 == 4).then(-0.9).otherwise(0.0)
    return [
        fault("overall_change", "every unit higher by a third of 1 + its mean", (log + 0.3).exp() - 1),
        fault("changed_units", "every fourth unit far up or down", ((log + swing).exp() - 1).abs()),
        fault("new_high_units", "seven units at 45", pl.when(unit <= 7).then(45.0).otherwise(pl.col("mean"))),
    ]


def self_test(
    inputs: InputDriftSettings | None = None,
    validity: OutputValiditySettings | None = None,
    drift: OutputDriftSettings | None = None,
) -> pl.DataFrame:
    """Run the suites on good data and on every perturbation of it.

    Returns:
        One row a perturbation and, first, one a suite and world on good data (`check` null): `world`, `suite`, `check`,
        `fault`, `fired` (the checks that failed, comma separated), `passed` (whether exactly the meant check failed;
        none on good data).
    """

    def results(trial: Perturbation) -> list[CheckResult]:
        lattice = trial.world == "lattice"
        if trial.suite == "input":
            window = lattice_world.good_window(MONTH) if lattice else good_window()
            return check_input(trial.apply(window), MONTH, inputs)
        made = lattice_world.good_forecast if lattice else good_forecast
        forecast = trial.apply(made(MONTH))
        if trial.suite == "drift":
            return check_output_drift(forecast, made(MONTH - 1), drift)
        history, units = good_window(), range(1, UNITS + 1)
        return check_output_validity(forecast, MONTH, history, validity, units=units, steps=STEPS, draws=DRAWS)

    good: tuple[tuple[World, Suite], ...] = (
        ("units", "input"),
        ("units", "validity"),
        ("units", "drift"),
        ("lattice", "input"),
        ("lattice", "drift"),
    )
    trials = [Perturbation(suite, "", "none", lambda frame: frame, world) for world, suite in good]
    rows = []
    for trial in [*trials, *perturbations()]:
        fired = [result.name for result in results(trial) if not result.passed]
        rows.append(
            {
                "world": trial.world,
                "suite": trial.suite,
                "check": trial.check or None,
                "fault": trial.fault,
                "fired": ", ".join(fired),
                "passed": fired == ([trial.check] if trial.check else []),
            }
        )
    return pl.DataFrame(rows)
