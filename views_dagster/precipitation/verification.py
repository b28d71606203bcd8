"""Verification of diagnoses on unseen events: all scores of all models on the same rows, as frames.

Rows without observed rain are left out. Scores are defined in `skill_scores`, windows in `neighbourhoods`, intervals in
`bootstrap`; what is drawn of an evaluation is in `pictures`.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.errors import ArtifactError, ForecastError, PanelError
from views_dagster.precipitation import bands
from views_dagster.precipitation.bootstrap import central_interval, resample_counts, share_above
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.base import Diagnosis
from views_dagster.precipitation.neighbourhoods import SIZES, window_sums
from views_dagster.precipitation.skill_scores import PERFECT, Array, ScoreName, Sums, all_scores, event_sums, ratio

RELIABILITY_EDGES: Final = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Edges of the bins of predicted exceedance fractions; half-open, but for the last, which holds 1."""

_FRAMES: Final = ("pooled", "by_event", "skill", "reliability", "band_mix")
_KEY: Final = {"score": pl.String, "threshold": pl.Float64, "neighbourhood": pl.Int64}


@dataclass(frozen=True)
class Evaluation:
    """All scores of all models. `threshold` is in mm/h, null for scores of whole rows; `neighbourhood` is the width
    of the window in boxes, null for scores of single boxes. Undefined scores are null.

    Attributes:
        pooled: `model`, `score`, `threshold`, `neighbourhood`, `value` over all events, ends `low` and `high` of its
            interval, `rows`, `events`.
        by_event: `model`, `event`, `score`, `threshold`, `neighbourhood`, `value`, `rows`.
        skill: `model`, `reference`, `score`, `threshold`, `neighbourhood`, `value`, `reference_value`; `difference`
            (value less reference_value) and `skill` (1 is perfect, 0 as good as the reference), each with `_low` and
            `_high` of paired resamples; `share_better`, the share of resamples in which the model is better.
        reliability: `model`, `threshold`, `bin_low`, `bin_high` of the predicted exceedance fraction, `rows` in the
            bin (their distribution is the sharpness), `predicted` and `observed` mean fraction of them.
        band_mix: `model`, `band`, mean `predicted` and `observed` fraction.
    """

    pooled: pl.DataFrame
    by_event: pl.DataFrame
    skill: pl.DataFrame
    reliability: pl.DataFrame
    band_mix: pl.DataFrame

    def metrics(self, model: str) -> dict[str, float]:
        """The defined pooled scores of one model as a tracker stores them: `rps`, `fss_0.5`, `fss_0.5_window_3`."""
        rows = self.pooled.filter(pl.col("model") == model, pl.col("value").is_not_null())
        found = {}
        for row in rows.iter_rows(named=True):
            threshold = "" if row["threshold"] is None else f"_{row['threshold']:g}"
            window = "" if row["neighbourhood"] is None else f"_window_{row['neighbourhood']}"
            found[f"{row['score']}{threshold}{window}"] = float(row["value"])
        return found

    def to_files(self) -> dict[str, bytes]:
        """The frames as Parquet files."""

        def parquet(frame: pl.DataFrame) -> bytes:
            buffer = io.BytesIO()
            frame.write_parquet(buffer, compression="zstd", statistics=False)
            return buffer.getvalue()

        return {f"{name}.parquet": parquet(getattr(self, name)) for name in _FRAMES}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Evaluation":
        """Undo `to_files`; ArtifactError where a file is absent or not readable."""
        try:
            return cls(**{name: pl.read_parquet(io.BytesIO(files[f"{name}.parquet"])) for name in _FRAMES})
        except (KeyError, pl.exceptions.PolarsError) as error:
            raise ArtifactError(f"the stored evaluation lacks a readable {error}; evaluate again") from error


