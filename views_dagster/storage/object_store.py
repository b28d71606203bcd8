"""Object stores as the place of tables: what is asked of one, and what its refusals mean in words.

Credentials and endpoints come from the environment alone (`AWS_*`), as delta-rs and polars read them.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from views_dagster.errors import PlatformError, StorageError

RETRIES: Final = 8
RETRY_SECONDS: Final = 25
CONNECT_SECONDS: Final = 5
"""A store that restarts is waited for; one that is gone is an error within half a minute."""

DELTA_OPTIONS: Final[Mapping[str, str]] = {
    # A commit is put only where there is none of its number yet: this is what makes concurrent writers safe.
    "aws_conditional_put": "etag",
    "max_retries": str(RETRIES),
    "retry_timeout": f"{RETRY_SECONDS}s",
    "connect_timeout": f"{CONNECT_SECONDS}s",
}
SCAN_OPTIONS: Final[Mapping[str, Any]] = {"max_retries": RETRIES}
"""What polars wants typed otherwise than delta-rs."""

_SAFE: Final = re.compile(r"[a-z][a-z0-9]*://[A-Za-z0-9._/=-]+")
_KEYS: Final = "InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken InvalidToken InvalidClientTokenId AuthFailure"
_FULL: Final = "QuotaExceeded XMinioStorageFull XMinioAdminBucketQuotaExceeded InsufficientStorage"
_CHECK_KEY: Final = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
_MAKE_ROOM: Final = "make room (vacuum tables, remove older versions) or raise its quota, then run the step again"


def is_url(location: str) -> bool:
    """Whether a location is an object store's, not a folder."""
    return "://" in location


def checked(location: str) -> str:
    """The location as it is.

    Raises:
        StorageError: a URL with characters that would have to be quoted, which readers and writers do differently.
    """
    if is_url(location) and not _SAFE.fullmatch(location):
        raise StorageError(
            f"{location!r} is no place for tables: write VIEWS_TABLES as s3://bucket/prefix, with letters, digits and "
            ". _ - / = alone"
        )
    return location


@contextmanager
def explained(place: str, doing: str) -> Iterator[None]:
    """Turn what a store or a disk refuses into a StorageError; other errors pass as they are.

    Args:
        place: the folder or URL in question.
        doing: `read` or `written to`, for the message.
    """
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except (CommitFailedError, PlatformError):
        raise
    except (OSError, DeltaError) as error:
        found = _cause(str(error), place)
        if found is None:
            raise
        cause, remedy = found
        raise StorageError(f"{place} cannot be {doing}: {cause}; {remedy}") from error


def _cause(text: str, place: str) -> tuple[str, str] | None:
    """What was wrong and what to do, of an error of delta-rs; None where it is not about reaching or writing."""
    said = " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", " ", text).split())
    if "No space left" in said:
        return "the disk is full", "make room, then run the step again"
    if re.search(r"Permission denied|Read-only file system", said):
        return said, "check the folder's rights, or name another one in VIEWS_TABLES"
    if not is_url(place):
        return None
    # Without a key in the environment, the machine's own is asked for at an address of its cloud.
    if re.search(r"169\.254\.|/latest/(api/token|meta-data)", said) or re.search(r"credential", said, re.IGNORECASE):
        return "there are no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if "URL scheme is not allowed" in said:
        return "its endpoint is http, not https", "set AWS_ALLOW_HTTP=true if that is meant"
    if answer := re.search(r"non-2xx status code:? (\d+)", said):
        return _refusal(int(answer[1]), said, place)
    if re.search(r"HTTP error|error sending request|timed out", said):
        why = re.search(r"(Connection refused|failed to lookup address|operation timed out|certificate[^:]*)", said)
        reason = f" ({why[1]})" if why else ""
        return f"the object store does not answer{reason}", "check AWS_ENDPOINT_URL, the network, and that it runs"
    return None


def _refusal(status: int, said: str, place: str) -> tuple[str, str] | None:
    code, message = (
        found[1] if (found := re.search(rf"<{tag}>(.*?)</{tag}>", said)) else "" for tag in ("Code", "Message")
    )
    answered = f"{code or status} ({message})" if message else code or str(status)
    if code == "NoSuchBucket":
        bucket = place.split("/")[2]
        return f"there is no bucket {bucket}", "make it, or name another one in VIEWS_TABLES"
    if code in _KEYS.split() or status == 401:
        return f"the object store does not know these credentials: {answered}", _CHECK_KEY
    if code in _FULL.split() or status == 507:
        return f"the bucket is full: {answered}", _MAKE_ROOM
    if status in (403, 405):
        return (
            f"the object store does not allow it: {answered}",
            f"{_CHECK_KEY}, and that the key may list, read, write and delete there",
        )
    if status == 429 or status >= 500:
        return f"the object store is not able to answer: {answered}", "wait until it is well, then run the step again"
    return None
