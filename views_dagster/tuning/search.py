"""The search: which values a trial is to try, and when one is not worth going on."""

from typing import TYPE_CHECKING, Final

from views_dagster.tuning.space import HyperbandPruning, MedianPruning, Pruning

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

STARTUP_TRIALS: Final = 10
"""Trials drawn at random before the sampler learns from those that finished."""


def sampler(seed: int, number: int) -> "BaseSampler":
    """What proposes trial `number`; the first ones depend on the seed alone, whoever else is at work."""
    from optuna.samplers import RandomSampler, TPESampler

    return RandomSampler(seed=seed) if number < STARTUP_TRIALS else TPESampler(seed=seed)


def pruner(pruning: Pruning) -> "BasePruner":
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if isinstance(pruning, MedianPruning):
        return MedianPruner(n_startup_trials=pruning.startup_trials, n_warmup_steps=pruning.warmup_steps)
    if isinstance(pruning, HyperbandPruning):
        return HyperbandPruner(
            min_resource=pruning.min_resource,
            max_resource=pruning.max_resource or "auto",
            reduction_factor=pruning.reduction_factor,
        )
    return NopPruner()
