"""Which settings of a space matter: the share of the score's variance that each explains by itself."""

from collections.abc import Mapping
from typing import Final

from views_dagster.tuning.dimensions import Dimension
from views_dagster.tuning.records import SweepResult

FEWEST_TRIALS: Final = 10
"""Of fewer scores nobody can say what decides them."""


def importances(result: SweepResult, space: Mapping[str, Dimension]) -> dict[str, float]:
    """Share of the variance of the scores' ranks by dotted path, the largest first; they sum to 1.

    Functional analysis of variance of a random forest fitted to the scored trials (Hutter, Hoos & Leyton-Brown 2014,
    ICML), on ranks, so that one very bad trial does not decide. Empty where fewer than `FEWEST_TRIALS` trials have a
    score, or all have the same.
    """
    import optuna
    from scipy.stats import rankdata

    scored = result.scored
    if len(scored) < FEWEST_TRIALS or len({trial.score for trial in scored}) == 1:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranks = rankdata([trial.score for trial in scored])
    distributions = {path: dimension.distribution() for path, dimension in space.items()}
    study = optuna.create_study(direction="minimize")
    study.add_trials(
        [
            optuna.create_trial(
                params={path: dimension.parameter(trial.values[path]) for path, dimension in space.items()},
                distributions=distributions,
                value=float(rank),
            )
            for trial, rank in zip(scored, ranks, strict=True)
        ]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {path: float(share) for path, share in found.items()}
