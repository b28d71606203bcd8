"""What the suites cost, how often the input suite cries wolf on real data, and what it catches there.

    python -m benchmarks.drift                         seconds and memory for country-months and grid-months
    python -m benchmarks.drift ../shared/data/conflict [STEP]   then also false alarms and detection on real panels

The real panels are the event counts as a raw table, the yearly covariates as raw tables, and features made of both.
False alarms: share of the months 2005-01..2023-12 (every STEP-th, 1 where not given) in which a check fires. Detection:
share of twelve months in which a fault put into the newest month makes any check fire, and makes an error fire.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from views_dagster.calendar import from_key, to_key
from views_dagster.drift.changes import check_output_drift
from views_dagster.drift.inputs import INPUT_CHECKS, check_input
from views_dagster.drift.outputs import check_output_validity
from views_dagster.drift.results import CheckResult
from views_dagster.forecasts import Forecast

KEYS = ["month_id", "unit_id"]
VALUES = pl.all().exclude(KEYS)
COUNTS = ["ged_sb_best", "ged_ns_best_1m", "ged_os_best_1m"]
LAG_YEARS = 2


def made_up(units: int, columns: int) -> pl.DataFrame:
    """31 months; half of the columns zero-inflated counts, half continuous."""
    rng = np.random.default_rng(0)
    shape = (31, units)
    active = np.arange(units) % 5 == 0
    values = {
        f"x{at}": (np.ceil(rng.lognormal(3, 1.5, shape)) * active if at % 2 else rng.normal(size=shape)).ravel()
        for at in range(columns)
    }
    return pl.DataFrame(
        {"month_id": np.repeat(np.arange(500, 531), units), "unit_id": np.tile(np.arange(units), 31), **values}
    )


def measured(what: str, run: Callable[[], object]) -> None:
    """Print the best of three wall and processor times, and by how much the process had to grow."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, processor = [], []
    for _ in range(3):
        started = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{what}: {min(wall):6.2f} s ({min(processor):6.2f} s of processor), {grown:5.0f} MB more", flush=True)


def made_up_forecast(units: int, origin: int, draws: int) -> pl.DataFrame:
    shape = (units, 36, draws)
    values = np.random.default_rng(origin).standard_gamma(0.1, shape, dtype=np.float32)
    forecast = Forecast(origin, np.arange(units), np.arange(1, 37), values)
    return forecast.to_frame(model="m", level="l", target="x")


def speed() -> None:
    started = time.perf_counter()
    check_input(made_up(30, 2), 530)
    print(f"first call, imports included: {time.perf_counter() - started:.1f} s")
    for units, draws in ((191, 256), (13_110, 64), (64_818, 64)):
        frame = made_up(units, 30).with_columns(VALUES.cast(pl.Float32))
        measured(f"{units:>6} units, input, 30 columns x 31 months  ", partial(check_input, frame, 530))
        del frame
        now, means = made_up_forecast(units, 530, draws), made_up_forecast(units, 529, 1)
        history = made_up(units, 2).select("month_id", x="x1").lazy()
        expected: dict[str, Any] = {"units": range(units), "steps": range(1, 37), "draws": draws}
        measured(
            f"{units:>6} units, validity, 36 steps x {draws:>3} draws    ",
            partial(check_output_validity, now, 530, history, **expected),
        )
        measured(f"{units:>6} units, drift, 35 shared months            ", partial(check_output_drift, now, means))


def real_panels(folder: Path) -> dict[str, pl.DataFrame]:
    events = pl.read_parquet(folder / "ucdp_country_month.parquet").rename({"gwno": "unit_id"})
    events = events.filter(pl.col("month_id") <= from_key("2023-12")).sort("unit_id", "month_id")

    def yearly(name: str) -> pl.DataFrame:
        """Each month holds the values of `LAG_YEARS` years before, when they were out."""
        values = pl.read_parquet(folder / name).drop("iso3").rename({"gwno": "unit_id"})
        known = values.filter(pl.col("unit_id").is_not_null()).with_columns(pl.col("year") + LAG_YEARS)
        return events.select(*KEYS, "year").join(known, on=["unit_id", "year"], how="left").drop("year").sort(KEYS)

    economy, democracy = yearly("country_year_covariates.parquet"), yearly("country_year_vdem.parquet")
    unit, month = "unit_id", pl.col("month_id")

    def months_since(name: str, level: int) -> pl.Expr:
        seen = pl.when(pl.col(name) >= level).then(month).forward_fill().shift(1).over(unit)
        return (month - seen).fill_null(300).cast(pl.Float64)

    made: dict[str, pl.Expr] = {}
    for name in COUNTS:
        count = pl.col(name)
        made |= {
            f"{name}_ln": count.log1p(),
            f"{name}_tlag_1": count.log1p().shift(1).over(unit).fill_null(0),
            f"{name}_tlag_12": count.log1p().shift(12).over(unit).fill_null(0),
            f"{name}_decay_5": 2.0 ** (-months_since(name, 5) / 24),
            f"{name}_decay_100": 2.0 ** (-months_since(name, 100) / 24),
            f"{name}_gte_25": (count >= 25).cast(pl.Float64),
            f"{name}_sum_12": count.rolling_sum(12, min_samples=1).over(unit),
            f"{name}_since": months_since(name, 1),
            f"{name}_delta": (count - count.shift(1).over(unit)).fill_null(0),
        }
    raw = events.select(*KEYS, *COUNTS)
    features = raw.with_columns(pl.col(COUNTS).fill_null(0).cast(pl.Float64)).select(*KEYS, **made)
    slow = [
        economy.select(*KEYS, pl.col("^wdi_(sp_pop|sp_dyn|ny_gdp|it_net|fp_cpi|sl_uem).*$")),
        democracy.select(*KEYS, pl.col("^v2x_(poly|lib).*$", "v2xpe_exlsocgr")),
    ]
    for table in slow:
        features = features.join(table.with_columns(VALUES.forward_fill().over(unit).fill_null(0)), on=KEYS)
    return {"raw events": raw, "raw economy": economy, "raw democracy": democracy, "features": features}


