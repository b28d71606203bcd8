"""How well a model did on unseen events: its scores beside those of the references, as a table and as pictures."""

from typing import Final

import numpy as np
import polars as pl

from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import FittedDiagnosis
from views_dagster.precipitation.learners.climatology import Climatology
from views_dagster.precipitation.learners.nwp import CalibratedNwp, Nwp
from views_dagster.precipitation.score_pictures import (
    event_strip,
    fss_by_scale,
    fss_by_threshold,
    reliability_diagram,
    skill_chart,
)
from views_dagster.precipitation.splits import Split
from views_dagster.precipitation.verification import Evaluation, evaluate

CLIMATOLOGY, NWP, CALIBRATED_NWP = "climatology", "nwp", "calibrated_nwp"
REFERENCES: Final = (CLIMATOLOGY, NWP, CALIBRATED_NWP)
"""What a model is compared with; the two NWPs where there are members."""

SCORE_SCHEMA: Final = {
    "month_id": pl.Int32(),
    "model": pl.String(),
    "reference": pl.String(),
    "score": pl.String(),
    "threshold": pl.Float64(),
    "neighbourhood": pl.Int64(),
    **dict.fromkeys(
        (
            "value",
            "low",
            "high",
            "reference_value",
            "difference",
            "difference_low",
            "difference_high",
            "skill",
            "skill_low",
            "skill_high",
            "share_better",
        ),
        pl.Float64(),
    ),
}


def scored_on_test(
    model: str, fitted: FittedDiagnosis, columns: Columns, sides: Split, grid: BoxGrid
) -> Evaluation | None:
    """Scores of a model and of the references on the test rows of a split; None where their rain is not known.

    References are fitted on the rows that trained the model.
    """
    test = columns.take(sides.test)
    if not len(test):
        return None
    train, validation = columns.take(sides.train), columns.take(sides.validation)
    said = {model: fitted.predict(test)}
    said[CLIMATOLOGY] = Climatology().fit(train, validation, seed=0).predict(test)
    members = {}
    if columns.members.shape[1] and all(np.isfinite(part.members).all() for part in (train, validation, test)):
        said[NWP] = Nwp().fit(train, validation, seed=0).predict(test)
        said[CALIBRATED_NWP] = CalibratedNwp().fit(train, validation, seed=0).predict(test)
        members[NWP] = test.members
    return evaluate(
        said,
        test,
        sides.event_of_row[sides.test],
        (grid.rows, grid.columns),
        references=[name for name in REFERENCES if name in said],
        members=members,
    )


def score_table(found: Evaluation | None, *, month: int, model: str) -> pl.DataFrame:
    """Rows of `SCORE_SCHEMA`: the model's scores (`reference` is null), and those of each reference beside it.

    The first row, `rows`, is how many rows were scored; it stands alone where the rain is not known.
    """
    mine = None if found is None else found.pooled.filter(pl.col("model") == model)
    rows = 0.0 if mine is None else float(mine.select(pl.col("rows").max()).item())
    first = pl.DataFrame({"month_id": [month], "model": [model], "score": ["rows"], "value": [rows]})
    parts = [first]
    if found is not None:
        parts += [
            frame.filter(pl.col("model") == model).with_columns(month_id=pl.lit(month))
            for frame in (found.pooled, found.skill)
        ]
    table = pl.concat(parts, how="diagonal_relaxed")
    return table.select(
        pl.col(name).cast(dtype) if name in table.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in SCORE_SCHEMA.items()
    )


def report_pictures(found: Evaluation, model: str, *, title: str) -> dict[str, bytes]:
    """Pictures of an evaluation, PNG by what they show."""
    shown = [model, *(name for name in REFERENCES if name in found.pooled["model"])]
    pictures = {
        "fss": fss_by_threshold(found.pooled, title=f"{title}: unseen events", models=shown),
        "fss_by_scale": fss_by_scale(found.pooled, title=f"{title}: by neighbourhood", models=shown),
        "reliability": reliability_diagram(found.reliability, title=f"{title}: reliability", models=shown),
        "events": event_strip(found.by_event, score="rps", title=f"{title}: event by event", models=shown),
    }
    for reference in REFERENCES:
        if reference in found.skill["reference"]:
            pictures[f"skill_against_{reference}"] = skill_chart(
                found.skill, reference=reference, title=f"{title}: skill against {reference}", models=[model]
            )
    return pictures
