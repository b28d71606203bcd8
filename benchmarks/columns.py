"""What 735,000 columns of 33 levels x 5 variables cost before a model sees them, and how much memory each step takes.

    python -m benchmarks.columns              735,000 columns over 7 months
    python -m benchmarks.columns --columns 100000

Times the column set (interpolation to common levels, wind, rain and members joined) for the whole range, the
interpolation alone from levels of each row's own, the table as arrays, and the split and folds of it. Each part runs in
a process of its own, so that the peak memory is its own; the inputs it is given count in it. Wall and processor seconds
on the cores there are.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.column_arrays import to_columns
from views_dagster.precipitation.column_rows import compute
from views_dagster.precipitation.column_sets import ColumnSet
from views_dagster.precipitation.levels import interpolate
from views_dagster.precipitation.split_settings import SplitSettings
from views_dagster.precipitation.splits import folds, split

T = TypeVar("T")
BOXES, DEPTH, MEMBERS = 144, 33, 18
FIRST = 481
COLUMN_SET = ColumnSet.model_validate(
    {
        "columns": "air",
        "rain": "gauges",
        "members": "ensemble",
        "levels": {"unit": "m", "values": np.geomspace(20, 18_000, DEPTH).round(1).tolist(), "extrapolate": 500},
        "profiles": ["cloud_fraction", "relative_humidity", "temperature"],
        "wind": {"speed": "wind_speed", "direction": "wind_direction"},
        "surface": ["pressure"],
        "static": ["orography"],
    }
)
PARTS = ("column set", "interpolation", "to_columns", "split", "5 folds")


def world(count: int, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Raw columns on terrain-following levels, rain and members: `count` rows, a box an hour on a lattice of 144."""
    random = np.random.default_rng(seed)
    hour, box = np.divmod(np.arange(count), BOXES)
    times = np.datetime64("2020-01-01T01:00", "us") + hour * np.timedelta64(3600_000_000, "us")
    months = (times - np.timedelta64(1, "us")).astype("datetime64[M]").astype(int) - 600 + FIRST
    keys = {
        "month_id": pl.Series(months, dtype=pl.Int32),
        "valid_time": pl.Series(times, dtype=pl.Datetime("us")),
        "box_id": box.astype(np.int64),
    }
    terrain = (random.gamma(1, 200, BOXES)[box]).astype(np.float32)
    levels = np.geomspace(10, 20_000, DEPTH, dtype=np.float32) + terrain[:, None]

    def profile(low: float, high: float) -> pl.Series:
        return pl.Series(random.random((count, DEPTH), dtype=np.float32) * (high - low) + low).arr.to_list()

    columns = pl.DataFrame(
        {
            **keys,
            "latitude": (45 + box // 12 * 0.1).astype(np.float32),
            "longitude": (5 + box % 12 * 0.1).astype(np.float32),
            "levels": pl.Series(levels).arr.to_list(),
            "cloud_fraction": profile(0, 1),
            "relative_humidity": profile(0, 100),
            "temperature": profile(210, 300),
            "wind_speed": profile(0, 40),
            "wind_direction": profile(0, 360),
            "pressure": random.normal(1013, 8, count).astype(np.float32),
            "orography": terrain,
        }
    )
    chance = 0.5 + 0.5 * np.sin(np.arange(hour[-1] + 1) / 24) + random.normal(0, 0.2, hour[-1] + 1)
    wet = (chance > 0.9)[hour] & (random.random(count) < 0.6)
    fractions = random.dirichlet([1.0] * (len(EDGES) + 1), count).astype(np.float32)
    fractions[~wet] = [1, 0, 0, 0, 0]
    mean = np.where(wet, random.gamma(1, 1, count), 0).astype(np.float32)
    rain = pl.DataFrame(
        {
            **keys,
            "fractions": pl.Series(fractions).arr.to_list(),
            "rain_mean": mean,
            "rain_max": mean * 4,
            "missing": np.zeros(count, dtype=np.float32),
        }
    )
    said = mean[:, None] * random.lognormal(0, 0.5, (count, MEMBERS))
    members = pl.DataFrame({**keys, "members": pl.Series(said.astype(np.float32)).arr.to_list()})
    return columns, rain, members


def timed(what: str, work: Callable[[], T]) -> T:
    """Run once and print its seconds and the process's memory before and at its peak."""
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30
    wall, busy = time.perf_counter(), time.process_time()
    result = work()
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{what:14} {wall:6.1f} s wall {busy:6.1f} s processor   {before:4.1f} GiB before {peak:5.1f} GiB peak",
        flush=True,
    )
    return result


def run(part: str, folder: Path) -> None:
    """One part, on the tables in `folder`."""
    raw = [pl.scan_parquet(folder / f"{name}.parquet") for name in ("columns", "rain", "members")]
    if part == "column set":
        last = raw[0].select(pl.col("month_id").max()).collect().item()
        frame, report = timed(part, lambda: compute(COLUMN_SET, raw[0], raw[1], raw[2], FIRST, last))
        frame.write_parquet(folder / "features.parquet")
        print(f"{'':14} {report}")
    elif part == "interpolation":
        random = np.random.default_rng(0)
        count = raw[0].select(pl.len()).collect().item()
        profiles = random.random((count, 5, DEPTH), dtype=np.float32)
        own = np.geomspace(10, 20_000, DEPTH, dtype=np.float32) + random.random((count, 1), dtype=np.float32)
        timed(part, lambda: interpolate(profiles, own, np.geomspace(20, 18_000, DEPTH), unit="m"))
    else:
        frame = pl.read_parquet(folder / "features.parquet")
        if part == "to_columns":
            timed(part, lambda: to_columns(frame, COLUMN_SET))
            return
        columns = to_columns(frame, COLUMN_SET)
        del frame
        settings = SplitSettings()
        if part == "split":
            record = timed(part, lambda: split(columns, settings)).record
            print(f"{'':14} {record.rows}, left out {record.left_out}, {len(record.events)} events")
        else:
            timed(part, lambda: folds(columns, settings, 5))


def main() -> None:
    """Print the figures of all parts, or run one that a parent process asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=735_000)
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        run(given.part[0], Path(given.part[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for table, frame in zip(("columns", "rain", "members"), world(given.columns), strict=True):
            frame.write_parquet(folder / f"{table}.parquet")
            del frame
        for part in PARTS:
            subprocess.run([sys.executable, __file__, "--part", part, name], check=True)


if __name__ == "__main__":
    main()