def failures(frame: pl.DataFrame, month: int) -> list[CheckResult]:
    return [result for result in check_input(frame, month) if not result.passed]


def false_alarms(panels: dict[str, pl.DataFrame], step: int) -> None:
    months = range(from_key("2005-01"), from_key("2023-12") + 1, step)
    for name, panel in panels.items():
        warnings: Counter[str] = Counter()
        errors: dict[str, list[str]] = {}
        for month in months:
            for result in failures(panel, month):
                warnings[result.name] += 1
                if result.severity == "error":
                    errors.setdefault(result.name, []).append(to_key(month))
        print(f"{name}: {panel.width - 2} columns, {len(months)} months")
        for check in INPUT_CHECKS:
            if warnings[check]:
                print(
                    f"    {check:<20} {warnings[check] / len(months):6.1%}  errors: {', '.join(errors.get(check, []))}"
                )


def faults(columns: list[str]) -> dict[str, Callable[[pl.DataFrame, pl.Expr, int], pl.DataFrame]]:
    """What is put into the newest month: (frame, is the newest month, month) to the poisoned frame."""
    one = columns[0]

    def where(condition: pl.Expr, values: pl.Expr, changed: pl.Expr) -> pl.Expr:
        return pl.when(condition).then(changed).otherwise(values)

    return {
        "all values missing": lambda f, now, m: f.with_columns(pl.when(~now).then(VALUES)),
        "one column missing": lambda f, now, m: f.with_columns(pl.when(~now).then(pl.col(one)).alias(one)),
        "all values zero": lambda f, now, m: f.with_columns(where(now, VALUES, VALUES * 0)),
        "one column zero": lambda f, now, m: f.with_columns(where(now, pl.col(one), pl.col(one) * 0)),
        "one column zero in 2 of 3 units": lambda f, now, m: f.with_columns(
            where(now & (pl.col("unit_id") % 3 > 0), pl.col(one), pl.col(one) * 0)
        ),
        "last month copied": lambda f, now, m: pl.concat(
            [f.filter(~now), f.filter(pl.col("month_id") == m - 1).with_columns(pl.col("month_id") + 1)]
        ),
        "one unit gone": lambda f, now, m: f.filter(~now | (pl.col("unit_id") != 2)),
        "a tenth of the units gone": lambda f, now, m: f.filter(~now | (pl.col("unit_id") % 10 > 0)),
        "all values x 1000": lambda f, now, m: f.with_columns(where(now, VALUES, VALUES * 1000)),
        "all values x 10": lambda f, now, m: f.with_columns(where(now, VALUES, VALUES * 10)),
        "all values x 2": lambda f, now, m: f.with_columns(where(now, VALUES, VALUES * 2)),
        "one column x 1000": lambda f, now, m: f.with_columns(where(now, pl.col(one), pl.col(one) * 1000)),
        "one column x 10": lambda f, now, m: f.with_columns(where(now, pl.col(one), pl.col(one) * 10)),
        "one column in other units' rows": lambda f, now, m: pl.concat(
            [f.filter(~now), f.filter(now).with_columns(pl.col(one).reverse())]
        ),
        "all signs turned": lambda f, now, m: f.with_columns(where(now, VALUES, -VALUES)),
    }


def detection(panels: dict[str, pl.DataFrame]) -> None:
    months = range(from_key("2006-05"), from_key("2023-12"), 18)
    for name, panel in panels.items():
        panel = panel.with_columns(VALUES.cast(pl.Float64))
        print(f"{name}: share of {len(months)} months in which anything, an error, fires; checks that fired in most")
        for fault, apply in faults([column for column in panel.columns if column not in KEYS]).items():
            fired: Counter[str] = Counter()
            seen = blocked = 0
            for month in months:
                window = panel.filter(pl.col("month_id").is_between(month - 30, month))
                found = failures(apply(window, pl.col("month_id") == month, month), month)
                fired.update(result.name for result in found)
                seen += bool(found)
                blocked += any(result.severity == "error" for result in found)
            often = ", ".join(check for check in INPUT_CHECKS if fired[check] > len(months) / 2)
            print(f"    {fault:<32} {seen / len(months):5.0%} {blocked / len(months):5.0%}  {often}")


if __name__ == "__main__":
    speed()
    if len(sys.argv) > 1:
        tables = real_panels(Path(sys.argv[1]))
        false_alarms(tables, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
        detection(tables)
