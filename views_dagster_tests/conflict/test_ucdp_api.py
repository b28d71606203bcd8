"""The UCDP API reader against a server that speaks UCDP's envelope and breaks in every way that has a named outcome."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from views_dagster.calendar import from_key
from views_dagster.conflict import ucdp_client
from views_dagster.conflict.ucdp_api import UcdpApi
from views_dagster.conflict.ucdp_files import UcdpFiles
from views_dagster.errors import SourceError
from views_dagster.sources.base import RawMonths
from views_dagster_tests.conflict.ucdp_server import Event, Fault, UcdpServer

ANNUAL = "23.1"
TOKEN = "s3cret-t0ken"
NOV, DEC, JAN, FEB, MAR = (from_key(key) for key in ("2022-11", "2022-12", "2023-01", "2023-02", "2023-03"))


def event(number: int, start: str, end: str | None = None, *, best: int = 1) -> dict[str, Any]:
    return {
        "id": number,
        "type_of_violence": 1,
        "country_id": 645,
        "country": "Iraq",
        "conflict_name": "Iraq: Government",
        "dyad_name": "not kept",
        "side_a": "Government of Iraq",
        "side_b": "IS",
        "where_prec": 1,
        "latitude": 33 if number % 2 else 33.5,
        "longitude": 44.25,
        "priogrid_gid": 177209,
        "date_start": date.fromisoformat(start),
        "date_end": date.fromisoformat(end or start),
        "best": best,
        "low": best,
        "high": best,
    }


RELEASES: Mapping[str, Sequence[Event]] = {
    ANNUAL: [
        event(1, "2022-11-03", best=4),
        event(2, "2022-11-20", best=2),
        event(3, "2022-12-05", best=10),
        event(4, "2022-12-31", "2023-01-01", best=6),
        event(5, "2022-12-09"),
    ],
    "23.0.1": [event(11, "2023-01-10", best=7), event(12, "2022-12-15", best=100)],
    "23.0.2": [event(11, "2023-01-10", best=9), event(21, "2023-02-01")],
    "23.0.3": [],
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[UcdpServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("UCDP_API_TOKEN", TOKEN)
    with UcdpServer(RELEASES, token=TOKEN) as running:
        yield running


@pytest.fixture
def sleeps() -> list[float]:
    """The waits that the reader asked for, in seconds."""
    return []


Make = Callable[..., UcdpApi]


@pytest.fixture
def api(server: UcdpServer, sleeps: list[float]) -> Make:
    """Readers of `server` that record their waits instead of waiting."""

    def make(**settings: Any) -> UcdpApi:
        reader = UcdpApi(**{"version": ANNUAL, "base_url": server.url, "page_size": 2, "retries": 2, **settings})
        reader._sleep = sleeps.append
        return reader

    return make


def deaths(frame: pl.DataFrame) -> dict[int, float]:
    """Best estimate by month id."""
    return dict(frame.group_by("month_id").agg(pl.col("best").sum()).sort("month_id").iter_rows())


def file_route(folder: Path, releases: Mapping[str, pl.DataFrame], first: int, last: int) -> RawMonths:
    """What the same rows give when they are read from published files."""
    paths = [folder / f"GEDEvent_v{version.replace('.', '_')}.csv" for version in releases]
    for path, frame in zip(paths, releases.values(), strict=True):
        frame.write_csv(path)
    return UcdpFiles(annual=paths[0], candidates=paths[1:]).read(first, last)


# What is read


def test_annual_and_candidate_releases_become_event_months(api: Make, sleeps: list[float]) -> None:
    raw = api().read(NOV, FEB)
    # Event 4 has a day and so 3 deaths in each month; 11 counts as revised, 12 is not in the annual release.
    assert deaths(raw.frame) == {NOV: 6, DEC: 10 + 3 + 1, JAN: 3 + 9, FEB: 1}
    assert sorted(raw.frame["id"]) == [1, 2, 3, 4, 4, 5, 11, 21]
    assert raw.repairs["superseded_events"] == 2
    assert raw.repairs["late_events"] == 2
    assert sleeps == []


@pytest.mark.parametrize(("first", "last"), [(NOV, FEB), (NOV, DEC), (JAN, JAN)])
def test_equals_the_file_route(api: Make, tmp_path: Path, first: int, last: int) -> None:
    published = {version: pl.DataFrame(rows, strict=False) for version, rows in RELEASES.items() if rows}
    expected, raw = file_route(tmp_path, published, first, last), api().read(first, last)
    assert_frame_equal(raw.frame, expected.frame)
    assert raw.repairs == expected.repairs


def test_real_candidate_release_equals_the_file_route(
    server: UcdpServer, api: Make, tmp_path: Path, shared_data: Path
) -> None:
    published = pl.read_parquet(shared_data / "conflict" / "ged_candidate_23_0_10.parquet")
    server.releases["23.0.10"] = published.to_dicts()
    month = from_key("2023-10")
    annual = pl.DataFrame(RELEASES[ANNUAL], strict=False)
    expected = file_route(tmp_path, {ANNUAL: annual, "23.0.10": published}, month, month)
    raw = api(candidates=["23.0.10"], page_size=1000).read(month, month)
    assert_frame_equal(raw.frame, expected.frame)
    assert raw.repairs == expected.repairs
    assert server.asked("23.0.10") == [0, 1, 2]
    assert raw.provenance["release 23.0.10"].startswith("2391 events, sha256 ")


def test_pages_are_asked_for_once_each_from_zero(server: UcdpServer, api: Make) -> None:
    api().read(NOV, DEC)
    assert server.asked(ANNUAL) == [0, 1, 2]


def test_months_of_the_annual_release_ask_for_no_candidate(server: UcdpServer, api: Make) -> None:
    api().read(NOV, DEC)
    assert {request.version for request in server.requests} == {ANNUAL}


def test_numbers_written_as_text_are_read(server: UcdpServer, api: Make) -> None:
    plain = api().read(NOV, DEC).frame
    server.releases[ANNUAL] = [
        {**row, "best": str(row["best"]), "latitude": str(row["latitude"])} for row in RELEASES[ANNUAL]
    ]
    assert_frame_equal(api().read(NOV, DEC).frame, plain)


def test_provenance_names_releases_and_digests_that_ignore_row_order(server: UcdpServer, api: Make) -> None:
    provenance = api().read(NOV, FEB).provenance
    assert set(provenance) == {"api", "release 23.1", "release 23.0.1", "release 23.0.2"}
    assert provenance["api"] == server.url
    server.releases[ANNUAL] = RELEASES[ANNUAL][::-1]
    assert api().read(NOV, FEB).provenance == provenance
    server.releases[ANNUAL] = [*RELEASES[ANNUAL][:-1], event(5, "2022-12-09", best=2)]
    assert api().read(NOV, FEB).provenance["release 23.1"] != provenance["release 23.1"]


def test_progress_is_logged(api: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ucdp_client, "PAGES_PER_LOG_LINE", 1)
    with caplog.at_level(logging.INFO, ucdp_client.log.name):
        api().read(NOV, DEC)
    assert [record.message for record in caplog.records if record.name == ucdp_client.log.name] == [
        "UCDP 23.1: 2 of 3 pages",
        "UCDP 23.1: 3 of 3 pages",
        "UCDP 23.1: all 5 events on 3 pages",
    ]


# Faults that pass


def changed(**envelope: object) -> Fault:
    """The right envelope with other values."""
    return Fault(envelope=lambda right: {**right, **envelope})


def rewritten(rows: Callable[[list[dict[str, Any]]], list[Any]]) -> Fault:
    """The right envelope with other events."""
    return Fault(envelope=lambda right: {**right, "Result": rows(right["Result"])})


def without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


BROKEN = {
    "500": Fault(status=500),
    "503": Fault(status=503),
    "400": Fault(status=400),
    "cut connection": Fault(cut=True),
    "not JSON": Fault(body=b"<html>maintenance</html>"),
    "half of a JSON": Fault(body=b'{"TotalCount": 5, "TotalPages": 3, "Result": ['),
    "not an object": Fault(body=b"[]"),
    "no TotalCount": Fault(envelope=lambda right: without(right, "TotalCount")),
    "TotalPages is text": changed(TotalPages="3"),
    "no Result": changed(Result=None),
    "Result of text": changed(Result=["an event"]),
    "nested value": rewritten(lambda rows: [{**rows[0], "best": [1, 2]}]),
    "no country_id": rewritten(lambda rows: [without(row, "country_id") for row in rows]),
    "one row without latitude": rewritten(lambda rows: [rows[0], without(rows[1], "latitude")]),
}


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN)
class TestBrokenPage:
    def test_once_is_repeated(self, server: UcdpServer, api: Make, sleeps: list[float], fault: Fault) -> None:
        server.fail(fault, version=ANNUAL, page=1, times=2)
        assert deaths(api().read(NOV, DEC).frame) == {NOV: 6, DEC: 14}
        assert server.asked(ANNUAL) == [0, 1, 1, 1, 2]
        assert 0.5 <= sleeps[0] <= 1 <= sleeps[1] <= 2

    def test_for_ever_is_an_error(self, server: UcdpServer, api: Make, fault: Fault) -> None:
        server.fail(fault, version=ANNUAL, page=1, times=float("inf"))
        with pytest.raises(SourceError, match=r"gedevents/23.1, page 1: .*attempt 3 of 3"):
            api().read(NOV, DEC)
        assert server.asked(ANNUAL) == [0, 1, 1, 1]


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(drip=True)], ids=["silent", "dripping"])
def test_a_request_ends_after_its_time(server: UcdpServer, api: Make, fault: Fault) -> None:
    server.fail(fault, page=1)
    with pytest.raises(SourceError, match=r"page 1: no .*answer within 0\.5 s"):
        api(timeout_s=0.5, retries=0).read(NOV, DEC)


def test_no_server_is_an_error(api: Make, server: UcdpServer) -> None:
    with UcdpServer({}) as gone:
        url = gone.url
    with pytest.raises(SourceError, match="connection failed"):
        api(base_url=url).read(NOV, DEC)


def test_waits_double_and_are_bounded(server: UcdpServer, api: Make, sleeps: list[float]) -> None:
    server.fail(Fault(status=500), times=float("inf"))
    with pytest.raises(SourceError, match=r"it answered 500 \(attempt 11 of 11\)"):
        api(retries=10).read(NOV, DEC)
    bounds = [min(2.0**attempt, ucdp_client.LONGEST_WAIT_S) for attempt in range(10)]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(sleeps, bounds, strict=True))


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        ("7", 7),
        ("0", 0),
        ("86400", ucdp_client.LONGEST_WAIT_S),
        (format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True), ucdp_client.LONGEST_WAIT_S),
        (format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True), 0),
    ],
    ids=["7 s", "at once", "a day", "tomorrow", "yesterday"],
)
def test_429_waits_as_long_as_asked_within_reason(
    server: UcdpServer, api: Make, sleeps: list[float], retry_after: str, wait: float
) -> None:
    server.fail(Fault(status=429, headers={"Retry-After": retry_after}), page=2)
    assert deaths(api().read(NOV, DEC).frame) == {NOV: 6, DEC: 14}
    assert sleeps == [wait]


@pytest.mark.parametrize("retry_after", ["soon", "-1", "²", ""])
def test_429_with_an_unreadable_wait_backs_off(
    server: UcdpServer, api: Make, sleeps: list[float], retry_after: str
) -> None:
    server.fail(Fault(status=429, headers={"Retry-After": retry_after}), page=2)
    api().read(NOV, DEC)
    assert len(sleeps) == 1
    assert 0.5 <= sleeps[0] <= 1


# Releases that change under the reader


def test_a_total_that_changes_half_way_starts_over(server: UcdpServer, api: Make) -> None:
    server.fail(changed(TotalCount=6), page=1)
    assert deaths(api().read(NOV, DEC).frame) == {NOV: 6, DEC: 14}
    assert server.asked(ANNUAL) == [0, 1, 0, 1, 2]


NEVER_WHOLE = {
    "total changes": (changed(TotalCount=6), 1, "5 events on 3 pages at page 0 and 6 on 3 at page 1"),
    "pages change": (changed(TotalPages=4), 2, "5 events on 3 pages at page 0 and 5 on 4 at page 2"),
    "a page is gone": (Fault(status=404), 1, "page 1 of 3 is gone"),
    "a page is empty": (changed(Result=[]), 1, "hold 3 events and its TotalCount is 5"),
    "too many events": (rewritten(lambda rows: rows * 2), 2, "hold 6 events and its TotalCount is 5"),
    "an event twice": (rewritten(lambda rows: rows[:1] * 2), 1, "1 of its 5 events came twice"),
}


@pytest.mark.parametrize(("fault", "page", "message"), NEVER_WHOLE.values(), ids=NEVER_WHOLE)
def test_a_release_that_is_never_whole_is_an_error(
    server: UcdpServer, api: Make, sleeps: list[float], fault: Fault, page: int, message: str
) -> None:
    server.fail(fault, version=ANNUAL, page=page, times=float("inf"))
    with pytest.raises(SourceError, match=message):
        api().read(NOV, DEC)
    assert server.asked(ANNUAL).count(0) == 1 + ucdp_client.RESTARTS == 1 + len(sleeps)


def test_too_many_pages_are_refused(server: UcdpServer, api: Make) -> None:
    assert api(max_pages=3).read(NOV, DEC).frame.height == 5
    with pytest.raises(SourceError, match=r"3 pages .*max_pages=2"):
        api(max_pages=2).read(NOV, DEC)


# The token


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_expires_while_paging_fails_at_once(
    server: UcdpServer, api: Make, sleeps: list[float], status: int
) -> None:
    server.fail(Fault(status=status), page=1)
    with pytest.raises(SourceError, match=rf"refused the token \({status}\).*UCDP_API_TOKEN"):
        api().read(NOV, DEC)
    assert server.asked(ANNUAL) == [0, 1]
    assert sleeps == []


def test_a_missing_token_names_its_variable(api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(SourceError, match=r"wants a token \(401\).*environment variable MY_TOKEN"):
        api(token_env="MY_TOKEN").read(NOV, DEC)


def test_an_api_without_tokens_needs_none(server: UcdpServer, api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UCDP_API_TOKEN")
    server.token = None
    assert api().read(NOV, DEC).frame.height == 5
    assert {request.token for request in server.requests} == {None}


@pytest.mark.parametrize("token", [f"{TOKEN} x", f"{TOKEN}\r\nx: y", f"{TOKEN}é"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(
    server: UcdpServer, api: Make, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("UCDP_API_TOKEN", token)
    with pytest.raises(SourceError, match="UCDP_API_TOKEN") as caught:
        api().read(NOV, DEC)
    assert TOKEN not in str(caught.value)
    assert server.requests == []


def test_the_token_is_sent_and_never_shown(server: UcdpServer, api: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reader = api()
    raw = reader.read(NOV, FEB)
    server.fail(Fault(status=500), version=ANNUAL, page=0, times=float("inf"))
    with pytest.raises(SourceError) as failed:
        reader.read(NOV, DEC)
    client = reader._client(retries=0, timeout_s=1)
    shown = [repr(client), repr(reader), str(reader.model_dump()), str(failed.value), str(raw.provenance), caplog.text]
    assert {request.token for request in server.requests} == {TOKEN}
    assert not [text for text in shown if TOKEN in text]


@pytest.mark.parametrize("target", ["next page", "redirect"])
def test_no_other_host_is_asked(server: UcdpServer, api: Make, target: str) -> None:
    with UcdpServer(RELEASES) as other:
        elsewhere = f"{other.url}/gedevents/{ANNUAL}?pagesize=2&page=1"
        if target == "next page":
            fault, message = changed(NextPageUrl=elsewhere), "another host"
        else:
            fault, message = Fault(status=302, headers={"Location": elsewhere}), "answered 302"
        server.fail(fault)
        with pytest.raises(SourceError, match=message):
            api().read(NOV, DEC)
        assert other.requests == []


@pytest.mark.parametrize("next_url", [None, "/api/gedevents/23.1?pagesize=2&page=1"])
def test_a_missing_or_relative_next_page_is_no_fault(server: UcdpServer, api: Make, next_url: str | None) -> None:
    server.fail(changed(NextPageUrl=next_url), times=float("inf"))
    assert api().read(NOV, DEC).frame.height == 5


# Which releases are out


@pytest.mark.parametrize("unknown_is_empty", [False, True], ids=["404", "empty"])
def test_a_month_that_is_not_out_is_an_error_that_names_the_newest(
    server: UcdpServer, api: Make, unknown_is_empty: bool
) -> None:
    del server.releases["23.0.3"]
    server.unknown_is_empty = unknown_is_empty
    with pytest.raises(SourceError, match=r"2023-03 yet: the newest month at .* is 2023-02 .*23\.0\.3 is not out"):
        api().read(JAN, MAR)
    assert max(request.page_size for request in server.requests) == 1


def test_a_failing_probe_is_not_a_release_that_is_not_out(server: UcdpServer, api: Make) -> None:
    server.fail(Fault(status=500), version="23.0.2", times=float("inf"))
    for ask in (lambda: api().read(JAN, JAN), lambda: api().latest_month()):
        with pytest.raises(SourceError, match=r"gedevents/23\.0\.2, page 0: it answered 500"):
            ask()


def test_a_month_without_events_in_a_release_that_is_out_is_an_error(server: UcdpServer, api: Make) -> None:
    server.releases["23.0.2"] = [event(11, "2023-01-10", best=9)]
    with pytest.raises(SourceError, match="2023-02"):
        api().read(JAN, FEB)


def test_without_candidates_the_annual_release_is_the_newest(server: UcdpServer, api: Make) -> None:
    reader = api(candidates=False)
    assert reader.latest_month() == DEC
    with pytest.raises(SourceError, match=r"newest month at .* is 2022-12 \(candidates is false"):
        reader.read(DEC, JAN)
    assert {request.version for request in server.requests} == {ANNUAL}


def test_named_candidates_are_used_and_must_be_out(server: UcdpServer, api: Make) -> None:
    reader = api(candidates=["23.0.1"])
    assert deaths(reader.read(JAN, JAN).frame) == {JAN: 3 + 7}
    assert server.asked("23.0.2") == []
    assert reader.latest_month() == JAN
    with pytest.raises(SourceError, match="2023-02"):
        reader.read(JAN, FEB)
    assert api(candidates=["23.0.1", "23.0.3"]).latest_month() == JAN
    with pytest.raises(SourceError, match=r"release 23\.0\.3 .*unknown or empty"):
        api(candidates=["23.0.1", "23.0.3", "23.0.2"]).read(JAN, FEB)


@pytest.mark.parametrize("releases", [{}, {ANNUAL: []}], ids=["404", "empty"])
def test_an_annual_release_that_does_not_exist_is_named(
    server: UcdpServer, api: Make, releases: dict[str, list[Event]]
) -> None:
    server.releases = releases
    for ask in (lambda: api().read(NOV, DEC), lambda: api().read(NOV, JAN), lambda: api().latest_month()):
        with pytest.raises(SourceError, match=r"no events in release 23\.1"):
            ask()


def test_months_before_the_events_begin_are_refused_unasked(server: UcdpServer, api: Make) -> None:
    with pytest.raises(SourceError, match="1988-12"):
        api().read(from_key("1988-12"), from_key("1989-02"))
    assert server.requests == []


def test_latest_month_is_asked_cheaply(server: UcdpServer, api: Make) -> None:
    reader = api()
    assert reader.latest_month() == FEB
    assert [r.version for r in server.requests] == [ANNUAL, "23.0.1", "23.0.2", "23.0.3"]
    assert {(r.page, r.page_size) for r in server.requests} == {(0, 1)}

    server.requests.clear()
    assert reader.latest_month() == FEB
    assert [r.version for r in server.requests] == ["23.0.3"]

    server.requests.clear()
    server.releases["23.0.3"] = [event(31, "2023-03-09")]
    assert reader.latest_month() == MAR
    assert [r.version for r in server.requests] == ["23.0.3", "23.0.4"]


def test_asking_for_the_latest_month_repeats_nothing(server: UcdpServer, api: Make, sleeps: list[float]) -> None:
    reader = api(retries=6)
    server.fail(Fault(status=500), version="23.0.2")
    with pytest.raises(SourceError, match=r"23\.0\.2, page 0: it answered 500"):
        reader.latest_month()
    assert sleeps == []
    assert reader.latest_month() == FEB


def test_no_release_after_the_running_month_is_believed(server: UcdpServer, api: Make) -> None:
    server.releases |= {"23.0.3": [event(31, "2023-03-09")], "23.0.4": [event(41, "2023-04-09")]}
    reader = api()
    reader._today = lambda: date(2023, 3, 31)
    assert reader.latest_month() == MAR
    assert server.asked("23.0.4") == []


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": "23.0.1"}, "not an annual release"),
        ({"version": "latest"}, "not a UCDP GED version"),
        ({"candidates": ["23.1"]}, "belongs in version"),
        ({"base_url": "ftp://127.0.0.1/api"}, "API's root"),
        ({"base_url": "https://127.0.0.1/api?x=1"}, "API's root"),
        ({"token_env": "not a name"}, "token_env"),
        ({"page_size": 1001}, "page_size"),
        ({"token": "x"}, "token"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        UcdpApi(**{"version": ANNUAL, **settings})


def test_a_trailing_slash_changes_nothing(server: UcdpServer, api: Make) -> None:
    assert api(base_url=f"{server.url}/").read(NOV, DEC).frame.height == 5
