"""The table store: whole months, in one commit, with every older version readable."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from views_dagster.errors import DamagedTableError, MissingMonthsError
from views_dagster.storage.digests import digest_months
from views_dagster.storage.tables import TableStore

KEYS = ("month_id", "unit_id")
NOTE = {"digest": "abc"}


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(str(tmp_path / "not there" / "yet (1)"))


def rows(months: Iterable[int], value: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame(
        [(month, unit, value + unit, [value, month], f"{unit}") for month in months for unit in (1, 2, 3)],
        schema={
            "month_id": pl.Int32,
            "unit_id": pl.Int64,
            "value": pl.Float32,
            "draws": pl.List(pl.Float32),
            "name": pl.String,
        },
        orient="row",
    )


def read(store: TableStore, first: int = 0, last: int = 9999, version: int | None = None) -> pl.DataFrame:
    return store.scan("features/base", first, last, version).collect().sort(KEYS)


def test_what_is_written_is_read(store: TableStore) -> None:
    written = rows([121, 122, 123])
    store.write("features/base", written, [121, 122, 123], NOTE)
    assert_frame_equal(read(store), written, check_column_order=False)
    assert digest_months(read(store), KEYS) == digest_months(written, KEYS)
    assert store.months("features/base") == {121, 122, 123}
    assert store.exists("features/base")


def test_a_window_has_no_other_month(store: TableStore) -> None:
    store.write("features/base", rows(range(121, 130)), range(121, 130), NOTE)
    assert read(store, 123, 125)["month_id"].unique().to_list() == [123, 124, 125]


def test_nothing_written_is_nothing_there(store: TableStore) -> None:
    assert not store.exists("features/base")
    assert store.months("features/base") == frozenset()
    with pytest.raises(MissingMonthsError, match="features/base has never been materialised"):
        store.scan("features/base", 121, 122)


def test_older_vintages_stay_readable(store: TableStore) -> None:
    first = store.write("features/base", rows([121, 122], 1), [121, 122], NOTE)
    second = store.write("features/base", rows([122], 2), [122], NOTE)
    third = store.write("features/base", rows([123], 3), [123], NOTE)
    assert first < second < third
    assert_frame_equal(read(store, version=first), rows([121, 122], 1), check_column_order=False)
    assert_frame_equal(
        read(store, version=second), pl.concat([rows([121], 1), rows([122], 2)]), check_column_order=False
    )
    assert store.months("features/base", second) == {121, 122}
    assert store.months("features/base", third) == {121, 122, 123}


def test_the_version_returned_is_the_one_that_holds_the_rows(store: TableStore) -> None:
    for value in (1.0, 2.0, 3.0):
        version = store.write("features/base", rows([121], value), [121], NOTE)
        assert_frame_equal(read(store, version=version), rows([121], value), check_column_order=False)


def test_a_write_replaces_its_months_and_no_other(store: TableStore) -> None:
    store.write("features/base", rows(range(121, 126), 1), range(121, 126), NOTE)
    # Months with a hole between them: 123 must survive.
    store.write("features/base", rows([122, 124], 5).filter(pl.col("unit_id") == 1), [124, 122], NOTE)
    expected = pl.concat([rows([121, 123, 125], 1), rows([122, 124], 5).filter(pl.col("unit_id") == 1)]).sort(KEYS)
    assert_frame_equal(read(store), expected, check_column_order=False)


@pytest.mark.parametrize(
    ("months", "asked", "message"),
    [
        ([121], [121, 122, 124], "months without rows: 1990-02, 1990-04; rows of months not asked for: none"),
        ([121, 122, 123], [121], r"months without rows: none; rows of months not asked for: 1990-02\.\.1990-03"),
        ([], [121], "months without rows: 1990-01"),
    ],
)
def test_missing_or_surplus_months_are_refused(
    store: TableStore, months: list[int], asked: list[int], message: str
) -> None:
    with pytest.raises(MissingMonthsError, match=f"features/base: {message}"):
        store.write("features/base", rows(months), asked, NOTE)
    assert not Path(store.location).exists()


def test_a_refused_write_leaves_the_table_as_it_was(store: TableStore) -> None:
    version = store.write("features/base", rows([121, 122]), [121, 122], NOTE)
    files = set(Path(store.location).rglob("*"))
    with pytest.raises(MissingMonthsError):
        store.write("features/base", rows([121, 122], 9), [121], NOTE)
    assert store.open("features/base").version() == version
    assert set(Path(store.location).rglob("*")) == files


def test_notes_are_kept_with_the_commit(store: TableStore) -> None:
    store.write("features/base", rows([121]), [121], {"dagster_run_id": "r", "digest": "d"})
    newest = store.open("features/base").history(1)[0]
    assert (newest["dagster_run_id"], newest["digest"]) == ("r", "d")


def test_tables_never_nest(store: TableStore) -> None:
    for table in ("forecasts", "forecasts/a", "forecasts/b"):
        store.write(table, rows([121]), [121], NOTE)
    assert {path.name for path in Path(store.location).iterdir()} == {"forecasts", "forecasts.a", "forecasts.b"}
    assert store.months("forecasts/a") == {121}


def test_a_new_column_leaves_old_months_readable(store: TableStore) -> None:
    store.write("features/base", rows([121, 122]), [121, 122], NOTE)
    store.write("features/base", rows([122]).with_columns(extra=pl.lit(7.0)), [122], NOTE)
    found = read(store)
    assert found.filter(pl.col("month_id") == 121)["extra"].to_list() == [None] * 3
    assert found.filter(pl.col("month_id") == 122)["extra"].to_list() == [7.0] * 3
    assert digest_months(found, KEYS)[121] == digest_months(rows([121]), KEYS)[121]


def test_a_dropped_column_leaves_old_months_readable(store: TableStore) -> None:
    store.write("features/base", rows([121, 122]), [121, 122], NOTE)
    store.write("features/base", rows([122]).drop("value"), [122], NOTE)
    found = read(store)
    assert found.filter(pl.col("month_id") == 121)["value"].to_list() == [2.0, 3.0, 4.0]
    assert found.filter(pl.col("month_id") == 122)["value"].to_list() == [None] * 3
    assert digest_months(found, KEYS)[122] == digest_months(rows([122]).drop("value"), KEYS)[122]


@settings(max_examples=15, deadline=None)
@given(
    writes=st.lists(
        st.tuples(st.sets(st.integers(121, 126), min_size=1, max_size=4), st.integers(0, 100)), min_size=1, max_size=5
    )
)
def test_a_table_is_what_a_dict_of_months_would_be(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[set[int], int]]
) -> None:
    store = TableStore(str(tmp_path_factory.mktemp("tables")))
    held: dict[int, float] = {}
    snapshots: dict[int, dict[int, float]] = {}
    for months, value in writes:
        version = store.write("features/base", rows(sorted(months), value), sorted(months), NOTE)
        held |= dict.fromkeys(months, value)
        snapshots[version] = dict(held)
    for version, snapshot in snapshots.items():
        expected = pl.concat([rows([month], value) for month, value in sorted(snapshot.items())])
        assert_frame_equal(read(store, version=version), expected, check_column_order=False)


def test_a_rejected_month_stays_so_until_it_is_accepted(store: TableStore) -> None:
    store.write("raw/base", rows([529, 530]), [529, 530], NOTE)
    assert store.rejections("raw/base", 529, 530) == {}
    store.reject("raw/base", 530, "zeros")
    store.reject("raw/base", 530, "extremes")
    assert store.rejections("raw/base", 529, 530) == {530: "extremes"}
    assert store.rejections("raw/base", 529, 529) == {}
    assert store.months("raw/base") == {529, 530}
    store.accept("raw/base", 529, 529)
    assert store.rejections("raw/base", 529, 530) == {530: "extremes"}
    store.accept("raw/base", 529, 530)
    assert store.rejections("raw/base", 529, 530) == {}


def test_a_file_that_is_gone_or_cut_short_is_damage_of_its_month(store: TableStore) -> None:
    store.write("raw/base", rows([528, 529, 530]), [528, 529, 530], NOTE)
    assert store.damage("raw/base", 528, 530) == {}
    folder = Path(store.uri("raw/base"))
    (gone,) = folder.glob("month_id=528/*.parquet")
    gone.unlink()
    (cut,) = folder.glob("month_id=530/*.parquet")
    cut.write_bytes(cut.read_bytes()[:-1])
    assert store.damage("raw/base", 528, 530) == {528: f"{gone} is gone", 530: f"{cut} is damaged"}
    assert store.damage("raw/base", 529, 529) == {}


def test_a_table_without_its_log_names_itself(store: TableStore) -> None:
    store.write("raw/base", rows([529]), [529], NOTE)
    store.write("raw/base", rows([530]), [530], NOTE)
    Path(store.uri("raw/base"), "_delta_log", f"{0:020}.json").unlink()
    with pytest.raises(DamagedTableError, match=r"the log of .*raw\.base cannot be read"):
        store.open("raw/base")
