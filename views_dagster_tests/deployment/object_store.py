"""An S3 API on 127.0.0.1, in a process of its own: moto's, made as strict about conditions as S3 is, and with faults on demand.

Run as a program it prints its port and serves until its standard input ends.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
FAULT = "/_fault"
REQUESTS = "/_requests"
AUTHENTICATION = "/moto-api/reset-auth"


@dataclass(frozen=True)
class ObjectStore:
    """A running server.

    Attributes:
        endpoint: its URL.
    """

    endpoint: str

    def fail(self, status: int, code: str, message: str, *, methods: str = "GET HEAD PUT POST", path: str = "") -> None:
        """Answer with this error wherever the request's method and part of its path fit; status 0 ends that."""
        fault = {"status": status, "code": code, "message": message, "methods": methods.split(), "path": path}
        httpx.post(self.endpoint + FAULT, json=fault).raise_for_status()

    def check_keys(self) -> None:
        """Let nobody in but the users that its IAM API has made, and them as far as their policies go."""
        httpx.post(self.endpoint + AUTHENTICATION, content="0").raise_for_status()

    def heal(self) -> None:
        """Answer as usual, and everybody."""
        httpx.post(self.endpoint + AUTHENTICATION, content="inf").raise_for_status()
        self.fail(0, "", "")

    def requests(self) -> list[dict[str, str]]:
        """Method, path and condition of every request so far."""
        found: list[dict[str, str]] = httpx.get(self.endpoint + REQUESTS).json()
        return found


@contextlib.contextmanager
def serving() -> Iterator[ObjectStore]:
    """Start a server with no bucket; it is gone at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "views_dagster_tests.deployment.object_store"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield ObjectStore(f"http://127.0.0.1:{process.stdout.readline().strip()}")
    finally:
        process.kill()
        process.communicate()


class _Faulty:
    """A WSGI application before moto's.

    S3 looks whether an object is there and puts it in one step; moto takes two, so that of two writers both could win.
    Requests with a condition therefore come one after the other.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application = application
        self.fault: dict[str, Any] = {"status": 0}
        self.seen: list[dict[str, str]] = []
        self.one_at_a_time = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == FAULT:
            self.fault = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            start_response("204 No Content", [])
            return []
        if path == REQUESTS:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self.seen).encode()]
        condition = environ.get("HTTP_IF_NONE_MATCH", "")
        self.seen.append({"method": method, "path": path, "if_none_match": condition})
        if self.fault["status"] and method in self.fault["methods"] and self.fault["path"] in path:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{self.fault['status']} Fault", [("Content-Type", "application/xml")])
            said = f"<Code>{self.fault['code']}</Code><Message>{self.fault['message']}</Message>"
            return [f"<?xml version='1.0'?><Error>{said}</Error>".encode()]
        with self.one_at_a_time if condition else contextlib.nullcontext():
            return self.application(environ, start_response)


def main() -> None:
    """Serve on a free port."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, _Faulty(DomainDispatcherApplication(create_backend_app)), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
