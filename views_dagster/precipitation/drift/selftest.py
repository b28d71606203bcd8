"""The self-test: good months, perturbed once for each check, must make that check fire and no other.

Run it with the thresholds of production to see what they would still catch.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.drift.results import CheckResult
from views_dagster.precipitation import bands
from views_dagster.precipitation.drift.columns import check_columns
from views_dagster.precipitation.drift.diagnoses import DiagnosisSummary, check_diagnosis, check_performance
from views_dagster.precipitation.drift.perturbations import (
    HISTORY,
    MONTH,
    Perturbation,
    Suite,
    good_columns,
    good_diagnosis,
    good_scores,
    perturbations,
)
from views_dagster.precipitation.drift.settings import (
    ColumnDriftSettings,
    DiagnosisDriftSettings,
    PerformanceDriftSettings,
)
from views_dagster.precipitation.drift.summaries import ColumnSummary


def self_test(
    columns: ColumnDriftSettings | None = None,
    diagnosis: DiagnosisDriftSettings | None = None,
    performance: PerformanceDriftSettings | None = None,
) -> pl.DataFrame:
    """Run the suites on good data and on every perturbation of it.

    Returns:
        One row a perturbation and, first, one a suite on good data (`check` null): `suite`, `check`, `fault`, `fired`
        (the checks that failed, comma separated), `passed` (whether exactly the meant check failed; none on good data).
    """
    months = range(MONTH - HISTORY, MONTH)
    history = [ColumnSummary.of(good_columns(month), month, columns) for month in months]
    said = [DiagnosisSummary.of(good_diagnosis(month), month, bands.EDGES) for month in months]
    truth = good_columns(MONTH)
    due = pl.DataFrame({"valid_time": truth.valid_time.astype("datetime64[us]"), "box_id": truth.box_id})

    def results(trial: Perturbation) -> list[CheckResult]:
        if trial.suite == "columns":
            return check_columns(ColumnSummary.of(trial.columns(truth), MONTH, columns), history, columns)
        if trial.suite == "performance":
            return check_performance(trial.frame(good_scores()), MONTH, performance)
        references: dict[str, NDArray[np.floating]] = {"climatology": _history_mix(), "nwp": truth.fractions}
        forecast = trial.frame(good_diagnosis(MONTH))
        return check_diagnosis(forecast, MONTH, due, bands.EDGES, said, references, diagnosis)

    suites: tuple[Suite, ...] = ("columns", "diagnosis", "performance")
    rows = []
    for trial in [*(Perturbation(suite, "", "none") for suite in suites), *perturbations()]:
        fired = [result.name for result in results(trial) if not result.passed]
        rows.append(
            {
                "suite": trial.suite,
                "check": trial.check or None,
                "fault": trial.fault,
                "fired": ", ".join(fired),
                "passed": fired == ([trial.check] if trial.check else []),
            }
        )
    return pl.DataFrame(rows)


def _history_mix() -> NDArray[np.float64]:
    """(B,) mean fractions of the good history."""
    means = [good_columns(month).fractions.mean(axis=0) for month in range(MONTH - HISTORY, MONTH)]
    return np.asarray(np.mean(means, axis=0), dtype=np.float64)
