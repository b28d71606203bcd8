import hashlib
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from views_dagster.calendar import from_key
from views_dagster.conflict.ucdp_files import UcdpFiles, check_totals, read_totals
from views_dagster.errors import SourceError
from views_dagster_tests.conflict.events import as_published, events, row

OCTOBER = from_key("2023-10")


def _zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.csv", content)
    return path


def _csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


@pytest.fixture(scope="module")
def candidate(shared_data: Path) -> Path:
    return shared_data / "conflict/ged_candidate_23_0_10.parquet"


@pytest.fixture(scope="module")
def published(candidate: Path) -> bytes:
    """The real Candidate release as a csv of 49 columns."""
    return _csv(as_published(pl.read_parquet(candidate)))


def test_csv_zip_and_parquet_give_the_same_rows(candidate: Path, published: bytes, tmp_path: Path) -> None:
    assert b'"A ""reliable"", second-hand report\nof 3, perhaps 4, dead"' in published
    csv = tmp_path / "GEDEvent_v23_0_10.csv"
    csv.write_bytes(published)
    bom = tmp_path / "bom_23_0_10.csv"
    bom.write_bytes(b"\xef\xbb\xbf" + published)
    zipped = _zip(tmp_path / "GEDEvent_v23_0_10.zip", GEDEvent_v23_0_10=published)
    expected = UcdpFiles(candidates=(candidate,)).read(OCTOBER, OCTOBER).frame
    for path in (csv, bom, zipped):
        assert UcdpFiles(candidates=(path,)).read(OCTOBER, OCTOBER).frame.equals(expected)


def test_the_real_candidate_release_by_hand(candidate: Path) -> None:
    """Dated by start, October lacks the 33 late events; split by day, it has its days of all 2,391."""
    raw = pl.read_parquet(candidate)
    in_october = raw.filter(pl.col("date_start").dt.month() == 10)
    by_start = UcdpFiles(candidates=(candidate,), dating="start").read(OCTOBER, OCTOBER)
    assert by_start.frame.height == in_october.height == 2358
    assert by_start.frame["best"].sum() == in_october["best"].sum()
    assert by_start.repairs["late_events"] == 0
    by_day = UcdpFiles(candidates=(candidate,)).read(OCTOBER, OCTOBER)
    assert by_day.frame.height == 2391
    assert by_day.frame.filter(pl.col("share") < 1).height == 64
    assert by_day.repairs["ends_after_release"] == 31


def test_provenance_names_files_versions_and_digests_but_no_folder(candidate: Path) -> None:
    provenance = UcdpFiles(candidates=(candidate,)).read(OCTOBER, OCTOBER).provenance
    digest = hashlib.sha256(candidate.read_bytes()).hexdigest()
    assert provenance == {"ged_candidate_23_0_10.parquet": f"UCDP GED 23.0.10, 2391 events, sha256 {digest}"}


def test_all_months_of_the_annual_subset_in_one_read(shared_data: Path) -> None:
    path = shared_data / "conflict/ged_events.parquet"
    raw = pl.read_parquet(path)
    months = UcdpFiles(annual=path).read(from_key("1989-01"), from_key("2020-12"))
    assert months.frame.height == raw.height
    assert months.frame["best"].sum() == raw["best"].cast(pl.Int64).sum()
    assert months.repairs["bounds_widened"] == 1462
    assert UcdpFiles(annual=path).latest_month() == from_key("2020-12")


def test_the_annual_subset_as_csv_and_as_zip(shared_data: Path, tmp_path: Path) -> None:
    raw = pl.read_parquet(shared_data / "conflict/ged_events.parquet").filter(pl.col("year") >= 2019)
    raw.write_parquet(tmp_path / "ged.parquet")
    (tmp_path / "ged.csv").write_bytes(_csv(raw))
    _zip(tmp_path / "ged.zip", ged=_csv(raw))
    first, last = from_key("2019-01"), from_key("2020-12")
    expected = UcdpFiles(annual=tmp_path / "ged.parquet").read(first, last).frame
    for name in ("ged.csv", "ged.zip"):
        assert UcdpFiles(annual=tmp_path / name).read(first, last).frame.equals(expected)


def _write(folder: Path, name: str, *ids_and_starts: tuple[int, date]) -> Path:
    path = folder / name
    path.write_bytes(_csv(pl.DataFrame([row(id=number, date_start=start) for number, start in ids_and_starts])))
    return path


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """An annual release of 2023 and the Candidate releases of January and March 2024."""
    _write(tmp_path, "GEDEvent_v24_1.csv", *((month, date(2023, month, 3)) for month in range(1, 13)))
    _write(tmp_path, "GEDEvent_v24_0_1.csv", (101, date(2024, 1, 3)))
    _write(tmp_path, "GEDEvent_v24_0_3.csv", (103, date(2024, 3, 3)))
    return tmp_path


