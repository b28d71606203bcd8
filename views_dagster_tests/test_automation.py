"""What starts the month by itself, and who is told how it went."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.freshness import CronFreshnessPolicy

from resources.notifications import Notifier
from views_dagster import calendar
from views_dagster.calendar import from_key
from views_dagster.conflict.demo_readers import DemoCountries, DemoEvents
from views_dagster.errors import SourceError
from views_dagster.precipitation.demo_weather_readers import DemoColumns, DemoMembers, DemoRain
from views_dagster.sources.base import RawMonths
from views_dagster_tests.homes import SMALL, Home, open_home, write_catalogue
from views_dagster_tests.skies import SKY

NEWEST = "1992-12"


def sensor(home: Home, name: str) -> dg.SensorDefinition:
    return home.defs.get_repository_def().get_sensor_def(name)


def schedule(home: Home) -> dg.ScheduleDefinition:
    return home.defs.get_repository_def().get_schedule_def("monthly")


# The schedule.


@pytest.mark.parametrize(
    ("day", "month"), [("2024-02-25", "2024-01"), ("2024-01-25", "2023-12"), ("2024-03-25", "2024-02")]
)
def test_the_schedule_makes_the_month_before(small_home: Home, day: str, month: str) -> None:
    tick = datetime.fromisoformat(day).replace(tzinfo=UTC)
    data = schedule(small_home).evaluate_tick(dg.build_schedule_context(scheduled_execution_time=tick))
    assert data.run_requests is not None
    assert [request.partition_key for request in data.run_requests] == [month]


def test_the_schedule_ticks_once_a_month_when_the_data_should_be_out(small_home: Home) -> None:
    monthly = schedule(small_home)
    ticks = monthly.cron_schedule
    assert ticks == "0 0 25 * *"
    assert monthly.job_name == "month"


@pytest.mark.parametrize(("name", "groups"), [("month", 5), ("history", 2)])
def test_jobs_hold_the_month_and_its_history(small_home: Home, name: str, groups: int) -> None:
    job = small_home.defs.resolve_job_def(name)
    specs = {spec.key: spec.group_name for spec in small_home.defs.resolve_all_asset_specs()}
    assert len({specs[key] for key in job.asset_layer.executable_asset_keys}) == groups


def test_explanations_of_a_month_and_each_sweep_are_jobs(tmp_path: Path) -> None:
    swept = {"sweep": {"space": {"window": {"choices": [3, 6]}}}}
    entries = {**SMALL, **SKY, "models/quiet_echo": {**SMALL["models/quiet_echo"], **swept}}
    defs = open_home(tmp_path, write_catalogue(tmp_path, entries)).defs
    held = {
        name: {key.to_user_string() for key in defs.resolve_job_def(name).asset_layer.executable_asset_keys}
        for name in ("explanations", "sweep_quiet_echo")
    }
    assert held == {
        "explanations": {"explanations/deep_column", "explanations/level_line"},
        "sweep_quiet_echo": {"sweeps/quiet_echo"},
    }


def test_a_deployment_without_explanations_and_sweeps_has_no_jobs_of_them(small_home: Home) -> None:
    jobs = {job.name for job in small_home.defs.get_repository_def().get_all_jobs()}
    assert {name for name in jobs if not name.startswith("__")} == {"month", "history"}


# The sensor.


class Offers:
    """Sets the newest month of each source."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, events: str | None, countries: str | None) -> None:
        for reader, key in ((DemoEvents, events), (DemoCountries, countries)):
            self.monkeypatch.setattr(reader, "latest_month", lambda _, key=key: key and calendar.from_key(key))


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> Offers:
    return Offers(monkeypatch)


