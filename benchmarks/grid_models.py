"""What a model on a grid costs: train 36 steps and forecast, at four sizes of cells x months, and where the time goes.

    python -m benchmarks.grid_models             four small sizes, bearable anywhere
    python -m benchmarks.grid_models --domain    13,110 cells x 372 months, and three parts of it; bar 15 min and 8 GiB
    python -m benchmarks.grid_models --world     64,818 cells x 409 months too; bar 20 GiB

Seconds are wall and processor time on the cores there are; each size runs in a process of its own, so that the peak
memory is its own. The data are seeded: a few places where events gather, spread and return, and features of their past.
The floor is what LightGBM itself takes for the same trees on the same rows: the rest is ours.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks import plot_growth
from views_dagster.calendar import FIRST_MONTH, STEPS
from views_dagster.geography import COLUMNS, Raster
from views_dagster.learners.dependence import joint_draws
from views_dagster.learners.hurdle import Hurdle
from views_dagster.learners.step_rows import moving_sum, rows_of_step
from views_dagster.panel import Panel
from views_dagster.seeds import seed_for

T = TypeVar("T")
FEATURES, DRAWS = 30, 64
SMALL = ((500, 120), (500, 240), (2000, 120), (2000, 240))
DOMAIN = ((3278, 186), (3278, 372), (13110, 186), (13110, 372))
WORLD = (64818, 409)
LEARNER = Hurdle.model_validate(
    {
        "sampling": {"share": 0.02, "near": ["around"], "near_share": 0.25},
        "balance": {},
        "own_history": {"share": 0.5},
        "classifier": {"lightgbm": {"n_estimators": 60, "learning_rate": 0.08, "num_leaves": 16}},
        "regressor": {"lightgbm": {"n_estimators": 40, "learning_rate": 0.08, "num_leaves": 8}},
    }
)


def rows(cells: int, months: int, seed: int = 0) -> pl.DataFrame:
    """The rows that a queryset would hand over, one in 250 with an event: month_id, unit_id, y and 30 columns."""
    rng = np.random.default_rng(seed)
    # Twice as wide as high, as the globe is.
    width = round((2 * cells) ** 0.5)
    position = np.arange(cells)
    gid = (position // width + 150) * COLUMNS + position % width + 1
    raster = Raster.around(gid)
    places = rng.integers(0, cells, max(cells // 400, 2))
    distance = np.hypot(
        raster.row[:, None] - raster.row[None, places], raster.column[:, None] - raster.column[None, places]
    )
    waves = np.cumsum(rng.normal(0, 0.3, (months, len(places))), axis=0)
    risk = np.exp(np.minimum(waves, 2.0)) @ np.exp(-distance / 2).T
    target = np.where(rng.random(risk.shape) < 0.02 * risk, rng.geometric(0.1, risk.shape), 0).astype(np.float32)
    painted = np.pad(raster.paint(moving_sum(target > 0, 12).astype(np.float32)), ((0, 0), (1, 1), (1, 1)))
    height, across = raster.shape
    around = sum(painted[:, r : r + height, c : c + across] for r in range(3) for c in range(3))
    columns = {"around": raster.pick(np.asarray(around)) - moving_sum(target > 0, 12)}
    for window in (1, 2, 3, 6, 12, 24, 36, 60, 120):
        columns[f"sum_{window}"] = np.log1p(moving_sum(target.astype(np.float64), window))
    while len(columns) < FEATURES:
        columns[f"static_{len(columns)}"] = np.broadcast_to(rng.normal(size=cells), risk.shape)
    keys = {
        "month_id": np.repeat(np.arange(FIRST_MONTH, FIRST_MONTH + months, dtype=np.int32), cells),
        "unit_id": np.tile(gid.astype(np.int64), months),
    }
    values = {name: column.astype(np.float32).reshape(-1) for name, column in ({"y": target} | columns).items()}
    return pl.DataFrame(keys | values)


def timed(run: Callable[[], T]) -> tuple[T, float, float]:
    """What `run` returns, its wall and its processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall, time.process_time() - processor


def gibibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(cells: int, months: int) -> dict[str, float]:
    """Train and forecast once, then the parts of one step alone."""
    import lightgbm  # noqa: F401  (start-up is not what is timed)

    table = [rows(cells, months)]
    names = table[0].columns[3:]
    before = gibibytes()
    panel, *load = timed(lambda: Panel.from_frame(table.pop(), target="y", features=names))
    model, *fit = timed(lambda: LEARNER.fit(panel, steps=STEPS, seed=1))
    forecast, *predict = timed(lambda: model.predict(panel, draws=DRAWS, seed=1))
    peak = gibibytes()

    tiers, prepare, _ = timed(lambda: LEARNER.sampling.tiers(panel))
    found, find, _ = timed(lambda: rows_of_step(panel, 12, tiers))
    (kept, weight), thin, _ = timed(lambda: found.thinned(LEARNER.sampling, seed=1))
    features = panel.features.reshape(-1, FEATURES)
    some = kept.outcome > 0

    def trees() -> None:
        """The four fits of a step, of which those on earlier months see about half of the rows."""
        chance, amount = LEARNER.classifier.matrix(features), LEARNER.regressor.matrix(features)
        for part in (slice(None), slice(len(kept) // 2)):
            event = some[part].astype(np.float64)
            chance.fit(kept.rows[part], event, weight[part], goal="probability", seed=seed_for("chance"))
            positive = kept.rows[part][some[part]]
            logged = np.log1p(kept.outcome[part][some[part]]).astype(np.float64)
            amount.fit(positive, logged, np.ones(len(positive)), goal="mean", seed=seed_for("level"))

    _, _, floor = timed(trees)
    _, joint, _ = timed(lambda: joint_draws(forecast.draws, panel, steps=STEPS, seed=1))
    return {
        "cells": cells,
        "months": months,
        "rows": cells * months,
        "sampled": len(kept),
        "load": load[0],
        "fit": fit[0],
        "predict": predict[0],
        "processor": load[1] + fit[1] + predict[1],
        "rows_of_steps": prepare + len(STEPS) * (find + 4 * thin),
        "trees": len(STEPS) * floor,
        "joint": joint,
        "peak": peak,
        "data": before,
    }


def slope(results: list[dict[str, float]], figure: str) -> float:
    """Least-squares exponent of a figure against rows: 1 is linear."""
    size: NDArray[np.float64] = np.log([result["rows"] for result in results])
    cost: NDArray[np.float64] = np.log([max(result[figure], 1e-3) for result in results])
    return float(np.polyfit(size, cost, 1)[0])


def main() -> None:
    """Print a line a size, the exponents, and what the seconds of the largest size went to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", action="store_true", help="the sizes of Africa and the Middle East")
    parser.add_argument("--world", action="store_true", help="all land cells, alone")
    parser.add_argument("--plot", type=Path, help="save a plot of the processor time of the sizes here")
    parser.add_argument("--one", nargs=2, type=int, metavar=("CELLS", "MONTHS"), help="one size, as JSON")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(*chosen.one)))
        return
    print(
        f"{len(STEPS)} steps, {FEATURES} columns, {DRAWS} draws, hurdle of 60 + 40 trees; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    results: list[dict[str, float]] = []
    for cells, months in (WORLD,) if chosen.world else DOMAIN if chosen.domain else SMALL:
        command = [sys.executable, "-m", "benchmarks.grid_models", "--one", str(cells), str(months)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(done.stdout)
        results.append(result)
        print(
            f"{cells:6,d} cells x {months} months: load {result['load']:.1f} s, fit {result['fit']:.1f} s, "
            f"predict {result['predict']:.1f} s, processor {result['processor']:.1f} s, peak {result['peak']:.2f} GiB "
            f"(of which the rows themselves {result['data']:.2f}); a step learns from {result['sampled']:,.0f} rows",
            flush=True,
        )
    last = results[-1]
    print(
        f"largest, processor seconds: growing the trees (the floor) {last['trees']:.1f}, finding and sampling rows "
        f"{last['rows_of_steps']:.1f}, joint order of draws {last['joint']:.1f}, of {last['processor']:.1f}"
    )
    if len(results) > 1:
        if chosen.plot:
            sizes = [(int(result["cells"]), int(result["months"])) for result in results]
            seconds = [result["processor"] for result in results]
            plot_growth(chosen.plot, "A hurdle of 36 steps", "processor", sizes, seconds, slope(results, "processor"))
        print(f"cost ~ rows^x: processor {slope(results, 'processor'):.2f}, peak memory {slope(results, 'peak'):.2f}")


if __name__ == "__main__":
    main()
