"""A PostgreSQL server of Debian's package on 127.0.0.1, with a folder, a port and a password of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg2

BINARIES: Final = Path("/usr/lib/postgresql")
USER: Final = "views"
SCHEME: Final = "postgresql+psycopg2"
PASSWORD: Final = "planted-postgres-password"
_START_SECONDS: Final = 60


def binaries() -> Path | None:
    """The folder of the newest installed server's programs; None where there is none."""
    found = sorted(BINARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def running(programs: Path) -> Iterator[str]:
    """Start a server; gives the URL of its first database, and stops it and removes its folder at the end."""
    # As root it refuses to run; its package brings a user.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="views_postgres_"))
    data, password = folder / "data", folder / "password"
    password.write_text(PASSWORD)
    if user is not None:
        for path in (folder, password):
            shutil.chown(path, user, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-U {USER} -A scram-sha-256 -E UTF8 --locale C --no-sync"
    subprocess.run(
        [programs / "initdb", "-D", data, "--pwfile", password, *options.split()],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )
    settings = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}", "fsync=off"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *(part for setting in settings for part in ("-c", setting))],
            stdout=log,
            stderr=log,
            user=user,
            cwd=folder,
        )
    url = f"{SCHEME}://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
    try:
        _wait(url, folder / "log")
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(folder)


def add_database(url: str, name: str) -> str:
    """Make a database on the server of `url`; returns its URL."""
    connection = _connect(url)
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    return url.rpartition("/")[0] + f"/{name}"


def _connect(url: str) -> "psycopg2.extensions.connection":
    return psycopg2.connect(url.replace(SCHEME, "postgresql"))


def _wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            _connect(url).close()
            return
        except psycopg2.OperationalError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