def evaluate(
    diagnoses: Mapping[str, Diagnosis],
    columns: Columns,
    events: NDArray[Any],
    grid_shape: tuple[int, int],
    *,
    references: Sequence[str] = (),
    members: Mapping[str, NDArray[np.float32]] | None = None,
    neighbourhoods: Sequence[int] = SIZES,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Score models on the same rows.

    Args:
        diagnoses: by model, of all rows of `columns`.
        columns: N rows; those without observed rain are left out.
        events: (N,) id of each row's event, integers or strings; resamples are of whole events.
        grid_shape: rows and columns of the lattice, in which `columns.box_id` counts.
        references: models that the others are compared with.
        members: (N, M) box means of the models that are ensembles, mm/h; their CRPS is that of the members.
        neighbourhoods: widths of windows, in boxes.
        resamples, level, seed: of the bootstrap's intervals.

    Raises:
        ForecastError: no model, a diagnosis of another number of rows or bands, or a reference without a diagnosis.
        PanelError: no row was observed, event ids of another number of rows, members that are not finite, or a box
            twice at one time.
    """
    members = members or {}
    _check(diagnoses, columns, events, references, members)
    seen = np.flatnonzero(columns.observed)
    columns = columns.take(seen)
    ids, event = np.unique(events[seen], return_inverse=True)
    said = {
        name: Diagnosis(diagnosis.fractions[seen], diagnosis.rain_mean[seen]) for name, diagnosis in diagnoses.items()
    }
    observed = bands.exceedance(columns.fractions)
    exceeded = {name: bands.exceedance(diagnosis.fractions) for name, diagnosis in said.items()}
    windows = window_sums(
        list(exceeded.values()),
        observed,
        columns.box_id,
        columns.valid_time,
        event,
        len(ids),
        grid_shape,
        sizes=neighbourhoods,
    )
    centre = float(columns.rain_mean.mean(dtype=np.float64))
    sums = {
        name: replace(
            event_sums(
                diagnosis,
                columns.fractions,
                columns.rain_mean,
                event,
                len(ids),
                centre=centre,
                members=members[name][seen] if name in members else None,
            ),
            windows=windows[at],
        )
        for at, (name, diagnosis) in enumerate(said.items())
    }
    counts = resample_counts(len(ids), resamples, seed)
    kinds = [bands.names(columns.edges), columns.fractions.mean(axis=0, dtype=np.float64)]
    scored = {name: _Scored.of(each, counts, columns.edges, neighbourhoods) for name, each in sums.items()}
    return Evaluation(
        pooled=_pooled(scored, len(seen), len(ids), level),
        by_event=_by_event(scored, ids, next(iter(sums.values())).rows),
        skill=_skill(scored, references, len(ids), level),
        reliability=pl.concat(
            [reliability(values, observed, columns.edges, model=name) for name, values in exceeded.items()]
        ),
        band_mix=pl.concat(
            [
                pl.DataFrame(
                    {
                        "model": [name] * len(kinds[0]),
                        "band": kinds[0],
                        "predicted": diagnosis.fractions.mean(axis=0, dtype=np.float64),
                        "observed": kinds[1],
                    }
                )
                for name, diagnosis in said.items()
            ]
        ),
    )


def reliability(predicted: Array, observed: Array, edges: Sequence[float], *, model: str) -> pl.DataFrame:
    """Reliability and sharpness of exceedance fractions (N, T), as `Evaluation.reliability`; an empty bin has no means.

    A prediction is reliable where boxes of which it says p are, on average, covered to the share p.
    """
    bins = np.asarray(RELIABILITY_EDGES)
    count, thresholds = len(bins) - 1, len(edges)
    at = np.clip(np.searchsorted(bins, predicted, side="right") - 1, 0, count - 1)
    at += np.arange(thresholds) * count

    def summed(weights: Array | None) -> Array:
        flat = None if weights is None else weights.reshape(-1)
        return np.bincount(at.reshape(-1), weights=flat, minlength=count * thresholds).astype(np.float64)

    rows = summed(None)
    return pl.DataFrame(
        {
            "model": [model] * len(rows),
            "threshold": np.repeat(np.asarray(edges, dtype=np.float64), count),
            "bin_low": np.tile(bins[:-1], thresholds),
            "bin_high": np.tile(bins[1:], thresholds),
            "rows": rows.astype(np.int64),
            "predicted": ratio(summed(predicted), rows),
            "observed": ratio(summed(observed), rows),
        }
    ).fill_nan(None)


_Key = tuple[ScoreName, float | None, int | None]


@dataclass(frozen=True)
class _Scored:
    """Scores of one model: over all events (), by event (E,), by resample (R,)."""

    pooled: dict[_Key, Array]
    by_event: dict[_Key, Array]
    resampled: dict[_Key, Array]

    @classmethod
    def of(cls, sums: Sums, counts: Array, edges: Sequence[float], sizes: Sequence[int]) -> "_Scored":
        return cls(*(all_scores(each, edges, sizes) for each in (sums.total(), sums, sums.weighted(counts))))


def _pooled(scored: Mapping[str, _Scored], rows: int, events: int, level: float) -> pl.DataFrame:
    out = []
    for model, scores in scored.items():
        for key, value in scores.pooled.items():
            ends = central_interval(scores.resampled[key], level, events=events)
            out.append((model, *key, float(value), float(ends.low), float(ends.high), rows, events))
    schema = {
        "model": pl.String,
        **_KEY,
        **dict.fromkeys(("value", "low", "high"), pl.Float64),
        "rows": pl.Int64,
        "events": pl.Int64,
    }
    return pl.DataFrame(out, schema=schema, orient="row").fill_nan(None)


def _by_event(scored: Mapping[str, _Scored], ids: NDArray[Any], rows: Array) -> pl.DataFrame:
    per_event = pl.DataFrame({"event": ids, "rows": rows.astype(np.int64)})
    frames = []
    for model, scores in scored.items():
        for key, values in scores.by_event.items():
            named = [pl.lit(part, dtype).alias(name) for (name, dtype), part in zip(_KEY.items(), key, strict=True)]
            frames.append(
                per_event.select(
                    pl.lit(model).alias("model"), "event", *named, pl.lit(pl.Series("value", values)), "rows"
                )
            )
    return pl.concat(frames).fill_nan(None)


def _skill(scored: Mapping[str, _Scored], references: Sequence[str], events: int, level: float) -> pl.DataFrame:
    out = []
    for reference in references:
        base = scored[reference]
        for model, scores in scored.items():
            if model == reference:
                continue
            for key, value in scores.pooled.items():
                if key[0] == "frequency_bias":
                    continue
                perfect = PERFECT[key[0]]
                differences = scores.resampled[key] - base.resampled[key]
                skills = _skill_of(scores.resampled[key], base.resampled[key], perfect)
                apart, gained = (central_interval(each, level, events=events) for each in (differences, skills))
                better = share_above(differences if perfect else -differences, 0.0)
                out.append(
                    (
                        model,
                        reference,
                        *key,
                        *(float(v) for v in (value, base.pooled[key], value - base.pooled[key], apart.low, apart.high)),
                        float(_skill_of(value, base.pooled[key], perfect)),
                        float(gained.low),
                        float(gained.high),
                        float(better) if events > 1 else None,
                    )
                )
    numbers = ["value", "reference_value", "difference", "difference_low", "difference_high"]
    numbers += ["skill", "skill_low", "skill_high", "share_better"]
    schema = {"model": pl.String, "reference": pl.String, **_KEY, **dict.fromkeys(numbers, pl.Float64)}
    return pl.DataFrame(out, schema=schema, orient="row").fill_nan(None)


def _skill_of(value: Array, reference: Array, perfect: float) -> Array:
    """(value - reference) / (perfect - reference): undefined where the reference is perfect."""
    room = np.abs(perfect - reference)
    return ratio(np.sign(perfect - reference) * (value - reference), room)


def _check(
    diagnoses: Mapping[str, Diagnosis],
    columns: Columns,
    events: NDArray[Any],
    references: Sequence[str],
    members: Mapping[str, NDArray[np.float32]],
) -> None:
    due = (len(columns), len(columns.edges) + 1)
    if not diagnoses:
        raise ForecastError("there is no diagnosis to evaluate")
    for name, diagnosis in diagnoses.items():
        if diagnosis.fractions.shape != due:
            raise ForecastError(f"{name} has fractions {diagnosis.fractions.shape}, and the columns are {due}")
    absent = [name for name in (*references, *members) if name not in diagnoses]
    if absent:
        raise ForecastError(
            f"{', '.join(absent)} is a reference or has members, but no diagnosis; there are {', '.join(diagnoses)}"
        )
    if len(events) != len(columns):
        raise PanelError(f"{len(events)} event ids for {len(columns)} columns; give each row one")
    if not columns.observed.any():
        raise PanelError("the rain of no row was observed, so nothing can be scored; take months with rain")
    for name, values in members.items():
        seen = values[columns.observed] if len(values) == len(columns) else values
        if len(values) != len(columns) or not seen.size or not np.isfinite(seen).all():
            raise PanelError(f"the members of {name}, {values.shape}, are not one finite set for each of {due[0]} rows")
