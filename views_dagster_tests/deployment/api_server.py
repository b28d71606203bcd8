"""A Kubernetes API server that answers what dagster_k8s asks and keeps who asked what."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Call = tuple[str, str, str]
"""API group, resource with its subresource, verb: what a rule of a Role names."""

PATH = re.compile(
    r"^/apis?/(?:(?P<group>[a-z.]+)/)?v1/namespaces/(?P<namespace>[^/]+)/(?P<resource>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$"
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class ApiServer:
    """Jobs that were created are running, each with a pod that failed; `pods` False: the cluster has lost the pods."""

    def __init__(self) -> None:
        self.calls: set[Call] = set()
        self.namespaces: set[str] = set()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Quiet."""

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                reply = server.answer(self.command, self.path, body)
                content = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain" if isinstance(reply, str) else "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def answer(self, method: str, path: str, body: Any) -> Any:
        """Keep the call and answer it."""
        parts = urlsplit(path)
        matched = PATH.match(parts.path)
        assert matched, f"{method} {path} is no call in a namespace"
        group, resource, name, sub = (matched[key] or "" for key in ("group", "resource", "name", "sub"))
        verb = VERBS.get(method) or ("get" if name else "watch" if "watch" in parse_qs(parts.query) else "list")
        self.calls.add((group, f"{resource}/{sub}" if sub else resource, verb))
        self.namespaces.add(matched["namespace"])
        if resource == "jobs" and verb == "create":
            self.jobs[body["metadata"]["name"]] = body
            return body
        if resource == "jobs" and verb == "get":
            return {**self.jobs[name], "status": {"active": 1}}
        if resource == "jobs" and verb == "list":
            status = {"status": {"startTime": "2024-01-01T00:00:00Z", "active": 1}}
            return {"items": [{**job, **status} for job in self.jobs.values()]}
        if sub == "log":
            return "killed\n"
        if resource == "pods" and verb == "list":
            wanted = parse_qs(parts.query).get("labelSelector", [""])[0].removeprefix("job-name=")
            return {"items": [_failed_pod(job) for job in self.jobs if self.pods and wanted in ("", job)]}
        if verb == "list":
            return {"items": []}
        return {"kind": "Status", "status": "Success"}

    @contextmanager
    def running(self, folder: Path) -> Iterator[Path]:
        """The path of a kubeconfig that leads to it."""
        thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        path = folder / "kubeconfig"
        address = f"http://127.0.0.1:{self.http.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(config))
        try:
            yield path
        finally:
            self.http.shutdown()
            self.http.server_close()
            thread.join()


def _failed_pod(job: str) -> dict[str, Any]:
    state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    status = {"name": "dagster", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {
        "metadata": {"name": f"{job}-abcde"},
        "spec": {"containers": [{"name": "dagster"}]},
        "status": {"phase": "Failed", "containerStatuses": [status]},
    }
