"""A stand-in for UCDP's API: an HTTP server on 127.0.0.1 that pages through given events and fails where told to."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    version: str
    page: int
    page_size: int
    token: str | None


@dataclass(frozen=True)
class Fault:
    """How one answer differs from the right one.

    Attributes:
        status: answered instead of 200, with an empty body.
        headers: sent as well.
        body: sent instead of the envelope.
        envelope: changes the right envelope before it is sent.
        cut: the connection ends after half of the body that was announced.
        hang: nothing is sent until the server is closed.
        drip: the body comes one byte at a time, endlessly slowly.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    envelope: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    cut: bool = False
    hang: bool = False
    drip: bool = False


@dataclass
class _Planned:
    fault: Fault
    version: str | None
    page: int | None
    skip: int
    times: float


class UcdpServer:
    """Serves `releases` (version to events) at `url`; use it as a context manager. `requests` holds what was asked."""

    def __init__(
        self, releases: Mapping[str, Sequence[Event]], *, token: str | None = None, unknown_is_empty: bool = False
    ) -> None:
        self.releases = dict(releases)
        self.token = token
        self.unknown_is_empty = unknown_is_empty
        self.requests: list[Request] = []
        self._planned: list[_Planned] = []
        self._closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.host = f"127.0.0.1:{self._http.server_address[1]}"
        self.url = f"http://{self.host}/api"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def fail(
        self, fault: Fault, *, version: str | None = None, page: int | None = None, skip: int = 0, times: float = 1
    ) -> None:
        """Let `fault` happen to the next `times` requests for `page` of `version` (None: any), after `skip` others."""
        self._planned.append(_Planned(fault, version, page, skip, times))

    def asked(self, version: str) -> list[int]:
        """The pages of a release that were asked for, in order."""
        return [request.page for request in self.requests if request.version == version]

    def envelope(self, request: Request) -> dict[str, Any] | None:
        """The right answer, or None for a version that does not exist."""
        events = self.releases.get(request.version, [] if self.unknown_is_empty else None)
        if events is None:
            return None
        pages = -(-len(events) // request.page_size)
        address = f"{self.url}/gedevents/{request.version}?pagesize={request.page_size}&page="
        start = request.page * request.page_size
        return {
            "TotalCount": len(events),
            "TotalPages": pages,
            "PreviousPageUrl": f"{address}{request.page - 1}" if request.page else "",
            "NextPageUrl": f"{address}{request.page + 1}" if request.page + 1 < pages else "",
            "Result": [_as_json(event) for event in events[start : start + request.page_size]],
        }

    def _fault_for(self, request: Request) -> Fault:
        for planned in self._planned:
            if planned.version in (None, request.version) and planned.page in (None, request.page):
                if planned.skip:
                    planned.skip -= 1
                elif planned.times:
                    planned.times -= 1
                    return planned.fault
        return Fault()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes: 40 ms a request otherwise

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = parse_qs(url.query)
                request = Request(
                    url.path.removeprefix("/api/gedevents/"),
                    int(query["page"][0]),
                    int(query["pagesize"][0]),
                    self.headers.get("x-ucdp-access-token"),
                )
                server.requests.append(request)
                server._answer(self, request)

        return Handler

    def _answer(self, http: BaseHTTPRequestHandler, request: Request) -> None:
        fault = self._fault_for(request)
        if fault.hang:
            self._closing.wait()
            http.close_connection = True
            return
        envelope = self.envelope(request)
        if fault.envelope is not None and envelope is not None:
            envelope = fault.envelope(envelope)
        status, body = fault.status, json.dumps(envelope).encode()
        if self.token is not None and request.token != self.token:
            status, body = 401, b"API token required"
        elif fault.status != 200:
            body = b""
        elif fault.body is not None:
            body = fault.body
        elif envelope is None:
            status, body = 404, b""
        http.send_response(status)
        for name, value in {"Content-Type": "application/json", **fault.headers, "Content-Length": len(body)}.items():
            http.send_header(name, str(value))
        http.end_headers()
        if fault.cut:
            http.wfile.write(body[: len(body) // 2])
            http.close_connection = True
        elif fault.drip:
            with suppress(ConnectionError):
                for byte in body:
                    http.wfile.write(bytes([byte]))
                    if self._closing.wait(0.01):
                        return
        else:
            http.wfile.write(body)


def _as_json(event: Event) -> dict[str, Any]:
    return {
        name: f"{value.isoformat()}T00:00:00" if isinstance(value, date) else value for name, value in event.items()
    }
