"""How fast the column network trains: 735,000 columns x 33 levels x 5 variables, 10 epochs, default layers.

Run `python -m benchmarks.column_network`, for a first look with `--rows 50000 --epochs 2`. The bar is 10 minutes on 2
idle cores; where others share them, half the processor seconds are about what two idle cores would take. `--cores 1`
trains on one core; the bytes are those of two. `--device cuda` trains on a GPU.
"""

import argparse
import hashlib
import os
import resource
import time

import numpy as np

from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.column_network import ColumnNetwork

ROWS, LEVELS, EPOCHS = 735_000, 33, 10
NAMES = ("cloud_fraction", "relative_humidity", "temperature", "eastward_wind", "northward_wind")
BAR_S = 600.0


def world(rows: int, seed: int = 0) -> Columns:
    """Noise in which a bump low in the second variable decides the band; three quarters of the boxes are dry."""
    rng = np.random.default_rng(seed)
    profiles = rng.standard_normal((rows, len(NAMES), LEVELS), dtype=np.float32)
    wet = np.clip(profiles[:, 1, 2:9].mean(axis=1) * 3, 0, None)
    band = np.minimum(np.digitize(wet, (0.7, 1.2, 1.9, 2.4)), len(EDGES))
    fractions = np.full((rows, len(EDGES) + 1), 0.04, dtype=np.float32)
    fractions[np.arange(rows), band] += 0.8
    hour, box = np.divmod(np.arange(rows), 4096)
    nothing = np.zeros(rows, dtype=np.float32)
    return Columns(
        month_id=np.full(rows, 481, dtype=np.int32),
        valid_time=np.datetime64("2020-01-01T01:00", "s") + hour * np.timedelta64(3600, "s"),
        box_id=box.astype(np.int64),
        latitude=nothing,
        longitude=nothing,
        profiles=profiles,
        profile_names=NAMES,
        levels=np.linspace(20, 12_000, LEVELS, dtype=np.float32),
        level_unit="m",
        surface=rng.standard_normal((rows, 2), dtype=np.float32),
        surface_names=("orography", "mean_sea_level_pressure"),
        fractions=fractions,
        rain_mean=wet.astype(np.float32),
        rain_max=wet.astype(np.float32),
        missing=nothing,
        members=np.zeros((rows, 0), dtype=np.float32),
        edges=EDGES,
    )


def main() -> None:
    """Print the seconds, the processor seconds, the peak memory and whether the bar is met."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    os.sched_setaffinity(0, cores)
    columns, validation = world(options.rows), world(max(options.rows // 20, 1000), seed=1)
    learner = ColumnNetwork(epochs=options.epochs, patience=options.epochs, device=options.device)

    import torch  # start-up is not what is timed

    began, used = time.perf_counter(), time.process_time()

    def report(epoch: int, score: float) -> None:
        print(f"epoch {epoch}: RPS {score:.4f}, {time.process_time() - used:.0f} s of processor", flush=True)

    model = learner.fit(columns, validation, seed=0, report=report)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    began = time.perf_counter()
    model.predict(validation)
    predicting = (time.perf_counter() - began) / len(validation) * 1e6

    digest = hashlib.sha256(b"".join(model.to_files().values())).hexdigest()[:12]
    idle, load = processor / len(cores), os.getloadavg()[0]
    seen = options.rows * options.epochs
    print(f"{len(cores)} cores, load {load:.1f}: trained in {seconds:.0f} s, {processor:.0f} s of processor")
    if options.device == "cuda":
        print(f"on {torch.cuda.get_device_name()}, of its memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    print(f"microseconds a column: {processor / seen * 1e6:.0f} of processor an epoch, {predicting:.0f} to predict it")
    print(f"about {idle:.0f} s if idle; at 735,000 columns and 10 epochs {idle / seen * ROWS * EPOCHS:.0f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB, bytes {digest}")
    if seen == ROWS * EPOCHS:
        print(f"bar of {BAR_S:.0f} s: {'met' if min(seconds, idle) < BAR_S else 'missed'}")


if __name__ == "__main__":
    main()
