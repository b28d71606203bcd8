"""Small panels for the learners' tests."""

import numpy as np
from numpy.typing import ArrayLike

from views_dagster.panel import Panel

FIRST_MONTH = 121


def panel_of(target: ArrayLike, features: ArrayLike | None = None) -> Panel:
    """A panel from its target (M, U), NaN where a unit does not exist; units are 1..U; no features unless given."""
    values = np.asarray(target, dtype=np.float32)
    months, units = values.shape
    columns = np.empty((months, units, 0)) if features is None else np.asarray(features)
    return Panel(
        months=np.arange(FIRST_MONTH, FIRST_MONTH + months, dtype=np.int32),
        units=np.arange(1, units + 1, dtype=np.int64),
        exists=~np.isnan(values),
        features=columns.astype(np.float32),
        feature_names=tuple(f"x{position}" for position in range(columns.shape[2])),
        target=values,
        target_name="y",
    )


def world(months: int = 60, units: int = 8, *, seed: int = 0, scale: float = 20.0) -> Panel:
    """Zero-inflated counts that persist, with three features of the past; unit 7 ends, unit 8 appears one month ago.

    Every third unit never sees an event.
    """
    rng = np.random.default_rng(seed)
    active = rng.random((months, units)) < 0.15
    for month in range(1, months):
        active[month] |= active[month - 1] & (rng.random(units) < 0.85)
    target = np.where(active, rng.negative_binomial(0.7, 1 / (1 + scale / 0.7), (months, units)), 0).astype(np.float32)
    target[:, ::3] = 0
    target[:-1, units - 1] = np.nan
    target[months // 2 :, units - 2] = np.nan
    before = np.log1p(np.nan_to_num(target))
    smooth = np.cumsum(before, axis=0) / np.arange(1, months + 1)[:, None]
    noise = rng.normal(size=before.shape)
    features = np.stack([before, smooth, noise], axis=2)
    features[np.isnan(target)] = np.nan
    return panel_of(target, features)