def look(home: Home, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    found = sensor(home, "new_release")(dg.build_sensor_context(cursor=cursor, instance=home.instance))
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def requested(found: dg.SensorResult | dg.SkipReason) -> list[str | None]:
    if isinstance(found, dg.SkipReason):
        return []
    return [request.partition_key for request in found.run_requests or []]


def test_a_new_month_is_asked_for_once(small_home: Home, offers: Offers) -> None:
    offers("2024-03", "2024-03")
    first = look(small_home)
    assert requested(first) == ["2024-03"]
    assert isinstance(first, dg.SensorResult)
    for _ in range(3):
        again = look(small_home, first.cursor)
        assert isinstance(again, dg.SkipReason)
        assert "2024-03" in (again.skip_message or "")
    offers("2024-04", "2024-04")
    assert requested(look(small_home, first.cursor)) == ["2024-04"]


def test_months_that_came_at_once_are_asked_for_one_by_one(small_home: Home, offers: Offers) -> None:
    offers("2024-05", "2024-05")
    second = look(small_home, "2024-03")
    assert requested(second) == ["2024-04"]
    assert isinstance(second, dg.SensorResult)
    assert requested(look(small_home, second.cursor)) == ["2024-05"]
    assert isinstance(look(small_home, "2024-05"), dg.SkipReason)


def test_a_lost_cursor_does_not_run_the_month_again(small_home: Home, offers: Offers) -> None:
    """Dagster runs a run key once, whatever the cursor says."""
    offers("2024-03", "2024-03")
    keys = []
    for cursor in (None, None):
        found = look(small_home, cursor)
        assert isinstance(found, dg.SensorResult)
        keys += [request.run_key for request in found.run_requests or []]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert None not in keys


def test_a_month_waits_for_the_last_source(small_home: Home, offers: Offers) -> None:
    offers("2024-04", "2024-03")
    assert requested(look(small_home, "2024-03")) == []
    assert requested(look(small_home, "2024-02")) == ["2024-03"]


def test_a_source_that_cannot_tell_is_not_waited_for(small_home: Home, offers: Offers) -> None:
    offers("2024-04", None)
    assert requested(look(small_home, "2024-03")) == ["2024-04"]
    offers(None, None)
    assert requested(look(small_home)) == []


def test_a_source_that_cannot_be_asked_is_a_reason_to_wait(
    small_home: Home, offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers("2024-04", "2024-04")

    def unreachable(_: DemoEvents) -> int:
        raise SourceError("the server answered 500")

    monkeypatch.setattr(DemoEvents, "latest_month", unreachable)
    found = look(small_home, "2024-03")
    assert isinstance(found, dg.SkipReason)
    assert "the server answered 500" in (found.skip_message or "")


# Both systems.


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A catalogue of both systems, with nothing in its tables."""
    folder = tmp_path_factory.mktemp("both")
    return open_home(folder, write_catalogue(folder, {**SMALL, **SKY}))


@pytest.mark.parametrize("late", [DemoColumns, DemoRain, DemoMembers])
def test_a_month_waits_for_the_sources_of_every_system(
    both: Home, offers: Offers, monkeypatch: pytest.MonkeyPatch, late: type[DemoColumns | DemoRain | DemoMembers]
) -> None:
    offers("2024-04", "2024-04")
    for reader in (DemoColumns, DemoRain, DemoMembers):
        month = "2024-03" if reader is late else "2024-05"
        monkeypatch.setattr(reader, "latest_month", lambda _, month=month: from_key(month))
    assert requested(look(both, "2024-03")) == []
    assert requested(look(both, "2024-02")) == ["2024-03"]


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("month", {"raw_data", "processed_features", "trained_artifacts", "forecasts", "ensembles", "evaluation"}),
        ("history", {"raw_data", "processed_features"}),
    ],
)
def test_jobs_hold_every_system_and_no_search(both: Home, name: str, groups: set[str]) -> None:
    specs = {spec.key: spec for spec in both.defs.resolve_all_asset_specs()}
    chosen = both.defs.resolve_job_def(name).asset_layer.executable_asset_keys
    systems = {
        system: {specs[key].group_name for key in chosen if specs[key].tags.get("system") == system}
        for system in ("conflict", "precipitation")
    }
    assert systems["precipitation"] == groups
    assert {specs[key].group_name for key in chosen} == groups
    assert all(specs[key].tags.get("system") or key.path == ["forecasts"] for key in chosen)


# Notifications.


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """URL of a server on this machine, and what was posted to it."""
    posts: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_POST(self) -> None:
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", posts
    server.shutdown()
    thread.join()
    server.server_close()


def tell(home: Home, name: str, result: dg.ExecuteInProcessResult, url: str) -> Any:
    """Evaluate a sensor for the end of a run."""
    definition = sensor(home, name)
    kind = dg.DagsterEventType.RUN_SUCCESS if result.success else dg.DagsterEventType.RUN_FAILURE
    (event,) = (event for event in result.all_events if event.event_type == kind)
    context = dg.build_run_status_sensor_context(
        sensor_name=name,
        dagster_event=event,
        dagster_instance=home.instance,
        dagster_run=result.dagster_run,
        resources={"notifier": Notifier(webhook_url=url)},
    )
    return definition(context.for_run_failure() if not result.success else context)


def rescale(monkeypatch: pytest.MonkeyPatch, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    read = DemoEvents.read
    monkeypatch.setattr(
        DemoEvents, "read", lambda self, first, last: RawMonths(frame=change(read(self, first, last).frame))
    )


def test_a_failure_is_told_with_what_failed(
    small_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    home = small_home.copy(tmp_path)
    url, posts = webhook

    def broken(self: DemoEvents, first: int, last: int) -> RawMonths:
        raise SourceError("events.csv has no column best")

    monkeypatch.setattr(DemoEvents, "read", broken)
    result = home.run("key:raw/ucdp_ged", NEWEST, raise_on_error=False)
    tell(home, "tell_of_failures", result, url)
    (post,) = posts
    assert post["severity"] == "failure"
    assert post["run_id"] == result.run_id
    assert NEWEST in post["title"]
    assert any("raw__ucdp_ged" in line and "events.csv has no column best" in line for line in post["lines"])


def test_a_failed_check_is_told(
    small_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    home = small_home.copy(tmp_path)
    url, posts = webhook
    silent = pl.when(pl.col("month_id") == from_key(NEWEST)).then(0.0)
    rescale(
        monkeypatch, lambda frame: frame.with_columns(silent.otherwise(x).alias(x) for x in ("best", "low", "high"))
    )
    result = home.run("key:raw/ucdp_ged or key:features/little", NEWEST, raise_on_error=False)
    tell(home, "tell_of_failures", result, url)
    assert any(line.startswith("ERROR raw/ucdp_ged: input_zeros_by_column") for line in posts[0]["lines"])


def test_warnings_of_a_good_run_are_told(
    small_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    home = small_home.copy(tmp_path)
    url, posts = webhook
    largest = pl.when(pl.col("id") == pl.col("id").first().over("month_id")).then(pl.col("high").max() * 100)
    rescale(monkeypatch, lambda frame: frame.with_columns(high=largest.otherwise("high")))
    result = home.run("key:raw/ucdp_ged", NEWEST)
    tell(home, "tell_of_warnings", result, url)
    (post,) = posts
    assert post["severity"] == "warning"
    assert all(line.startswith("WARN ") for line in post["lines"])
    assert any("raw/ucdp_ged: input_extremes" in line for line in post["lines"])


def test_a_run_without_anything_to_tell_is_quiet(
    small_home: Home, tmp_path: Path, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    home = small_home.copy(tmp_path)
    url, posts = webhook
    result = home.run("key:raw/countries", NEWEST)
    assert isinstance(tell(home, "tell_of_warnings", result, url), dg.SkipReason)
    assert posts == []


@pytest.mark.parametrize("name", ["tell_of_failures", "tell_of_warnings"])
def test_telling_is_on_by_default(small_home: Home, name: str) -> None:
    assert sensor(small_home, name).default_status == dg.DefaultSensorStatus.RUNNING


# Freshness.


def test_raw_data_and_the_release_say_when_they_are_late(small_home: Home) -> None:
    policies = {spec.key.to_user_string(): spec.freshness_policy for spec in small_home.defs.resolve_all_asset_specs()}
    for table in ("raw/ucdp_ged", "raw/countries", "forecasts"):
        policy = policies[table]
        assert policy is not None, table
        assert isinstance(policy, CronFreshnessPolicy), table
        assert policy.deadline_cron == "0 6 27 * *", "after the schedule of the 25th"
        assert policy.lower_bound_delta == timedelta(days=20)
