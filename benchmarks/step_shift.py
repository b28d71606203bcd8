"""How fast step-shifted LightGBM trains and predicts: 191 units x 400 months x 30 features, 36 steps x 100 trees.

Run `python -m benchmarks.step_shift`. The bar is 15 s for fit and predict on 2 idle cores; where others share them,
half the processor seconds are about what idle cores would take. The data are seeded: zero-inflated counts that persist,
and features made of their past.
"""

import argparse
import os
import resource
import time

import numpy as np

from views_dagster.calendar import FIRST_MONTH, STEPS
from views_dagster.learners.step_shift import StepShift
from views_dagster.panel import Panel

UNITS, MONTHS, FEATURES, DRAWS = 191, 400, 30, 256
BAR_S = 15.0


def world(seed: int = 0) -> Panel:
    """A panel of the benchmark's size with about as many quiet rows as real conflict data: four in five."""
    rng = np.random.default_rng(seed)
    risk = rng.gamma(0.15, 1.0, UNITS)
    active = np.zeros((MONTHS, UNITS), dtype=bool)
    for month in range(1, MONTHS):
        start = rng.random(UNITS) < np.minimum(0.003 + 0.06 * risk, 0.5)
        active[month] = np.where(active[month - 1], rng.random(UNITS) < 0.9, start)
    target = np.where(active, rng.negative_binomial(0.4, 0.4 / (0.4 + 30 * (1 + risk)), active.shape), 0.0)
    logged = np.log1p(target)
    columns = [np.roll(logged, lag, axis=0) for lag in range(10)]
    total = np.cumsum(logged, axis=0)
    columns += [(total - np.roll(total, window, axis=0)) / window for window in (3, 6, 12, 24, 60)]
    slow = np.cumsum(rng.normal(size=(MONTHS, UNITS, FEATURES - len(columns))), axis=0)
    return Panel(
        months=np.arange(FIRST_MONTH, FIRST_MONTH + MONTHS, dtype=np.int32),
        units=np.arange(1, UNITS + 1, dtype=np.int64),
        exists=np.ones((MONTHS, UNITS), dtype=bool),
        features=np.concatenate([np.stack(columns, axis=2), slow], axis=2).astype(np.float32),
        feature_names=tuple(f"x{position}" for position in range(FEATURES)),
        target=target.astype(np.float32),
        target_name="y",
    )


def main() -> None:
    """Print the seconds of fit and predict, the processor seconds, the peak memory and whether the bar is met."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--workers", type=int, default=None, help="steps trained at once; default one a core")
    workers = parser.parse_args().workers
    panel = world()
    learner = StepShift.model_validate(
        {
            "regressor": {"lightgbm": {"n_estimators": 100, "num_leaves": 31, "learning_rate": 0.05}},
            "own_history": {"share": 0.5},
            "workers": workers,
        }
    )
    import lightgbm  # noqa: F401  (start-up is not what is timed)

    started, processor = time.perf_counter(), time.process_time()
    model = learner.fit(panel, steps=STEPS, seed=1)
    trained = time.perf_counter()
    model.predict(panel, draws=DRAWS, seed=1)
    ended, used = time.perf_counter(), time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"fit {trained - started:.1f} s, predict {ended - trained:.1f} s, "
        f"together {ended - started:.1f} s (bar {BAR_S:.0f} s)"
    )
    print(
        f"processor {used:.1f} s on {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), peak memory {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
