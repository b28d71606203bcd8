"""Scores on folds: those of the backtest, told fold by fold, and the same in a sweep as in a plain run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter

from views_dagster.errors import PanelError
from views_dagster.evaluation.backtest import backtest, summarise
from views_dagster.evaluation.folds import fold_score, panel_objective
from views_dagster.learners.base import Learner
from views_dagster.learners.registry import AnyLearner
from views_dagster.panel import Panel
from views_dagster.tuning.space import StartingPoint, SweepSettings, problems
from views_dagster.tuning.sweep import run_sweep
from views_dagster.tuning.worker import Sweep
from views_dagster_tests.evaluation.test_backtest import LastValue, panel
from views_dagster_tests.learners.panels import world

LEARNERS: TypeAdapter[Learner] = TypeAdapter(AnyLearner)
WRITTEN: Mapping[str, Any] = {
    "kind": "step_shift",
    "regressor": {"lightgbm": {"n_estimators": 5, "num_leaves": 4, "min_child_samples": 10}},
    "trained_steps": [1, 3],
}


def rows_of(known: Panel) -> pl.DataFrame:
    """The rows that make the panel."""
    month, unit = np.nonzero(known.exists)
    return pl.DataFrame(
        {
            "month_id": known.months[month],
            "unit_id": known.units[unit],
            known.target_name: known.target[month, unit],
            **{name: known.features[month, unit, place] for place, name in enumerate(known.feature_names)},
        }
    )


def plain_score(known: Panel, settings: Mapping[str, Any]) -> float:
    """What a plain run of the model says of its backtest."""
    learner = LEARNERS.validate_python(settings)
    return summarise(backtest(learner, known, model="a_model", level="cm", draws=20, seed=7))["crps"]


def test_score_by_hand() -> None:
    # From index 87, after 88 months, the forecast is y + 88 and the truth y + step: 87 and 76, for two units.
    told: list[tuple[int, float]] = []
    score = fold_score(
        LastValue(),
        panel(),
        draws=4,
        seed=1,
        origins_back=[12, 24],
        steps=[1, 12],
        report=lambda step, value: told.append((step, value)),
    )
    # From index 75, unit 5 is there at step 1 and gone at step 12: 75 for three units and 64 for two.
    earlier = (75 * 3 + 64 * 2) / 5
    both = (75 * 3 + 64 * 2 + 87 * 2 + 76 * 2) / 9
    assert [step for step, _ in told] == [0, 1]
    assert [value for _, value in told] == pytest.approx([earlier, both])
    assert score == told[1][1]


def test_score_is_the_backtests() -> None:
    known = world(110)
    learner = LEARNERS.validate_python(WRITTEN)
    assert fold_score(learner, known, draws=20, seed=7) == plain_score(known, WRITTEN)


def test_a_panel_without_folds_is_refused() -> None:
    with pytest.raises(PanelError, match="40 months hold no fold"):
        fold_score(LastValue(), panel(40), draws=4, seed=1)


def test_a_report_may_stop_the_folds() -> None:
    def stop(step: int, value: float) -> None:
        raise InterruptedError(f"{step}")

    # The second fold could not be fitted.
    with pytest.raises(InterruptedError, match="0"):
        fold_score(LastValue(), panel(), draws=4, seed=1, origins_back=[12, 24], report=stop)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_trial_scores_what_a_plain_run_scores(tmp_path: Path, parallel: int) -> None:
    known = world(110)
    rows_of(known).write_parquet(tmp_path / "panel.parquet")
    start = StartingPoint.of(LEARNERS.validate_python(WRITTEN))
    settings = SweepSettings.model_validate(
        {
            "trials": 4,
            "parallel": parallel,
            "pruner": {"kind": "none"},
            "space": {
                "regressor.lightgbm.learning_rate": {"low": 0.01, "high": 0.5, "log": True},
                "regressor.lightgbm.num_leaves": {"low": 2, "high": 8, "int": True},
                "trained_steps": {"choices": [[1], [1, 3], [1, 12]]},
                "own_history.share": {"low": 0.1, "high": 0.9},
            },
        }
    )
    assert problems(settings.space, start, LEARNERS) == []
    result = run_sweep(
        Sweep(
            study="a_model",
            storage_url=f"sqlite:///{tmp_path}/studies.db",
            settings=settings,
            start=start,
            objective="views_dagster.evaluation.folds:panel_objective",
            arguments={
                "panel": str(tmp_path / "panel.parquet"),
                "target": known.target_name,
                "features": list(known.feature_names),
                "draws": 20,
                "seed": 7,
            },
        ),
        log=lambda line: None,
    )
    assert [trial.error for trial in result.trials] == [None] * 4
    assert len({trial.score for trial in result.trials}) == 4
    for trial in result.trials:
        assert trial.score == plain_score(known, start.changed(trial.values))
        assert list(trial.reports) == [0, 1, 2]


def test_rows_that_are_no_panel_are_refused(tmp_path: Path) -> None:
    known = world(30)
    rows_of(known).drop("x1").write_parquet(tmp_path / "panel.parquet")
    with pytest.raises(PanelError, match="no column x1"):
        panel_objective(panel=str(tmp_path / "panel.parquet"), target="y", features=["x1"], draws=4, seed=1)
