"""What changed between two vintages, by hand and against a slow comparison with dicts."""

import math

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from views_dagster.storage.vintages import Revision, compare

KEYS = ("month_id", "event")
SCHEMA = {"month_id": pl.Int32, "event": pl.Int64, "best": pl.Float64, "place": pl.String}


def table(*rows: tuple[int, int, float | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_by_hand() -> None:
    old = table((121, 1, 5, "a"), (121, 2, 7, "b"), (121, 3, 1, "c"), (122, 9, 4, "z"))
    new = table((121, 1, 5, "a"), (121, 2, 10, "b"), (121, 4, 2, "d"), (122, 9, 4, "z"))
    assert compare(old, new, KEYS) == {
        121: Revision(added=1, dropped=1, revised=1, changes={"best": 17 - 13}),
        122: Revision(added=0, dropped=0, revised=0, changes={}),
    }


def test_a_change_that_leaves_the_sum_is_a_revision() -> None:
    old, new = table((121, 1, 5, "a"), (121, 2, 7, "b")), table((121, 1, 7, "a"), (121, 2, 5, "b"))
    assert compare(old, new, KEYS) == {121: Revision(added=0, dropped=0, revised=2, changes={})}


def test_text_and_nulls_count() -> None:
    old = table((121, 1, None, None), (121, 2, None, "b"), (121, 3, 3, "c"))
    new = table((121, 1, None, None), (121, 2, None, "B"), (121, 3, None, "c"))
    assert compare(old, new, KEYS) == {121: Revision(added=0, dropped=0, revised=2, changes={"best": -3})}


def test_a_new_month_is_all_added() -> None:
    assert compare(table(), table((121, 1, 5, "a")), KEYS) == {
        121: Revision(added=1, dropped=0, revised=0, changes={"best": 5})
    }


def test_a_new_column_revises_every_row() -> None:
    old = table((121, 1, 5, "a"), (121, 2, 7, "b"))
    new = old.with_columns(low=pl.lit(1.0))
    assert compare(old, new, KEYS)[121].revised == 2
    assert compare(new, old, KEYS)[121].revised == 2


values = st.one_of(st.none(), st.integers(-3, 3).map(float))
vintages = st.dictionaries(st.tuples(st.sampled_from([121, 122]), st.integers(0, 5)), st.tuples(values, st.text("ab")))


@given(vintages, vintages)
def test_against_a_slow_comparison(
    old: dict[tuple[int, int], tuple[float | None, str]], new: dict[tuple[int, int], tuple[float | None, str]]
) -> None:
    found = compare(*(table(*((*key, *row) for key, row in rows.items())) for rows in (old, new)), KEYS)
    for month in {key[0] for key in old.keys() | new.keys()}:
        before = {key for key in old if key[0] == month}
        after = {key for key in new if key[0] == month}
        total = sum(new[key][0] or 0 for key in after) - sum(old[key][0] or 0 for key in before)
        assert found[month].added == len(after - before)
        assert found[month].dropped == len(before - after)
        assert found[month].revised == sum(old[key] != new[key] for key in before & after)
        assert math.isclose(found[month].changes.get("best", 0.0), total)
    assert found.keys() == {key[0] for key in old.keys() | new.keys()}
