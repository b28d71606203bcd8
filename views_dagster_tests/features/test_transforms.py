"""Each transform against values worked out by hand and a slow, obvious version; the past never sees the future."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from views_dagster.errors import QuerysetError
from views_dagster.features import transforms
from views_dagster.features.querysets import parse_step
from views_dagster.features.registry import TRANSFORMS, Neighbours, Number, transform

Series = Sequence[float | None]
_ = None


def applied(text: str, *units: Series, neighbours: Neighbours | None = None) -> list[list[float | None]]:
    """The transform of equally long series, one a unit."""
    months = len(units[0])
    frame = pl.DataFrame(
        {
            "unit_id": np.repeat(np.arange(len(units)), months),
            "month": np.tile(np.arange(months, dtype=np.int32), len(units)),
            "x": pl.Series([value for unit in units for value in unit], dtype=pl.Float64, strict=False),
        }
    )
    step = parse_step(text)
    result = frame.lazy().select(x=step.transform.apply(pl.col("x"), step.arguments, neighbours)).collect()["x"]
    assert result.dtype == pl.Float64
    return [result[start : start + months].to_list() for start in range(0, len(result), months)]


def assert_same(result: Series, expected: Series) -> None:
    """Equal up to rounding, with nulls in the same places and no NaN."""
    assert [value is None for value in result] == [value is None for value in expected]
    assert known(result) == pytest.approx(known(expected), rel=1e-9, abs=1e-9)


def known(values: Series) -> list[float]:
    return [value for value in values if value is not None]


@pytest.mark.parametrize(
    ("text", "series", "expected"),
    [
        ("replace_na(7)", [1, _, 0], [1, 7, 0]),
        ("replace_na", [1, _, 0], [1, 0, 0]),
        ("is_na", [1, _, 0], [0, 1, 0]),
        ("fill", [_, 3, _, _, 0, _], [_, 3, 3, 3, 0, 0]),
        ("ln", [0, math.e - 1, _, -1, -5], [0, 1, _, _, _]),
        ("gte(25)", [24, 25, 26, _], [0, 1, 1, _]),
        ("tlag(2)", [1, 2, _, 4], [_, _, 1, 2]),
        ("tlag(9)", [1, 2], [_, _]),
        ("delta(2)", [1, 2, 5, _, 9], [_, _, 4, _, 4]),
        ("delta", [1, 3, 6], [_, 2, 3]),
        ("moving_sum(3)", [1, 2, 4, 8, 16], [1, 3, 7, 14, 28]),
        ("moving_sum(2)", [_, 1, _, _, 4], [_, 1, 1, _, 4]),
        ("moving_average(3)", [1, 2, 6, 1], [1, 1.5, 3, 3]),
        ("moving_average(3)", [_, 4, _, 8, _, _, _], [_, 4, 4, 6, 8, 8, _]),
        ("rollmax(2)", [3, 1, 0, -4, -5], [3, 3, 1, 0, -4]),
        ("rollmax(2)", [_, _, 2, _, _], [_, _, 2, 2, _]),
        # The example in VIEWS' docstring: events 0 0 1 1 0 0 give . 1 2 0 0 1.
        ("time_since", [0, 0, 1, 1, 0, 0], [_, 1, 2, 0, 0, 1]),
        ("time_since", [5, 0, 0, 0], [_, 0, 1, 2]),
        ("time_since", [0, 0, 0], [_, 1, 2]),
        # Calendar months: the unknown one counts, and the month after it is unknown.
        ("time_since", [_, _, 5, _, 0, 0], [_, _, _, 0, _, 2]),
        ("decay(12)", [0, 12, 24, 6, _], [1, 0.5, 0.25, 2**-0.5, _]),
        ("onset(2)", [1, 1, 0, 1, 0, 0, 2, _], [1, 0, 0, 0, 0, 0, 1, _]),
        ("onset(1)", [0, 3, 0, 3, _, 3], [0, 1, 0, 1, _, 1]),
        ("mean", [2, 4, _, 0], [2, 3, 3, 2]),
        ("demean", [2, 4, _, 0], [0, 1, _, -2]),
        ("entropy(2)", [4, 4, 0, 0, _, 3, 1], [0, 1, 0, _, _, 0, 2 - 0.75 * math.log2(3)]),
        ("entropy(4)", [5, 5, 5, 5], [0, 1, math.log2(3), 2]),
        ("entropy(2, 1)", [0, 0, 1], [0, 1, math.log2(3) - 2 / 3]),
        ("entropy(2)", [3, -1, 5, 5], [0, _, _, 1]),
    ],
)
def test_hand_worked(text: str, series: Series, expected: Series) -> None:
    (result,) = applied(text, series)
    assert_same(result, expected)


def shares_entropy(window: list[float]) -> float | None:
    if not window or min(window) < 0 or sum(window) == 0:
        return None
    return sum(-v / sum(window) * math.log2(v / sum(window)) for v in window if v)


def slow_time_since(past: Series) -> float | None:
    before = past[:-1]
    if not before or before[-1] is None:
        return None
    events = [month for month, value in enumerate(before) if value]
    began = next(month for month, value in enumerate(before) if value is not None)
    return len(before) - 1 - (events[-1] if events else began - 1)


# Each transform from the definition of its last month, given everything up to it.
SLOW: dict[str, Callable[[Series], float | None]] = {
    "replace_na(3)": lambda past: 3 if past[-1] is None else past[-1],
    "is_na": lambda past: float(past[-1] is None),
    "fill": lambda past: (known(past) or [None])[-1],
    "ln": lambda past: None if past[-1] is None or past[-1] <= -1 else math.log(1 + past[-1]),
    "gte(2)": lambda past: None if past[-1] is None else float(past[-1] >= 2),
    "tlag(3)": lambda past: past[-4] if len(past) > 3 else None,
    "delta(3)": lambda past: None if len(past) < 4 or None in (past[-1], past[-4]) else past[-1] - past[-4],
    "moving_sum(5)": lambda past: sum(known(past[-5:])) if known(past[-5:]) else None,
    "moving_average(7)": lambda past: sum(known(past[-7:])) / len(known(past[-7:])) if known(past[-7:]) else None,
    "rollmax(6)": lambda past: max(known(past[-6:]), default=None),
    "time_since": slow_time_since,
    "decay(3)": lambda past: None if past[-1] is None else 0.5 ** (past[-1] / 3),
    "onset(3)": lambda past: None if past[-1] is None else float(past[-1] != 0 and not any(known(past[:-1][-3:]))),
    "mean": lambda past: sum(known(past)) / len(known(past)) if known(past) else None,
    "demean": lambda past: None if past[-1] is None else past[-1] - sum(known(past)) / len(known(past)),
    "entropy(4)": lambda past: shares_entropy(known(past[-4:])),
}
MONTHS = 24
series_of_a_unit = st.lists(st.one_of(st.none(), st.just(0), st.integers(-3, 40)), min_size=MONTHS, max_size=MONTHS)


def test_every_transform_has_a_slow_version() -> None:
    within_units = {name for name, transform in TRANSFORMS.items() if not transform.across_units}
    assert {parse_step(text).transform.name for text in SLOW} == within_units


@pytest.mark.parametrize("text", SLOW)
@settings(max_examples=30, deadline=None)
@given(units=st.lists(series_of_a_unit, min_size=1, max_size=3))
def test_agrees_with_the_slow_version(text: str, units: list[Series]) -> None:
    expected = [[SLOW[text](unit[: month + 1]) for month in range(MONTHS)] for unit in units]
    for result, wanted in zip(applied(text, *units), expected, strict=True):
        assert_same(result, wanted)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("text", SLOW)
@settings(max_examples=20, deadline=None)
@given(
    units=st.lists(series_of_a_unit, min_size=2, max_size=2),
    poison=st.sampled_from([None, 1e17, -1e17, math.inf, -math.inf]),
    cut=st.integers(1, MONTHS - 1),
)
def test_a_poisoned_future_changes_no_earlier_bit(
    text: str, units: list[Series], poison: float | None, cut: int
) -> None:
    poisoned = applied(text, *([*unit[:cut], *[poison] * (MONTHS - cut)] for unit in units))
    assert [unit[:cut] for unit in poisoned] == [unit[:cut] for unit in applied(text, *units)]


def test_units_are_transformed_apart_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "BLOCK", 3 * MONTHS)
    units = np.random.default_rng(1).poisson(0.3, (10, MONTHS)).astype(float).tolist()
    for text in SLOW:
        assert applied(text, *units) == [applied(text, unit)[0] for unit in units]


def test_no_rounding_residue_outlives_its_window() -> None:
    (result,) = applied("moving_sum(3)", [1e17, 0.1, 0.2, 0, 0, 0])
    assert result[3:] == [0.1 + 0.2, 0.2, 0]


@settings(max_examples=30, deadline=None)
@given(unit=series_of_a_unit, w=st.integers(1, 40))
def test_window_lengths(unit: Series, w: int) -> None:
    (total,) = applied(f"moving_sum({w})", unit)
    (largest,) = applied(f"rollmax({w})", unit)
    for month in range(MONTHS):
        window = known(unit[max(0, month - w + 1) : month + 1])
        assert total[month] == (sum(window) if window else None)
        assert largest[month] == max(window, default=None)


@settings(max_examples=30, deadline=None)
@given(unit=st.lists(st.integers(0, 3), min_size=2, max_size=MONTHS))
def test_time_since_counts_up_by_one_or_restarts(unit: Series) -> None:
    (result,) = applied("time_since", unit)
    for before, after in pairwise(result[1:]):
        assert after in (0, before + 1)


def test_countrylag_sums_over_known_neighbours() -> None:
    # Units 0 and 1 border each other, 2 borders both in the second month only, 3 borders none.
    rows = [(0, 2), (1, 3), (1, 5), (2, 0), (3, 1), (3, 5), (5, 1), (5, 3)]
    neighbours = Neighbours(*(np.array(side, dtype=np.int64) for side in zip(*rows, strict=True)))
    result = applied("countrylag", [1, 10], [_, 20], [5, _], [7, 7], neighbours=neighbours)
    assert result == [[_, 20], [1, 10], [0, 30], [0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tlag", r"tlag does not take 0 arguments; write tlag\(k\), k a whole number of months, 1 to 1200"),
        ("tlag(1, 2)", "does not take 2 arguments"),
        ("tlag(0)", "greater than or equal to 1"),
        ("tlag(-1)", "greater than or equal to 1"),
        ("tlag(1.5)", "valid integer"),
        ("moving_average(twelve)", "w is 'twelve'.*write moving_average"),
        ("decay(0)", "greater than 0"),
        ("gte(nan)", "valid number"),
        ("ln(2)", "ln does not take 1 arguments; write ln$"),
        ("entropy(3, -1)", r"write entropy\(w, offset=0\), w a whole .*, offset a number, 0 or more"),
        ("gte(1e999)", "finite number"),
    ],
)
def test_wrong_arguments_name_the_signature(text: str, message: str) -> None:
    with pytest.raises(QuerysetError, match=message):
        parse_step(text)


def test_a_new_transform_is_one_registered_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(x: pl.Expr, times: Number = 2.0) -> pl.Expr:
        """x times a number."""
        return x * times

    monkeypatch.setitem(TRANSFORMS, "doubled", TRANSFORMS["ln"])  # so that it is gone again after the test
    transform(doubled)
    assert applied("doubled", [1, _]) == [[2, _]]
    assert applied("doubled(3)", [1, _]) == [[3, _]]


def test_a_transform_without_docstring_is_refused() -> None:
    def nameless(x: pl.Expr) -> pl.Expr:
        return x

    with pytest.raises(TypeError, match="docstring"):
        transform(nameless)
    assert "nameless" not in TRANSFORMS