def test_candidates_by_glob_go_on_from_the_annual_release(releases: Path) -> None:
    reader = UcdpFiles(annual=releases / "GEDEvent_v24_1.csv", candidates=str(releases / "GEDEvent_v*_0_*.csv"))
    months = reader.read(from_key("2023-11"), from_key("2024-01"))
    assert months.frame["id"].to_list() == [11, 12, 101]
    assert sorted(months.provenance) == ["GEDEvent_v24_0_1.csv", "GEDEvent_v24_0_3.csv", "GEDEvent_v24_1.csv"]
    assert reader.latest_month() == from_key("2024-03")


def test_a_month_between_candidate_releases_is_not_taken_for_an_empty_one(releases: Path) -> None:
    reader = UcdpFiles(annual=releases / "GEDEvent_v24_1.csv", candidates=str(releases / "*_0_*.csv"))
    with pytest.raises(SourceError, match=r"covers 2024-02; those at hand cover 1989-01..2024-01, 2024-03"):
        reader.read(from_key("2024-01"), from_key("2024-03"))


def test_months_of_the_annual_release_need_no_candidate(releases: Path) -> None:
    (releases / "GEDEvent_v24_0_1.csv").write_text("damaged")
    reader = UcdpFiles(annual=releases / "GEDEvent_v24_1.csv", candidates=str(releases / "*_0_*.csv"))
    assert list(reader.read(from_key("2023-12"), from_key("2023-12")).provenance) == ["GEDEvent_v24_1.csv"]
    with pytest.raises(SourceError, match=r"GEDEvent_v24_0_1.csv"):
        reader.read(from_key("2024-01"), from_key("2024-01"))


def test_home_and_relative_paths(releases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(releases))
    monkeypatch.chdir(releases)
    for annual, candidates in (
        ("~/GEDEvent_v24_1.csv", "~/*_0_1.csv"),
        ("GEDEvent_v24_1.csv", ["GEDEvent_v24_0_1.csv"]),
        ("GEDEvent_v24_1.csv", "GEDEvent_v24_0_1.csv"),
    ):
        reader = UcdpFiles.model_validate({"annual": annual, "candidates": candidates})
        assert reader.read(from_key("2024-01"), from_key("2024-01")).frame["id"].to_list() == [101]


def test_a_candidate_file_that_is_not_there_yet_is_not_the_newest_month(releases: Path) -> None:
    reader = UcdpFiles(candidates=(releases / "GEDEvent_v24_0_3.csv", releases / "GEDEvent_v24_0_4.csv"))
    assert reader.latest_month() == from_key("2024-03")
    assert UcdpFiles(candidates=str(releases / "none_*.csv")).latest_month() is None


def test_an_empty_configuration_is_refused() -> None:
    with pytest.raises(ValidationError, match="annual release, candidates, or both"):
        UcdpFiles()
    with pytest.raises(ValidationError, match="totals are compared with the annual release"):
        UcdpFiles(candidates="*.csv", totals=Path("totals.csv"))


Spoil = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(lambda _: b"", "is empty", id="no bytes"),
        pytest.param(lambda csv: csv[: csv.index(b"\n") + 1], "has no rows", id="header only"),
        pytest.param(lambda _: b"<html>502</html>\n", "none of the expected columns", id="a web page"),
        pytest.param(lambda csv: csv.replace(b",best,", b",best_est,"), "has no column best", id="renamed column"),
        pytest.param(lambda csv: csv.replace(b"2023-10-02 00", b"02.10.2023 00"), "date_start holds", id="other dates"),
        pytest.param(lambda csv: csv.replace(b"Afghanistan", b"Afgh\xe9nistan"), "cannot be read", id="not UTF-8"),
        pytest.param(lambda csv: csv[: csv.index(b"\n492699,") + 40], "have no date_start", id="cut short"),
    ],
)
def test_a_damaged_csv_is_named(published: bytes, tmp_path: Path, spoil: Spoil, problem: str) -> None:
    path = tmp_path / "GEDEvent_v23_0_10.csv"
    path.write_bytes(spoil(published))
    with pytest.raises(SourceError, match=rf"GEDEvent_v23_0_10.csv.*{problem}"):
        UcdpFiles(candidates=(path,)).read(OCTOBER, OCTOBER)


def test_a_damaged_parquet_or_zip_is_named(published: bytes, tmp_path: Path) -> None:
    for suffix in ("parquet", "zip"):
        path = tmp_path / f"ged_23_0_10.{suffix}"
        path.write_bytes(published)
        with pytest.raises(SourceError, match=rf"ged_23_0_10.{suffix} cannot be read"):
            UcdpFiles(candidates=(path,)).read(OCTOBER, OCTOBER)


