"""State of unfinished trainings, in a folder or an object store, each replaced as a whole.

A state is trusted only with the digest that stands before it, so that one that was cut off is passed over.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from views_dagster.errors import PlatformError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

DIGEST_BYTES: Final = 16
Log = Callable[[str], Any]


class StoredCheckpoint:
    """The state of one training.

    Args:
        location: folder or s3:// URL of all checkpoints. What reaches the object store is configured by the AWS_
            variables that delta-rs and boto read: keys, AWS_ENDPOINT_URL, AWS_REGION.
        name: of this one, with no slash.
        log, warn: told what happens.
    """

    def __init__(self, location: str, name: str, *, log: Log, warn: Log) -> None:
        self.place = f"{location.rstrip('/')}/{name}"
        self._log, self._warn = log, warn

    def load(self) -> bytes | None:
        """What was saved last; None where there is nothing, or it is damaged.

        Raises:
            PlatformError: the place cannot be read.
        """
        try:
            stored = self._read()
        except OSError as error:
            raise PlatformError(
                f"checkpoint {self.place} cannot be read: {error}. Check VIEWS_CHECKPOINTS, and the AWS_ variables "
                "where it is an object store"
            ) from error
        if stored is None:
            return None
        digest, state = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
        if digest != _digest(state):
            self._warn(f"checkpoint {self.place} is damaged; the training starts anew")
            return None
        return state

    def save(self, state: bytes) -> None:
        """Replace what was saved. A place that cannot be written costs the checkpoint, not the training."""
        try:
            self._write(_digest(state) + state)
        except OSError as error:
            self._warn(
                f"checkpoint {self.place} cannot be written, and a training that is killed would start anew: {error}"
            )

    def resumed(self, rounds: int) -> None:
        """Say that a training goes on from here."""
        self._log(f"goes on with round {rounds} from checkpoint {self.place}")

    def remove(self) -> None:
        """Forget the state; what it led to is stored."""
        try:
            system, path = self._where()
            if system is None:
                path.unlink(missing_ok=True)
            elif _is_file(system, str(path)):
                system.delete_file(str(path))
        except OSError as error:
            self._warn(f"checkpoint {self.place} is no longer needed and could not be removed: {error}")

    def _read(self) -> bytes | None:
        system, path = self._where()
        if system is None:
            return path.read_bytes() if path.is_file() else None
        if not _is_file(system, str(path)):
            return None
        with system.open_input_stream(str(path)) as stream:
            return bytes(stream.read())

    def _write(self, content: bytes) -> None:
        system, path = self._where()
        if system is not None:
            # An object appears when its upload is complete.
            with system.open_output_stream(str(path)) as stream:
                stream.write(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(unfinished).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(unfinished).unlink()
            raise

    def _where(self) -> "tuple[FileSystem | None, Path]":
        """The object store and the path in it, or None and a path of this machine."""
        if not self.place.startswith("s3://"):
            return None, Path(self.place)
        return _object_store(), Path(self.place.removeprefix("s3://"))


def _object_store() -> "FileSystem":
    from pyarrow.fs import S3FileSystem

    settings: dict[str, Any] = {"region": os.environ.get("AWS_REGION") or None}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        parts = urlsplit(endpoint)
        settings |= {"endpoint_override": parts.netloc + parts.path.rstrip("/"), "scheme": parts.scheme}
    return S3FileSystem(**settings, connect_timeout=10, request_timeout=60)


def _is_file(system: "FileSystem", path: str) -> bool:
    from pyarrow.fs import FileType

    return bool(system.get_file_info(path).type == FileType.File)


def _digest(state: bytes) -> bytes:
    return hashlib.blake2b(state, digest_size=DIGEST_BYTES).digest()
