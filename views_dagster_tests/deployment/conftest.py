"""The services of a deployment, real ones on 127.0.0.1: PostgreSQL and an S3 API."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from views_dagster_tests.deployment import object_store
from views_dagster_tests.deployment.object_store import ObjectStore

SECRET_KEY = "planted-aws-secret-key"
_numbers = itertools.count()


@dataclass(frozen=True)
class Bucket:
    """An empty bucket.

    Attributes:
        name: of the bucket.
        store: the server that holds it.
        environment: the `AWS_*` variables that a process needs to use it.
        client: boto3's, for what tests look at or take away.
    """

    name: str
    store: ObjectStore
    environment: dict[str, str]
    client: Any

    @property
    def tables(self) -> str:
        """Where a deployment's tables go: `VIEWS_TABLES`."""
        return f"s3://{self.name}/tables"

    def objects(self, prefix: str = "") -> list[str]:
        """Keys of all objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def fill(self, folder: Path, prefix: str) -> None:
        """Copy the files of a folder below a prefix."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.client.upload_file(str(path), self.name, f"{prefix}/{path.relative_to(folder)}")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectStore]:
    """A server with an S3 API."""
    with object_store.serving() as server:
        yield server


def empty_bucket(s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Make a bucket, and set the environment to use it in this process and those it starts."""
    environment = {
        "AWS_ACCESS_KEY_ID": "views",
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    import boto3

    client = boto3.client("s3", region_name=environment["AWS_REGION"])
    name = f"bucket-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    return Bucket(name, s3_server, environment, client)


@pytest.fixture
def bucket(s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, and the environment to use it in this process and those it starts."""
    yield empty_bucket(s3_server, monkeypatch)
    s3_server.heal()
