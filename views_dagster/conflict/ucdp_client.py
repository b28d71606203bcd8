"""One UCDP GED release over HTTP: paging, retries and the checks that make a partial answer an error.

Only transport belongs here: which releases to ask for, and how they fit together, is the reader's business.
"""

import json
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import polars as pl

from views_dagster.conflict.ucdp_events import EVENT_SCHEMA, REQUIRED, normalise, published_columns
from views_dagster.errors import SourceError

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 120.0
RESTARTS: Final = 3
PAGES_PER_LOG_LINE: Final = 25
# 400 is here because UCDP has been seen to answer it, rather than 429, to clients that page too fast.
TRANSIENT: Final = frozenset({400, 408, 425, 429, 500, 502, 503, 504})


class _Transient(Exception):
    """An answer that may be better next time; `wait_s` is how long the server asked to be left alone."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class _Moved(Exception):
    """The release changed while it was being paged through, so the pages do not belong together."""


@dataclass(frozen=True)
class Page:
    """One page of a release, its envelope checked; `rows` as JSON gave them."""

    total_count: int
    total_pages: int
    rows: list[Any]


@dataclass
class UcdpClient:
    """Reads whole releases from `{base_url}/gedevents/{version}`; use it as a context manager.

    Attributes:
        base_url: the API's root, without a trailing slash.
        token: sent as `x-ucdp-access-token`; empty for none. It appears in no message, log line or repr.
        token_env: where the token came from, named in messages.
        page_size: events asked for per page; UCDP serves at most 1000.
        timeout_s: seconds that one request may take from start to last byte.
        retries: how often a failed request is repeated before it becomes an error.
        max_pages: a release with more pages than this is refused.
        sleep, jitter: waiting and the random share of it (0..1), replaceable so that tests neither wait nor vary.
    """

    base_url: str
    token: str = field(repr=False)
    token_env: str
    page_size: int
    timeout_s: float
    retries: int
    max_pages: int
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    _http: "httpx.Client | None" = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        import httpx

        # Redirects stay off: the token must reach no host that was not configured.
        headers = {"Accept": "application/json", "User-Agent": "views-dagster"}
        if self.token:
            headers["x-ucdp-access-token"] = self.token
        self._http = httpx.Client(headers=headers, timeout=self.timeout_s, follow_redirects=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def count(self, version: str) -> int | None:
        """How many events a release holds, or None where the API does not know the version; one request.

        Raises:
            SourceError: the API refuses, or keeps failing.
        """
        page = self._page(version, 0, page_size=1)
        return None if page is None else page.total_count

    def fetch(self, version: str) -> pl.DataFrame | None:
        """Every event of a release in the API's order, or None where the API does not know the version.

        Pages are asked for by number, from 0; `NextPageUrl` is only checked, so that no address a server makes up is
        followed.

        Returns:
            Rows of `EVENT_SCHEMA`, as `normalise` makes them.

        Raises:
            SourceError: refused, still failing after `retries`, unreadable values, or never the same from first to last
                page in 1 + `RESTARTS` attempts. Nothing is returned in part.
        """
        for attempt in range(RESTARTS + 1):
            if attempt:
                self.sleep(self._backoff(attempt))
            try:
                return self._fetch_once(version)
            except _Moved as error:
                moved = str(error)
                log.warning("UCDP %s: %s; starting over", version, moved)
        raise SourceError(
            f"UCDP release {version} at {self.base_url} was never whole: {moved}, in the last of {RESTARTS + 1} "
            "attempts; it is probably being published, try again later"
        )

    def _fetch_once(self, version: str) -> pl.DataFrame | None:
        first = self._page(version, 0, page_size=self.page_size)
        if first is None:
            return None
        self._refuse_endless(version, first)
        frames = [self._events(first, version, 0)]
        for number in range(1, first.total_pages):
            page = self._page(version, number, page_size=self.page_size)
            if page is None:
                raise _Moved(f"page {number} of {first.total_pages} is gone")
            if (page.total_count, page.total_pages) != (first.total_count, first.total_pages):
                raise _Moved(
                    f"it had {first.total_count} events on {first.total_pages} pages at page 0 "
                    f"and {page.total_count} on {page.total_pages} at page {number}"
                )
            frames.append(self._events(page, version, number))
            if (number + 1) % PAGES_PER_LOG_LINE == 0:
                log.info("UCDP %s: %d of %d pages", version, number + 1, first.total_pages)
        events = pl.concat(frames)
        if events.height != first.total_count:
            raise _Moved(f"its pages hold {events.height} events and its TotalCount is {first.total_count}")
        if repeated := events.height - events["id"].n_unique():
            raise _Moved(f"{repeated} of its {events.height} events came twice")
        log.info("UCDP %s: all %d events on %d pages", version, events.height, first.total_pages)
        return events

    def _events(self, page: Page, version: str, number: int) -> pl.DataFrame:
        """A page as `EVENT_SCHEMA`: typed at once, which keeps an annual release of 400 pages small in memory."""
        if not page.rows:
            return pl.DataFrame(schema=dict(EVENT_SCHEMA))
        # strict=False: JSON writes 8 for 8.0, so a column may hold whole and broken numbers.
        columns = [
            pl.Series(name, [row[name] for row in page.rows], strict=False)
            for name in published_columns(list(page.rows[0]))
        ]
        return normalise(pl.DataFrame(columns), origin=self._address(version, number))

    def _address(self, version: str, number: int) -> str:
        return f"{self.base_url}/gedevents/{version}, page {number}"

    def _refuse_endless(self, version: str, page: Page) -> None:
        if page.total_pages > self.max_pages:
            raise SourceError(
                f"UCDP release {version} has {page.total_pages} pages ({page.total_count} events), more than max_pages="
                f"{self.max_pages}; raise max_pages or page_size if that is right"
            )

    def _page(self, version: str, number: int, *, page_size: int) -> Page | None:
        """One page, or None where the API answers 404; repeats what may pass, raises SourceError for what will not."""
        where = self._address(version, number)
        for attempt in range(self.retries + 1):
            try:
                body = self._request(f"gedevents/{version}", {"pagesize": page_size, "page": number}, where)
                return None if body is None else self._checked(body)
            except _Transient as error:
                failure = str(error)
                if attempt < self.retries:
                    wait_s = self._backoff(attempt) if error.wait_s is None else error.wait_s
                    log.warning("UCDP %s page %d: %s; again in %.1f s", version, number, failure, wait_s)
                    self.sleep(wait_s)
        attempts = self.retries + 1
        raise SourceError(
            f"UCDP API failed at {where}: {failure} (attempt {attempts} of {attempts}); nothing was stored"
        )

    def _request(self, path: str, params: dict[str, int], where: str) -> bytes | None:
        import httpx

        if self._http is None:
            raise RuntimeError("UcdpClient is used outside its with block")
        deadline = time.monotonic() + self.timeout_s
        try:
            with self._http.stream("GET", f"{self.base_url}/{path}", params=params) as response:
                if response.status_code == HTTPStatus.NOT_FOUND:
                    return None
                self._refuse(response, where)
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    # httpx bounds the silence between bytes, which a server that drips never exceeds.
                    if time.monotonic() > deadline:
                        raise _Transient(f"no complete answer within {self.timeout_s:g} s")
                return bytes(body)
        except httpx.TimeoutException:
            raise _Transient(f"no answer within {self.timeout_s:g} s") from None
        except httpx.RequestError as error:
            raise _Transient(f"the connection failed ({type(error).__name__})") from None

    def _refuse(self, response: "httpx.Response", where: str) -> None:
        status = response.status_code
        if status == HTTPStatus.OK:
            return
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            problem = "refused the token" if self.token else "wants a token"
            raise SourceError(
                f"UCDP API {problem} ({status}) at {where}; check that the environment variable {self.token_env} "
                "holds a valid, unexpired UCDP access token"
            )
        if status in TRANSIENT:
            raise _Transient(f"it answered {status}", self._asked_wait(response))
        raise SourceError(f"UCDP API answered {status} at {where}; check base_url and version")

    def _checked(self, body: bytes) -> Page:
        try:
            envelope = json.loads(body)
        except ValueError:
            raise _Transient(f"its answer of {len(body)} bytes is not JSON") from None
        if not isinstance(envelope, dict):
            raise _Transient("its answer is not a JSON object")
        total_count, total_pages, rows = (envelope.get(key) for key in ("TotalCount", "TotalPages", "Result"))
        if type(total_count) is not int or type(total_pages) is not int or not isinstance(rows, list):
            raise _Transient("its answer lacks TotalCount, TotalPages or Result")
        self._refuse_other_host(envelope.get("NextPageUrl"))
        self._refuse_rows(rows)
        return Page(total_count, total_pages, rows)

    def _refuse_rows(self, rows: list[Any]) -> None:
        if not all(isinstance(row, dict) for row in rows):
            raise _Transient("its Result holds something other than events")
        wanted = {*REQUIRED, *(published_columns(list(rows[0])) if rows else ())}
        if missing := {name for row in rows for name in wanted - row.keys()}:
            raise _Transient(f"its events lack {', '.join(sorted(missing))}")
        if nested := {name for row in rows for name in wanted if isinstance(row[name], dict | list)}:
            raise _Transient(f"its events hold more than one value in {', '.join(sorted(nested))}")

    def _refuse_other_host(self, next_url: object) -> None:
        if not next_url:
            return
        import httpx

        base = httpx.URL(self.base_url)
        try:
            following = base.join(str(next_url))
        except httpx.InvalidURL:
            raise _Transient("its NextPageUrl is not a URL") from None
        # Not the scheme: behind a proxy that ends TLS the API may believe that it is asked by plain http.
        if (following.host, following.port) != (base.host, base.port):
            raise SourceError(
                f"UCDP API at {self.base_url} points to its next page on another host, {following.netloc.decode()!r}; "
                "set base_url to the host that is meant"
            )

    def _backoff(self, attempt: int) -> float:
        """Exponential, half of it random so that clients that failed together do not come back together."""
        return float(min(FIRST_WAIT_S * 2.0**attempt, LONGEST_WAIT_S) * (0.5 + 0.5 * self.jitter()))

    @staticmethod
    def _asked_wait(response: "httpx.Response") -> float | None:
        """`Retry-After`, seconds or an HTTP date, within 0..LONGEST_WAIT_S; None where absent or unreadable."""
        text = response.headers.get("Retry-After", "").strip()
        seconds: float | None = None
        with suppress(ValueError, OverflowError):
            if text.isascii() and text.isdigit():
                seconds = float(text)
            elif text:
                seconds = (parsedate_to_datetime(text).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT_S)
