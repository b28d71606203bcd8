"""The output suites: may this month's diagnosis be used, is it like the others, and is it as good as it was?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.drift.results import CheckInfo, CheckResult
from views_dagster.drift.statistics import cohens_h
from views_dagster.errors import ForecastError
from views_dagster.precipitation import bands
from views_dagster.precipitation.column_arrays import padded
from views_dagster.precipitation.drift.rules import Rule, judge
from views_dagster.precipitation.drift.settings import DiagnosisDriftSettings, PerformanceDriftSettings

Array = NDArray[np.float64]

DIAGNOSIS_CHECKS: Final[Mapping[str, CheckInfo]] = {
    "complete": CheckInfo("Each box and valid time of the features has one row, and there are no others.", "error"),
    "fractions": CheckInfo("The fractions of each row are finite, not negative, one a band, and sum to 1.", "error"),
    "rain_mean": CheckInfo("The mean rain of each row is finite, not negative and possible.", "error"),
    "band_mix": CheckInfo("As much area is in each band as by the references (climatology, NWP).", "warning"),
    "sharpness": CheckInfo("Boxes are told apart as much as in earlier months.", "warning"),
}
PERFORMANCE_CHECKS: Final[Mapping[str, CheckInfo]] = {
    "score": CheckInfo("The month's score is not far above that of earlier months.", "error"),
    "skill": CheckInfo("The month's skill against the reference is not far below that of earlier months.", "warning"),
}

_DIAGNOSIS_RULES: Final = (
    Rule("complete", "overall", "absent_rows", error=0.0),
    Rule("complete", "overall", "repeated_rows", error=0.0),
    Rule("complete", "overall", "unasked_rows", error=0.0),
    Rule("fractions", "overall", "wrong_bands", error=0.0),
    Rule("fractions", "overall", "bad_fractions", error=0.0),
    Rule("fractions", "overall", "sum_error", error="sum_tolerance"),
    Rule("rain_mean", "overall", "bad_means", error=0.0),
    Rule("rain_mean", "overall", "highest_mean", error="rain_mean_error"),
    Rule("band_mix", "mix", "effect", "band_mix_warning", shown=("reference", "threshold", "said", "by_reference")),
    Rule("sharpness", "sharpness", "loss", limit="loss_limit", shown=("threshold", "spread", "lowest_before")),
)
_PERFORMANCE_RULES: Final = (
    Rule("score", "overall", "excess", "score_excess_warning", "score_excess_error", shown=("score", "usual_score")),
    Rule("skill", "overall", "fall", "skill_fall_warning", shown=("skill", "usual_skill")),
)
_KEYS: Final = ("valid_time", "box_id")


@dataclass(frozen=True)
class DiagnosisSummary:
    """One month of one model: standard deviation over rows of the fraction said to be at or above each edge, (T,)."""

    month: int
    spread: Array

    @classmethod
    def of(cls, forecast: pl.DataFrame, month: int, edges: tuple[float, ...]) -> "DiagnosisSummary":
        """Of a stored month; rows whose fractions are not finite are left out."""
        said = _fractions(forecast, edges)
        said = said[np.isfinite(said).all(axis=1)]
        return cls(month, bands.exceedance(said).std(axis=0) if len(said) else np.full(len(edges), np.nan))


def check_diagnosis(
    forecast: pl.DataFrame,
    month: int,
    due: pl.DataFrame,
    edges: tuple[float, ...],
    history: Sequence[DiagnosisSummary] = (),
    references: Mapping[str, NDArray[np.floating]] | None = None,
    settings: DiagnosisDriftSettings | None = None,
) -> list[CheckResult]:
    """Test the diagnosis of one model and month.

    Args:
        forecast: rows as they are stored: `valid_time`, `box_id`, `fractions` (lists), `rain_mean`.
        month: month id.
        due: `valid_time`, `box_id` of the rows that there must be.
        edges: of the bands, mm/h.
        history: earlier months of the same model; later ones and those before `history_months` are left out. A model
            that says the same of every box, as climatology may, was never sharp and is not tested for it.
        references: by name, (N, B) fractions of other models for the same month, or (B,) mean fractions.

    Returns:
        One result for each of `DIAGNOSIS_CHECKS`, in that order.

    Raises:
        ForecastError: a column is absent.
    """
    settings = settings or DiagnosisDriftSettings()
    absent = [name for name in (*_KEYS, "fractions", "rain_mean") if name not in forecast.columns]
    if absent:
        raise ForecastError(f"the diagnosis has no column {', '.join(absent)}; it has {', '.join(forecast.columns)}")
    said = _fractions(forecast, edges)
    finite = np.asarray(np.isfinite(said).all(axis=1))
    tables = {
        "overall": _overall(forecast, due, said, finite, edges),
        "mix": _mix(said[finite], references or {}, edges),
        "sharpness": _sharpness(DiagnosisSummary.of(forecast, month, edges), history, edges, settings),
    }
    return judge(DIAGNOSIS_CHECKS, _DIAGNOSIS_RULES, tables, settings, note="not evaluated: nothing to compare with")


def check_performance(
    scores: pl.DataFrame, month: int, settings: PerformanceDriftSettings | None = None
) -> list[CheckResult]:
    """Test the score of one model and month against the months before it.

    Args:
        scores: one row a month: `month_id`, `score` (of which less is better, such as the ranked probability score;
            null where the month could not be scored), `reference` (the same score of a reference on the same rows; null
            where there is none). Skill is 1 - score / reference: the weather of a month moves the score, and skill
            less.
        month: month id; later months are left out.

    Returns:
        One result for each of `PERFORMANCE_CHECKS`, in that order.
    """
    settings = settings or PerformanceDriftSettings()
    skill = pl.when(pl.col("reference") > 0).then(1 - pl.col("score") / pl.col("reference"))
    rows = scores.drop_nulls("score").with_columns(skill=skill)
    now = rows.filter(pl.col("month_id") == month)
    before = rows.filter(pl.col("month_id").is_between(month - settings.history_months, month - 1))
    figures: dict[str, float | None] = dict.fromkeys(
        ("score", "usual_score", "excess", "skill", "usual_skill", "fall"), None
    )
    usual = before["score"].drop_nulls().to_numpy()
    if now.height and len(usual) >= settings.min_history_months:
        median = float(np.median(usual))
        scale = max(1.4826 * float(np.median(np.abs(usual - median))), 0.1 * median, 1e-12)
        figures |= {"score": now["score"][0], "usual_score": median, "excess": (now["score"][0] - median) / scale}
    skilled = before["skill"].drop_nulls().to_numpy()
    if now.height and now["skill"][0] is not None and len(skilled) >= settings.min_history_months:
        median = float(np.median(skilled))
        figures |= {"skill": now["skill"][0], "usual_skill": median, "fall": median - now["skill"][0]}
    tables = {"overall": pl.DataFrame(figures, schema=dict.fromkeys(figures, pl.Float64), strict=False)}
    note = (
        f"not evaluated: {before.height} months of history" if now.height else "not evaluated: the month has no score"
    )
    return judge(PERFORMANCE_CHECKS, _PERFORMANCE_RULES, tables, settings, note=note)


def _fractions(forecast: pl.DataFrame, edges: tuple[float, ...]) -> NDArray[np.float32]:
    """(N, B), NaN in rows that have not one fraction for each band."""
    right = forecast["fractions"].list.len().fill_null(0).to_numpy() == len(edges) + 1
    said = np.full((forecast.height, len(edges) + 1), np.nan, dtype=np.float32)
    if right.any():
        said[right] = padded(forecast["fractions"].filter(pl.Series(right)), len(edges) + 1)
    return said


def _overall(
    forecast: pl.DataFrame,
    due: pl.DataFrame,
    said: NDArray[np.float32],
    finite: NDArray[np.bool_],
    edges: tuple[float, ...],
) -> pl.DataFrame:
    keys, wanted = (frame.select(_KEYS).unique() for frame in (forecast, due))
    mean = forecast["rain_mean"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    sized = forecast["fractions"].list.len().fill_null(0).to_numpy() == len(edges) + 1
    known = said[finite].astype(np.float64)
    right = np.isfinite(mean) & (mean >= 0)
    figures: dict[str, float | None] = {
        "absent_rows": float(wanted.join(keys, on=_KEYS, how="anti").height),
        "unasked_rows": float(keys.join(wanted, on=_KEYS, how="anti").height),
        "repeated_rows": float(forecast.height - keys.height),
        "wrong_bands": float((~sized).sum()),
        "bad_fractions": float((sized & ~finite).sum() + (known < 0).any(axis=1).sum()),
        "sum_error": float(np.abs(known.sum(axis=1) - 1).max()) if len(known) else None,
        "bad_means": float((~right).sum()),
        "highest_mean": float(mean[right].max()) if right.any() else None,
    }
    return pl.DataFrame(figures, schema=dict.fromkeys(figures, pl.Float64), strict=False)


def _mix(
    said: NDArray[np.float32], references: Mapping[str, NDArray[np.floating]], edges: tuple[float, ...]
) -> pl.DataFrame:
    """One row a reference and edge: the share of area at or above the edge by both, and Cohen's h between them."""
    schema = {"reference": pl.String, "threshold": pl.Float64}
    schema |= dict.fromkeys(("said", "by_reference", "effect"), pl.Float64)
    rows = []
    for name, fractions in references.items():
        if not len(said):
            continue
        other = bands.exceedance(np.atleast_2d(fractions)).mean(axis=0)
        own = bands.exceedance(said).mean(axis=0)
        effect = np.abs(cohens_h(own, other, other))
        rows += [(name, *map(float, row)) for row in zip(edges, own, other, effect, strict=True)]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _sharpness(
    month: DiagnosisSummary,
    history: Sequence[DiagnosisSummary],
    edges: tuple[float, ...],
    settings: DiagnosisDriftSettings,
) -> pl.DataFrame:
    """One row an edge: the part of the lowest earlier spread that was lost."""
    months = range(month.month - settings.history_months, month.month)
    recent = [each.spread for each in history if each.month in months and np.isfinite(each.spread).all()]
    lowest = np.full(len(edges), np.nan)
    if len(recent) >= settings.min_history_months:
        lowest = np.stack(recent).min(axis=0)
    # An edge that hardly any box reaches has no spread to speak of.
    lowest = np.where(lowest > 1e-3, lowest, np.nan)
    loss = np.maximum(1 - month.spread / lowest, 0.0)
    figures = {"spread": month.spread, "lowest_before": lowest, "loss": loss}
    frame = pl.DataFrame({"threshold": np.asarray(edges, dtype=np.float64)} | figures)
    return frame.with_columns(loss_limit=pl.lit(1 - settings.sharpness_warning)).fill_nan(None)
