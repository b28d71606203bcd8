"""The joint structure of draws: which values of different units and steps belong to the same possible future.

Learners that forecast each unit and step on its own return margins whose draws are in no order. Here each margin is
reordered so that draw s follows the ranks of what really happened, everywhere and at every step, from one past origin:
the Schaake shuffle (Clark, Gangopadhyay, Hay, Rajagopalan & Wilby 2004, J. Hydrometeorology 5, 243-262).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from views_dagster.panel import Panel
from views_dagster.seeds import seed_for


def joint_draws(margins: NDArray[np.float32], panel: Panel, *, steps: Sequence[int], seed: int) -> NDArray[np.float32]:
    """Reorder margins (U, K, S) of the units `panel.current` and of `steps` by the history of the panel's target.

    A history no longer than the longest step holds no whole trajectory; each unit's draws then keep one rank over all
    steps, and the ranks of different units are independent.
    """
    units, _, draws = margins.shape
    origins = template_origins(panel, steps=steps, draws=draws, seed=seed)
    if len(origins) == 0:
        template = np.zeros((units, len(steps), draws), dtype=np.float32)
    else:
        template = history_template(panel, origins, steps=steps)
    return schaake_shuffle(margins, template, seed=seed)


def template_origins(panel: Panel, *, steps: Sequence[int], draws: int, seed: int) -> NDArray[np.int64]:
    """Positions (S,) in `panel.months` of the past origins that the draws follow, in a seeded random order.

    The `draws` most recent origins whose trajectory over all `steps` is observed, each once; where there are fewer, all
    of them equally often, and the most recent ones once more to fill up. Empty where there is none.
    """
    available = len(panel.months) - max(steps)
    if available <= 0:
        return np.empty(0, dtype=np.int64)
    origins = available - 1 - np.arange(draws, dtype=np.int64) % available
    return np.random.default_rng(seed_for(seed, "template origins")).permutation(origins)


def history_template(panel: Panel, origins: NDArray[np.int64], *, steps: Sequence[int]) -> NDArray[np.float32]:
    """Target (U, K, S) of the units `panel.current`, `steps` months after each of `origins`.

    NaN where a unit did not exist.
    """
    months = np.asarray(steps, dtype=np.int64)[:, None] + origins[None, :]
    return np.ascontiguousarray(np.moveaxis(panel.target[:, panel.current][months], -1, 0))


def schaake_shuffle(margins: NDArray[np.float32], template: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
    """Reorder the draws of each margin so that their ranks are those of the template; both (U, K, S).

    Each margin keeps its values, ties included. Equal template values (months without any event, above all) are ranked
    by one seeded number for each unit and draw, the same at every step, so that a draw that is high stays high. A NaN
    in the template stands for the value that this number picks from the unit's other template values.

    Raises:
        ValueError: the shapes differ.
    """
    if margins.shape != template.shape:
        raise ValueError(f"margins of shape {margins.shape} and template of shape {template.shape} must agree")
    units, _, draws = margins.shape
    levels = np.random.default_rng(seed_for(seed, "template ties")).random((units, draws))
    by_level = np.argsort(levels, axis=-1)[:, None, :]
    ordered = np.sort(margins, axis=-1)
    # A unit without any event in its template has ties only: its order is that of the levels, at every step.
    eventful = np.flatnonzero(template.any(axis=(1, 2)))
    shuffled = np.take_along_axis(ordered, np.argsort(by_level, axis=-1), axis=-1)
    by_level = by_level[eventful]
    # A stable sort of draws that are already in order of their level leaves equal template values in that order.
    ranked = np.take_along_axis(_without_gaps(template[eventful], levels[eventful]), by_level, axis=-1)
    order = np.take_along_axis(by_level, np.argsort(ranked, axis=-1, kind="stable"), axis=-1)
    followed = np.empty(order.shape, dtype=margins.dtype)
    np.put_along_axis(followed, order, ordered[eventful], axis=-1)
    shuffled[eventful] = followed
    return shuffled


def _without_gaps(template: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float32]:
    gaps = np.isnan(template)
    partial = np.flatnonzero(gaps.any(axis=(1, 2)))
    if len(partial) == 0:
        return template
    known = np.sort(template[partial].reshape(len(partial), -1), axis=-1)
    counts = len(known[0]) - np.isnan(known).sum(axis=-1)
    # A unit without any known value picks NaN, which becomes zero: all ties.
    picks = np.take_along_axis(known, (levels[partial] * counts[:, None]).astype(np.int64), axis=-1)
    filled = template.copy()
    filled[partial] = np.where(gaps[partial], np.nan_to_num(picks)[:, None, :], template[partial])
    return filled
