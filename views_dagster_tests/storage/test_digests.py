"""Digests: equal for equal content however it is held, different for any difference in content."""

import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from views_dagster.storage.digests import combine, digest_frame, digest_months

KEYS = ("month_id", "unit_id")
FRAME = pl.DataFrame(
    {
        "month_id": pl.Series([121, 121, 122, 122], dtype=pl.Int32),
        "unit_id": pl.Series([1, 2, 1, 2], dtype=pl.Int64),
        "value": pl.Series([0.5, None, -1.0, 3.0], dtype=pl.Float64),
        "name": ["a", "", None, "dé"],
        "flag": [True, False, None, True],
        "draws": pl.Series([[1.0, 2.0], [], None, [0.0]], dtype=pl.List(pl.Float32)),
        "content": [b"\x00\x01", b"", None, b"x"],
        "near": pl.Series([[2, 3], [1], [], [1]], dtype=pl.List(pl.Int64)),
    }
)
BASE = digest_frame(FRAME, KEYS)

cells = st.one_of(st.none(), st.floats(allow_nan=False, width=32))
frames = st.lists(
    st.tuples(cells, st.one_of(st.none(), st.text(max_size=3)), st.lists(cells, max_size=3)), min_size=1, max_size=8
).map(
    lambda rows: pl.DataFrame(
        {
            "month_id": pl.Series([121 + i // 3 for i in range(len(rows))], dtype=pl.Int32),
            "unit_id": pl.Series(range(len(rows)), dtype=pl.Int64),
            "value": pl.Series([row[0] for row in rows], dtype=pl.Float32),
            "name": pl.Series([row[1] for row in rows], dtype=pl.String),
            "draws": pl.Series([row[2] for row in rows], dtype=pl.List(pl.Float32)),
        }
    )
)


@given(frames, st.randoms(use_true_random=False))
def test_order_of_rows_and_columns_and_chunks_do_not_count(frame: pl.DataFrame, random: Any) -> None:
    rows, columns = list(range(frame.height)), list(frame.columns)
    random.shuffle(rows)
    random.shuffle(columns)
    moved = pl.concat([frame[[row]] for row in rows], rechunk=False).select(columns)
    assert digest_frame(moved, KEYS) == digest_frame(frame, KEYS)
    assert digest_months(moved, KEYS) == digest_months(frame, KEYS)


@given(frames, frames)
def test_digests_are_equal_exactly_for_equal_content(left: pl.DataFrame, right: pl.DataFrame) -> None:
    # A zero's sign is content: -0.0 and 0.0 compare equal and are different bytes.
    same = left.equals(right) and str(left.to_dict(as_series=False)) == str(right.to_dict(as_series=False))
    held = [{c for c in frame.columns if frame[c].null_count() < frame.height} for frame in (left, right)]
    assert (digest_frame(left, KEYS) == digest_frame(right, KEYS)) == (same and held[0] == held[1])


def test_read_back_from_parquet_is_the_same(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "rows.parquet")
    assert digest_frame(pl.read_parquet(tmp_path / "rows.parquet"), KEYS) == BASE


@pytest.mark.parametrize(
    ("column", "values", "dtype"),
    [
        ("value", [0.5, None, -1.0, 3.0000000000000004], pl.Float64),
        ("value", [0.5, 0.0, -1.0, 3.0], pl.Float64),
        ("value", [None, 0.5, -1.0, 3.0], pl.Float64),
        ("value", [0.5, None, -1.0, 3.0], pl.Float32),
        ("name", ["a", None, "", "dé"], pl.String),
        ("name", ["", "a", None, "dé"], pl.String),
        ("flag", [True, False, False, True], pl.Boolean),
        ("flag", [True, None, False, True], pl.Boolean),
        ("draws", [[1.0], [2.0], None, [0.0]], pl.List(pl.Float32)),
        ("draws", [[1.0, 2.0], None, [], [0.0]], pl.List(pl.Float32)),
        ("draws", [[1.0, None], [], None, [0.0]], pl.List(pl.Float32)),
        ("draws", [[1.0, 2.0], [], None, [0.0]], pl.List(pl.Float64)),
        ("content", [b"\x00", b"\x01", None, b"x"], pl.Binary),
        ("near", [[2], [3, 1], [], [1]], pl.List(pl.Int64)),
        ("near", [[2, 3], [1], [], [1]], pl.List(pl.Int32)),
    ],
)
def test_any_change_of_value_type_or_null_counts(column: str, values: list[Any], dtype: Any) -> None:
    changed = FRAME.with_columns(pl.Series(column, values, dtype=dtype))
    assert digest_frame(changed, KEYS) != BASE


def test_names_count() -> None:
    assert digest_frame(FRAME.rename({"name": "label"}), KEYS) != BASE
    assert digest_frame(FRAME.rename({"name": "flag", "flag": "name"}), KEYS) != BASE


def test_a_column_without_a_value_does_not_count() -> None:
    """A table that once had a column reads null for it in months written without it."""
    assert digest_frame(FRAME.with_columns(old=pl.lit(None, pl.Float64)), KEYS) == BASE


@given(frames)
def test_the_digest_of_a_month_is_that_of_its_rows(frame: pl.DataFrame) -> None:
    months = frame["month_id"].unique().to_list()
    alone = {month: digest_frame(frame.filter(pl.col("month_id") == month), KEYS) for month in months}
    assert digest_months(frame, KEYS) == alone


def test_one_digest_of_several_months() -> None:
    assert combine({121: "aa"}) == "aa"
    assert combine({122: "bb", 121: "aa"}) == hashlib.sha256(b"121 aa\n122 bb").hexdigest()
    assert combine({121: "bb", 122: "aa"}) != combine({121: "aa", 122: "bb"})
