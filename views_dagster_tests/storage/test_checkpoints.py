"""Checkpoints in a folder and in an object store: whole or not there, and never in the way of a training."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from views_dagster.errors import PlatformError
from views_dagster.storage.checkpoints import StoredCheckpoint


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "views",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="views")
    return "s3://views/checkpoints"


class Told:
    """What a checkpoint said, and the checkpoint."""

    def __init__(self, location: str) -> None:
        self.logged: list[str] = []
        self.warned: list[str] = []
        self.checkpoint = StoredCheckpoint(
            location, "deep_column.2022-07", log=self.logged.append, warn=self.warned.append
        )


@pytest.mark.parametrize("kind", ["folder", "object store"])
def test_what_was_saved_last_is_loaded_until_it_is_removed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    location = str(tmp_path / "checkpoints") if kind == "folder" else request.getfixturevalue("bucket")
    told = Told(location)
    assert told.checkpoint.load() is None
    for state in (b"one", b"", b"\x00" * 3_000_000):
        told.checkpoint.save(state)
        assert Told(location).checkpoint.load() == state
    told.checkpoint.remove()
    assert told.checkpoint.load() is None
    told.checkpoint.remove()
    assert (told.logged, told.warned) == ([], [])


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    told = Told(str(tmp_path))
    told.checkpoint.save(b"whole")
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert told.checkpoint.load() is None
    assert told.warned == [f"checkpoint {tmp_path}/deep_column.2022-07 is damaged; the training starts anew"]


def test_a_write_that_fails_leaves_the_older_state_and_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(str(tmp_path))
    told.checkpoint.save(b"older")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    told.checkpoint.save(b"newer")
    assert told.checkpoint.load() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["deep_column.2022-07"]
    (warning,) = told.warned
    assert "cannot be written" in warning
    assert "No space left on device" in warning


def test_a_bucket_that_is_not_there_is_named(bucket: str) -> None:
    told = Told(bucket.replace("views", "elsewhere"))
    told.checkpoint.save(b"state")
    (warning,) = told.warned
    assert "s3://elsewhere/checkpoints/deep_column.2022-07 cannot be written" in warning


@pytest.mark.slow
def test_an_object_store_that_does_not_answer_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PlatformError, match=r"s3://views/.* cannot be read: .*Check VIEWS_CHECKPOINTS, and the AWS_"):
        Told(bucket).checkpoint.load()
