"""The IO manager through Dagster, with small assets that only store and look at rows."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from resources.storage import BEGINS, INVENTED, REVISIONS, ROW_KEYS, Storage
from views_dagster import calendar
from views_dagster.components.catalogue import HISTORY, MONTHS, WHOLE_RANGE, month_range
from views_dagster.components.lineage import ancestry
from views_dagster.errors import DamagedTableError, MissingMonthsError, MixedSourcesError
from views_dagster.storage.digests import digest_months
from views_dagster.storage.tables import TableStore
from views_dagster_tests.homes import RANGE_END, RANGE_START

KEYS = ("month_id", "unit_id")
Rows = Callable[[int], list[tuple[int, float]]]


def steady(month: int) -> list[tuple[int, float]]:
    return [(unit, float(month * 10 + unit)) for unit in (1, 2)]


class World:
    """Assets `raw/numbers` and `features/sums`: a month's total over all units and months so far.

    Attributes:
        begins: the first month of both, where they are younger than the calendar.
        invented: the sources of both that are of an invented world.
    """

    def __init__(self, folder: Path) -> None:
        self.begins: str | None = None
        self.invented: list[str] = []
        self.storage = Storage(location=str(folder))
        self.instance = dg.DagsterInstance.ephemeral()
        self.rows: Rows = steady
        self.seen: list[list[int]] = []

    @property
    def store(self) -> TableStore:
        return self.storage.store

    def assets(self) -> list[dg.AssetsDefinition]:
        about = {INVENTED: list(self.invented)} | ({} if self.begins is None else {BEGINS: self.begins})

        @dg.asset(
            key=["raw", "numbers"],
            partitions_def=MONTHS,
            backfill_policy=WHOLE_RANGE,
            metadata={ROW_KEYS: list(KEYS), REVISIONS: True, **about},
        )
        def numbers(context: dg.AssetExecutionContext) -> pl.DataFrame:
            first, last = month_range(context)
            rows = [(month, unit, value) for month in range(first, last + 1) for unit, value in self.rows(month)]
            return pl.DataFrame(
                rows, schema={"month_id": pl.Int32, "unit_id": pl.Int64, "value": pl.Float64}, orient="row"
            )

        @dg.asset(
            key=["features", "sums"],
            partitions_def=MONTHS,
            backfill_policy=WHOLE_RANGE,
            ins={"numbers": dg.AssetIn(key=["raw", "numbers"], partition_mapping=HISTORY)},
            metadata={ROW_KEYS: ["month_id"], **about},
        )
        def sums(context: dg.AssetExecutionContext, numbers: pl.LazyFrame) -> pl.DataFrame:
            first, last = month_range(context)
            rows = numbers.collect()
            self.seen.append(sorted(rows["month_id"].unique()))
            if rows.is_empty():
                return pl.DataFrame()
            totals = rows.group_by("month_id").agg(pl.col("value").sum()).sort("month_id")
            return totals.with_columns(pl.col("value").cum_sum()).filter(pl.col("month_id").is_between(first, last))

        return [numbers, sums]

    def run(
        self, select: str, month: str, until: str | None = None, *, raise_on_error: bool = True
    ) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            self.assets(),
            selection=select,
            resources={"io_manager": self.storage},
            instance=self.instance,
            partition_key=month if until is None else None,
            tags=None if until is None else {RANGE_START: month, RANGE_END: until},
            raise_on_error=raise_on_error,
        )

    def recorded(self, table: str, month: str) -> dict[str, Any]:
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey.from_user_string(table), asset_partitions=[month]), limit=1
        ).records
        found = records[0].asset_materialization
        assert found is not None
        return {name: value.value for name, value in found.metadata.items()} | dict(found.tags or {})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "tables")


NUMBERS, SUMS = "key:raw/numbers", "key:features/sums"


def test_a_consumer_gets_the_months_up_to_its_own(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-06")
    world.run(SUMS, "1990-04")
    assert world.seen == [[121, 122, 123, 124]]
    expected = sum(10 * month * 2 + 3 for month in range(121, 125))
    assert world.store.scan("features/sums", 0, 9999).collect().rows() == [(124, expected)]


def test_a_range_gets_the_months_up_to_its_last(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-06")
    world.run(SUMS, "1990-02", "1990-05")
    assert world.seen == [[121, 122, 123, 124, 125]]
    assert world.store.months("features/sums") == {122, 123, 124, 125}


def test_the_first_month_has_no_earlier_one(world: World) -> None:
    world.run(f"{NUMBERS} or {SUMS}", "1990-01")
    assert world.seen == [[121]]


def test_garbage_in_later_months_changes_nothing(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-12")
    world.run(SUMS, "1990-06")
    before = world.recorded("features/sums", "1990-06")["digest"]
    world.rows = lambda month: [(unit, float("nan")) for unit in range(500)]
    world.run(NUMBERS, "1990-07", "1990-12")
    world.run(SUMS, "1990-06")
    assert world.recorded("features/sums", "1990-06")["digest"] == before
    assert world.seen[-1] == list(range(121, 127))


def test_a_range_is_one_commit(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-12")
    version = world.store.open("raw/numbers").version()
    world.run(NUMBERS, "1990-01", "1991-12")
    assert world.store.open("raw/numbers").version() == version + 1


def test_an_invented_and_the_real_world_share_no_table(world: World) -> None:
    world.invented = ["numbers"]
    world.run(f"{NUMBERS} or {SUMS}", "1990-01", "1990-06")
    world.invented = []
    for select, month in ((NUMBERS, "1990-07"), (NUMBERS, "1990-06"), (SUMS, "1990-06")):
        with pytest.raises(MixedSourcesError, match=r"invented numbers.* real sources(?s:.*)1990-01...1990-06"):
            world.run(select, month)
    assert world.store.months("raw/numbers") == world.store.months("features/sums") == set(range(121, 127))
    world.run(f"{NUMBERS} or {SUMS}", "1990-01", "1990-07")
    world.run(f"{NUMBERS} or {SUMS}", "1990-08")
    world.invented = ["numbers"]
    with pytest.raises(MixedSourcesError, match=r"made from real sources.* the invented numbers"):
        world.run(SUMS, "1990-08")


def offered_command(error: MissingMonthsError) -> tuple[str, list[str]]:
    """Selection and months of the command that the error's last line offers."""
    words = shlex.split(str(error).splitlines()[-1])
    assert words[:3] == ["dagster", "asset", "materialize"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    ((option, months),) = ((name, value) for name, value in options.items() if name != "--select")
    # Dagster's command line refuses ranges of assets that are not backfilled in a single run.
    assert option == ("--partition-range" if "..." in months else "--partition")
    return options["--select"], months.split("...")


@pytest.mark.parametrize(
    ("present", "lacking", "offered"),
    [
        ([], r"1990-01..1990-06", ["1990-01", "1990-06"]),
        ([("1990-01", "1990-05")], "1990-06", ["1990-06"]),
        ([("1990-01", "1990-02"), ("1990-05", "1990-06")], "1990-03..1990-04", ["1990-03", "1990-04"]),
        ([("1990-02", "1990-03"), ("1990-05", "1990-06")], "1990-01, 1990-04", ["1990-01", "1990-04"]),
    ],
    ids=["nothing", "newest", "hole", "holes"],
)
def test_missing_months_are_named_with_the_command_that_makes_them(
    world: World, present: list[tuple[str, str]], lacking: str, offered: list[str]
) -> None:
    for first, last in present:
        world.run(NUMBERS, first, last)
    with pytest.raises(MissingMonthsError, match=f"raw/numbers lacks {re.escape(lacking)}, which") as caught:
        world.run(SUMS, "1990-06")
    assert not world.store.exists("features/sums")
    selection, months = offered_command(caught.value)
    assert months == offered

    assert world.run(selection, *months).success
    assert world.run(SUMS, "1990-06").success


def test_what_is_recorded_is_what_is_stored(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-03")
    stored = world.store.scan("raw/numbers", 0, 9999).collect()
    digests = digest_months(stored, KEYS)
    for month_id in (121, 122, 123):
        recorded = world.recorded("raw/numbers", calendar.to_key(month_id))
        assert recorded["digest"] == digests[month_id]
        assert recorded["dagster/partition_row_count"] == 2
        assert recorded["table_version"] == world.store.open("raw/numbers").version()


def test_the_data_version_of_a_month_is_its_digest(world: World) -> None:
    world.run(NUMBERS, "1990-02")
    recorded = world.recorded("raw/numbers", "1990-02")
    assert recorded["dagster/data_version"] == recorded["digest"]


def test_what_was_read_is_recorded_and_can_be_read_again(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-03")
    world.run(SUMS, "1990-03")
    total = world.store.scan("features/sums", 123, 123).collect()["value"][0]
    read = world.recorded("features/sums", "1990-03")["read"]
    assert read["raw/numbers"]["months"] == "1990-01..1990-03"
    world.rows = lambda month: [(1, 0.0)]
    world.run(NUMBERS, "1990-01", "1990-03")
    vintage = world.store.scan("raw/numbers", 121, 123, read["raw/numbers"]["version"]).collect()
    assert vintage["value"].sum() == total


def test_a_month_made_again_says_what_changed(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-02")
    assert "rows_added" not in world.recorded("raw/numbers", "1990-02")
    world.rows = lambda month: [(2, 1222.5), (3, 7.0)] if month == 122 else steady(month)
    world.run(NUMBERS, "1990-01", "1990-03")
    figures = ("rows_added", "rows_dropped", "rows_revised", "sums_changed")
    found = {key: world.recorded("raw/numbers", key) for key in ("1990-01", "1990-02", "1990-03")}
    assert [found["1990-01"][name] for name in figures] == [0, 0, 0, {}]
    # Before: units 1 and 2 with 1221 and 1222.
    assert [found["1990-02"][name] for name in figures] == [1, 1, 1, {"value": 1222.5 + 7 - 1221 - 1222}]
    assert "rows_added" not in found["1990-03"]


def test_the_same_month_again_has_the_same_digest_here_and_elsewhere(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "another" / "machine")
    other.rows = lambda month: steady(month)[::-1]
    digests = []
    for where in (world, world, other):
        where.run(f"{NUMBERS} or {SUMS}", "1990-01", "1990-04")
        digests.append({key: where.recorded(key, "1990-03")["digest"] for key in ("raw/numbers", "features/sums")})
    assert digests[0] == digests[1] == digests[2]


def test_rows_of_another_month_are_not_stored(world: World) -> None:
    world.run(NUMBERS, "1990-01")
    before = world.store.open("raw/numbers").version()
    world.rows = lambda month: []
    with pytest.raises(MissingMonthsError, match="months without rows: 1990-02"):
        world.run(NUMBERS, "1990-02")
    assert world.store.open("raw/numbers").version() == before


def test_a_consumer_reads_one_version_of_its_input(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that another run writes while a step computes do not reach it."""
    world.run(NUMBERS, "1990-01", "1990-02")
    expected = world.store.scan("raw/numbers", 0, 9999).collect()["value"].sum()
    load = Storage.load_input

    def load_then_rewrite(self: Storage, context: dg.InputContext) -> pl.LazyFrame:
        frame = load(self, context)
        garbage = frame.collect().with_columns(value=pl.lit(-1.0))
        self.store.write("raw/numbers", garbage, [121, 122], {})
        return frame

    monkeypatch.setattr(Storage, "load_input", load_then_rewrite)
    world.run(SUMS, "1990-02")
    assert world.store.scan("features/sums", 122, 122).collect()["value"].to_list() == [expected]


def test_a_rejected_month_is_built_on_by_no_month_that_sees_it(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-03")
    world.store.reject("raw/numbers", calendar.from_key("1990-02"), "input zeros")
    for month in ("1990-02", "1990-03"):
        failed = world.run(SUMS, month, raise_on_error=False)
        assert not failed.success
    assert not world.store.exists("features/sums")
    world.run(SUMS, "1990-01")
    world.store.accept("raw/numbers", *[calendar.from_key("1990-02")] * 2)
    world.run(SUMS, "1990-03")
    assert world.store.months("features/sums") == {121, 123}


def test_making_a_range_again_takes_back_the_rejections_that_no_check_will(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-03")
    for month in (122, 123):
        world.store.reject("raw/numbers", month, "input zeros")
    world.run(NUMBERS, "1990-01", "1990-03")
    assert world.store.rejections("raw/numbers", 121, 123) == {123: "input zeros"}


def test_a_month_whose_file_is_lost_is_named_and_can_be_made_again(world: World) -> None:
    world.run(NUMBERS, "1990-01", "1990-02")
    (file,) = Path(world.store.uri("raw/numbers")).glob("month_id=122/*.parquet")
    file.unlink()
    with pytest.raises(DamagedTableError, match=r"raw/numbers of 1990-02: .* is gone"):
        world.run(SUMS, "1990-02")
    world.run(NUMBERS, "1990-02")
    world.run(SUMS, "1990-02")
    assert world.store.months("features/sums") == {122}


def test_what_was_made_from_the_same_rows_before_they_were_made_again_is_not_older(world: World) -> None:
    world.run(NUMBERS, "1990-01")
    world.run(SUMS, "1990-01")
    world.run(NUMBERS, "1990-01")
    made_from = ancestry(world.instance, {"features/sums"}, "1990-01")
    assert made_from["raw/numbers"]["table_version"] > made_from["features/sums"]["read"]["raw/numbers"]["version"]


def test_what_was_made_from_an_older_vintage_is_refused(world: World) -> None:
    world.run(NUMBERS, "1990-01")
    world.run(SUMS, "1990-01")
    assert set(ancestry(world.instance, {"features/sums"}, "1990-01")) == {"features/sums", "raw/numbers"}
    world.rows = lambda month: [(1, 0.0)]
    world.run(NUMBERS, "1990-01")
    with pytest.raises(MissingMonthsError, match=r"features/sums of 1990-01 was made from an older raw/numbers"):
        ancestry(world.instance, {"features/sums"}, "1990-01")


@pytest.fixture
def younger(world: World) -> World:
    """A world that begins in 1990-04, whose sources give those months alone."""
    world.begins = "1990-04"
    world.rows = lambda month: steady(month) if month >= 124 else []
    return world


@pytest.mark.parametrize(("first", "last"), [("1990-01", "1990-03"), ("1990-03", None)], ids=["range", "month"])
def test_months_before_an_asset_begins_store_nothing(younger: World, first: str, last: str | None) -> None:
    assert younger.run(f"{NUMBERS} or {SUMS}", first, last).success
    assert younger.seen == [[]]
    assert not younger.store.exists("raw/numbers")
    assert not younger.store.exists("features/sums")
    recorded = younger.recorded("raw/numbers", "1990-03")
    assert recorded["begins"] == "1990-04"
    assert not {"digest", "table_version", "dagster/partition_row_count"} & recorded.keys()


def test_of_a_range_the_months_that_there_are_get_stored(younger: World) -> None:
    younger.run(f"{NUMBERS} or {SUMS}", "1990-01", "1990-05")
    assert younger.store.months("raw/numbers") == younger.store.months("features/sums") == {124, 125}
    assert younger.recorded("raw/numbers", "1990-05")["dagster/partition_row_count"] == 2
    assert "dagster/partition_row_count" not in younger.recorded("raw/numbers", "1990-02")


def test_a_consumer_of_the_past_gets_the_months_that_there_are(younger: World) -> None:
    younger.run(NUMBERS, "1990-01", "1990-06")
    younger.run(SUMS, "1990-05")
    assert younger.seen == [[124, 125]]
    assert younger.recorded("features/sums", "1990-05")["read"]["raw/numbers"]["months"] == "1990-04..1990-05"


def test_months_that_never_were_are_not_missing(younger: World) -> None:
    with pytest.raises(MissingMonthsError, match=r"raw/numbers lacks 1990-04\.\.1990-05, which") as caught:
        younger.run(SUMS, "1990-05")
    assert offered_command(caught.value)[1] == ["1990-04", "1990-05"]


def test_rows_of_months_before_an_asset_begins_are_not_stored(younger: World) -> None:
    younger.rows = steady
    with pytest.raises(MissingMonthsError, match=r"rows of months not asked for: 1990-01\.\.1990-03"):
        younger.run(NUMBERS, "1990-01", "1990-05")
    assert not younger.store.exists("raw/numbers")