def test_a_zip_must_hold_one_csv(tmp_path: Path, published: bytes) -> None:
    path = _zip(tmp_path / "ged_23_0_10.zip", one=published, two=published)
    with pytest.raises(SourceError, match="holds 2 csv files, expected exactly one"):
        UcdpFiles(candidates=(path,)).read(OCTOBER, OCTOBER)


@pytest.mark.parametrize(
    ("field", "name", "problem"),
    [
        ("annual", "GEDEvent_v24_0_1.csv", "configure it under candidates"),
        ("candidates", "GEDEvent_v24_1.csv", "configure it under annual"),
        ("candidates", "events.csv", "holds no version|name it as UCDP does|name the file as UCDP does"),
        ("candidates", "GEDEvent_v24_0_13.csv", "month must be 1..12"),
        ("annual", "absent_24_1.csv", "there is no file"),
        ("candidates", "absent_24_0_1.csv", "there is no file"),
        ("annual", "GEDEvent_v24_1.xlsx", "use .csv"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(releases: Path, field: str, name: str, problem: str) -> None:
    if not name.startswith("absent") and not (releases / name).exists():
        _write(releases, name, (1, date(2023, 12, 3)))
    value = releases / name if field == "annual" else [releases / name]
    month = from_key("2024-01") if field == "candidates" else from_key("2023-12")
    with pytest.raises(SourceError, match=problem):
        UcdpFiles.model_validate({field: value}).read(month, month)


def test_totals_that_agree_and_totals_that_do_not(shared_data: Path) -> None:
    """Country-months of state-based deaths, taken as an event each, add up to UCDP's own country-years 1989-2023."""
    months = pl.read_parquet(shared_data / "conflict/ucdp_country_month.parquet").filter(pl.col("ged_sb_best") > 0)
    made = months.select(
        id=pl.int_range(pl.len()),
        date_start=pl.date("year", "month", 1),
        type_of_violence=pl.lit(1),
        country_id="gwno",
        best="ged_sb_best",
        low="ged_sb_best",
        high="ged_sb_best",
    )
    totals = read_totals(shared_data / "conflict/ucdp_country_year.parquet")
    state_based = totals.filter(pl.col("type_of_violence") == 1)
    assert check_totals(events(*made.to_dicts()), state_based).is_empty()

    one_less = made.with_columns(
        best=pl.when((pl.col("country_id") == 700) & (pl.col("date_start") == date(1995, 3, 1)))
        .then(pl.col("best") - 1)
        .otherwise("best")
    )
    differing = check_totals(events(*one_less.to_dicts()), state_based)
    assert differing.select("year", "country_id", "type_of_violence", "difference").rows() == [(1995, 700, 1, -1)]


def test_the_published_subset_holds_the_stated_part_of_the_totals(shared_data: Path) -> None:
    """The subset's documentation: 54 % of state-based and non-state and 65 % of one-sided deaths of 1989 to 2020."""
    raw = pl.read_parquet(shared_data / "conflict/ged_events.parquet")
    totals = read_totals(shared_data / "conflict/ucdp_country_year.parquet").filter(pl.col("year") <= 2020)
    kept = raw.group_by("type_of_violence").agg(pl.col("best").cast(pl.Int64).sum())
    of_all = kept.join(totals.group_by("type_of_violence").agg(all=pl.col("best").sum()), on="type_of_violence")
    parts = {violence: round(best / total, 2) for violence, best, total in of_all.rows()}
    assert parts == {1: 0.54, 2: 0.54, 3: 0.65}


def test_totals_are_reported_with_the_read(releases: Path) -> None:
    """The twelve events of 2023 have 5 deaths each, 60 in all."""
    official = releases / "organizedviolencecy_v24_1.csv"
    header = (
        "country_id_cy,country_cy,year_cy,sb_total_deaths_best_cy,ns_total_deaths_best_cy,os_total_deaths_best_cy\n"
    )
    reader = UcdpFiles(annual=releases / "GEDEvent_v24_1.csv", totals=official)
    december = from_key("2023-12")

    official.write_text(f'{header}625,"Sudan",2023,60,0,0\n625,"Sudan",2022,7,0,0\n')
    months = reader.read(december, december)
    assert months.repairs["country_years_off_totals"] == 0
    assert months.provenance[official.name].endswith("all country-years agree")

    official.write_text(f'{header}625,"Sudan",2023,70,1,0\n')
    months = reader.read(december, december)
    assert months.repairs["country_years_off_totals"] == 2
    assert months.provenance[official.name].endswith(
        "2 country-years differ, most of all sb in country 625 in 2023: 60 deaths in the events, 70 in the totals"
    )

    official.write_text(f'{header}625,"Sudan",2023,many,1,0\n')
    with pytest.raises(SourceError, match="something else than whole numbers"):
        reader.read(december, december)
    official.write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match="none of the expected columns"):
        reader.read(december, december)
