"""UCDP GED from UCDP's API: one annual release and the Candidate releases after it, found by asking."""

import hashlib
import os
import time
from collections.abc import Callable
from datetime import date
from typing import Annotated, Final, Literal

import polars as pl
from pydantic import AfterValidator, Field, PrivateAttr

from views_dagster.calendar import from_date, to_key, year_month
from views_dagster.conflict.event_reader import EventReader
from views_dagster.conflict.ucdp_client import UcdpClient
from views_dagster.conflict.ucdp_releases import Release, coverage_of, event_months, require_coverage
from views_dagster.errors import SourceError
from views_dagster.sources.base import RawMonths

PUBLIC_API: Final = "https://ucdpapi.pcr.uu.se/api"
QUICK_TIMEOUT_S: Final = 10.0


def _root_url(text: str) -> str:
    import httpx

    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(f"write the API's root, such as {PUBLIC_API}, without user, query or fragment")
    return text.rstrip("/")


def _annual(version: str) -> str:
    if not coverage_of(version).annual:
        raise ValueError(f"{version!r} is not an annual release; write the newest one, such as 25.1")
    return version


def _candidate(version: str) -> str:
    if coverage_of(version).annual:
        raise ValueError(f"{version!r} is an annual release; it belongs in version")
    return version


class UcdpApi(EventReader):
    """UCDP GED events read from an API that speaks UCDP's envelope.

    Each read that goes beyond the annual release fetches it and every Candidate release that is out, whole: an event of
    one release may reach into the months of the next, and may be revised or withdrawn there. The API's filters
    StartDate and EndDate are not used: a bound on one of an event's two dates loses events that span months.
    """

    kind: Literal["ucdp_api"] = "ucdp_api"
    base_url: Annotated[str, AfterValidator(_root_url)] = Field(default=PUBLIC_API, description="The API's root.")
    version: Annotated[str, AfterValidator(_annual)] = Field(
        description="The annual release, such as `25.1`, which covers 1989 to the year before its number."
    )
    candidates: bool | tuple[Annotated[str, AfterValidator(_candidate)], ...] = Field(
        default=True,
        description="True looks for Candidate releases month by month after the annual release until one is empty or "
        "unknown; a list names the releases to use, all of which must be out; false uses none.",
    )
    token_env: str = Field(
        default="UCDP_API_TOKEN",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds the access token.",
    )
    page_size: int = Field(default=1000, ge=1, le=1000, description="Events per request.")
    timeout_s: float = Field(default=60.0, gt=0, description="Seconds that one request may take.")
    retries: int = Field(
        default=6,
        ge=0,
        le=10,
        description="Repeats of a request that failed in a way that may pass; waits double from 1 s.",
    )
    max_pages: int = Field(default=2000, ge=1, description="A release with more pages is refused.")

    _sleep: Callable[[float], None] = PrivateAttr(default=time.sleep)
    _today: Callable[[], date] = PrivateAttr(default=date.today)
    _newest_seen: int | None = PrivateAttr(default=None)

    def read(self, first: int, last: int) -> RawMonths:
        """Event-months of `first..last` (month ids, inclusive); see `event_months` for how releases combine.

        Raises:
            SourceError: the API fails or refuses, a release is unknown, empty or breaks its schema, or a month is not
                out. Which months are out is settled before any release is fetched.
        """
        with self._client(retries=self.retries, timeout_s=self.timeout_s) as client:
            versions = [self.version, *self._candidates_for(client, last)]
            require_coverage([coverage_of(version) for version in versions], first, last)
            releases = [self._release(client, version) for version in versions]
        frame, repairs = event_months(releases, first, last, dating=self.dating)
        provenance = {"api": self.base_url} | {
            f"release {version}": f"{release.events.height} events, sha256 {_digest(release.events)}"
            for version, release in zip(versions, releases, strict=True)
        }
        return RawMonths(frame=frame, repairs=repairs, provenance=provenance)

    def latest_month(self) -> int:
        """Month id of the newest month that is out, from requests for one event each.

        The newest month seen is remembered, so that while nothing new is out each further call costs one request. None
        is repeated: who waits for a new month asks again anyway, and a sensor has a minute to answer.

        Raises:
            SourceError: the API fails or refuses, or the annual release is unknown.
        """
        with self._client(retries=0, timeout_s=min(self.timeout_s, QUICK_TIMEOUT_S)) as client:
            if self.candidates is not True:
                return self._newest_configured(client)
            known = self._newest_configured(client) if self._newest_seen is None else self._newest_seen
            self._newest_seen = self._newest_after(client, known)
        return self._newest_seen

    @property
    def _annual_last(self) -> int:
        return coverage_of(self.version).last

    def _newest_configured(self, client: UcdpClient) -> int:
        """Last month of the newest release that the configuration names and that is out."""
        named = () if isinstance(self.candidates, bool) else self.candidates
        for version in sorted(named, key=lambda name: coverage_of(name).last, reverse=True):
            if client.count(version):
                return coverage_of(version).last
        if not client.count(self.version):
            raise self._not_out(self.version)
        return self._annual_last

    def _newest_after(self, client: UcdpClient, month: int) -> int:
        """The last month, from `month` on, up to which Candidate releases are out without a gap."""
        # No release precedes its month; without this bound an API that answers every version would be asked for ever.
        this_month = from_date(self._today())
        while month < this_month and client.count(_candidate_of(month + 1)):
            month += 1
        return month

    def _candidates_for(self, client: UcdpClient, last: int) -> list[str]:
        """The Candidate releases that a read up to `last` needs; none within the annual release, it outranks them."""
        if last <= self._annual_last:
            return []
        if not isinstance(self.candidates, bool):
            return list(self.candidates)
        newest, reason = self._newest_configured(client), "candidates is false"
        if self.candidates:
            newest = self._newest_after(client, newest)
            reason = f"Candidate release {_candidate_of(newest + 1)} is not out"
        if last > newest:
            raise SourceError(
                f"UCDP has no events for {to_key(last)} yet: the newest month at {self.base_url} is {to_key(newest)} "
                f"({reason}, the annual release is {self.version}); ask for months up to {to_key(newest)}"
            )
        return [_candidate_of(month) for month in range(self._annual_last + 1, newest + 1)]

    def _release(self, client: UcdpClient, version: str) -> Release:
        events = client.fetch(version)
        if events is None or events.is_empty():
            raise self._not_out(version)
        return Release(origin=f"UCDP API release {version}", coverage=coverage_of(version), events=events)

    def _not_out(self, version: str) -> SourceError:
        return SourceError(
            f"UCDP has no events in release {version} ({self.base_url}/gedevents/{version} is unknown or empty); "
            "configure a release that is out, such as 25.1 (annual) or 25.0.9 (Candidate of September 2025)"
        )

    def _client(self, *, retries: int, timeout_s: float) -> UcdpClient:
        return UcdpClient(
            base_url=self.base_url,
            token=self._token(),
            token_env=self.token_env,
            page_size=self.page_size,
            timeout_s=timeout_s,
            retries=retries,
            max_pages=self.max_pages,
            sleep=self._sleep,
        )

    def _token(self) -> str:
        token = os.environ.get(self.token_env, "").strip()
        # The HTTP library quotes a header that it cannot send in its error; this refuses it without showing it.
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise SourceError(
                f"environment variable {self.token_env} holds no UCDP access token: it has blanks or characters that "
                "no header can carry; set it again"
            )
        return token


def _candidate_of(month_id: int) -> str:
    year, month = year_month(month_id)
    return f"{year - 2000}.0.{month}"


def _digest(events: pl.DataFrame) -> str:
    return hashlib.sha256(events.sort("id").write_csv().encode()).hexdigest()
