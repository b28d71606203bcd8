"""A database or an object store that is away, full or not ours: soon an error that names the cause and what to do."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import polars as pl
import pytest

from resources.postgres import LIMITS, PostgresStorage
from views_dagster.errors import PlatformError, StorageError
from views_dagster.storage.tables import TableStore
from views_dagster.tuning.database import open_database
from views_dagster_tests.deployment import postgres
from views_dagster_tests.deployment.conftest import SECRET_KEY, Bucket
from views_dagster_tests.deployment.months import install
from views_dagster_tests.homes import SMALL

SOON_SECONDS = 45
NOBODY = "127.0.0.1:9"
CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"


def rows(month: int, value: int) -> pl.DataFrame:
    return pl.DataFrame({"month_id": [month] * 5, "value": value}, schema={"month_id": pl.Int32, "value": pl.Int64})


@pytest.fixture
def store(bucket: Bucket) -> TableStore:
    """A store on the bucket whose table `t` has one month."""
    made = TableStore(bucket.tables)
    made.write("t", rows(121, 1), [121], {})
    return made


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


# The object store.


@pytest.mark.parametrize(
    ("status", "code", "methods", "path", "message"),
    [
        (403, "AccessDenied", "PUT", "", f"written to: the object store does not allow it: AccessDenied (no); {CREDENTIALS}, and that the key may list, read, write and delete there"),
        (405, "MethodNotAllowed", "PUT", "", "written to: the object store does not allow it: MethodNotAllowed (no); "),
        (507, "XMinioStorageFull", "PUT", "month_id", "written to: the bucket is full: XMinioStorageFull (no); make room"),
        (403, "QuotaExceeded", "PUT", "_delta_log", "written to: the bucket is full: QuotaExceeded (no); make room"),
        (503, "SlowDown", "PUT", "", "written to: the object store is not able to answer: SlowDown (no); wait"),
    ],
)  # fmt: skip
def test_what_a_store_refuses_leaves_nothing_half_written(
    bucket: Bucket, store: TableStore, status: int, code: str, methods: str, path: str, message: str
) -> None:
    """Read-only, full of data, full of commits, overloaded."""
    bucket.store.fail(status, code, "no", methods=methods, path=path)
    began = time.monotonic()
    with pytest.raises(StorageError) as caught:
        store.write("t", rows(121, 2), [121], {})
    assert time.monotonic() - began < SOON_SECONDS
    assert str(caught.value).startswith(f"s3://{bucket.name}/tables/t cannot be {message}")
    assert SECRET_KEY not in str(caught.value)
    bucket.store.heal()
    assert store.open("t").version() == 1
    assert store.scan("t", 121, 121).collect()["value"].unique().to_list() == [1]
    store.write("t", rows(121, 3), [121], {})
    assert store.scan("t", 121, 121).collect()["value"].unique().to_list() == [3]


def test_keys_that_are_wrong_or_may_not_write(
    bucket: Bucket, store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With users and rights of the store's own, and signatures that it checks."""
    iam = boto3.client("iam", region_name="us-east-1")
    known = {}
    for user, allowed in (("writer", ["s3:*"]), ("reader", ["s3:Get*", "s3:List*"])):
        iam.create_user(UserName=user)
        known[user] = iam.create_access_key(UserName=user)["AccessKey"]
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}]}
        iam.put_user_policy(UserName=user, PolicyName="tables", PolicyDocument=json.dumps(policy))
    bucket.store.check_keys()

    def write_as(key: str, secret: str) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        store.write("t", rows(121, 2), [121], {})

    writer, reader = (known[user]["AccessKeyId"] for user in ("writer", "reader"))
    for key, secret, said in (
        ("nobody", SECRET_KEY, "read: the object store does not know these credentials: InvalidAccessKeyId"),
        (writer, SECRET_KEY, "read: the object store does not know these credentials: SignatureDoesNotMatch"),
        (reader, known["reader"]["SecretAccessKey"], "written to: the object store does not allow it: AccessDenied"),
    ):
        with pytest.raises(StorageError, match=re.escape(f"/t cannot be {said}")) as caught:
            write_as(key, secret)
        assert CREDENTIALS in str(caught.value)
        assert secret not in str(caught.value)
    write_as(writer, known["writer"]["SecretAccessKey"])
    assert store.open("t").version() == 2, "a refused write leaves no commit"


def test_a_missing_bucket_is_named(bucket: Bucket) -> None:
    with pytest.raises(
        StorageError, match="s3://no-such-bucket/x/t cannot be read: there is no bucket no-such-bucket; make it"
    ):
        TableStore("s3://no-such-bucket/x").write("t", rows(121, 1), [121], {})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AWS_ENDPOINT_URL", f"http://{NOBODY}", "the object store does not answer (Connection refused); check AWS_ENDPOINT_URL"),
        ("AWS_ENDPOINT_URL", "http://nobody.invalid:9000", "the object store does not answer (failed to lookup address); check"),
        ("AWS_ALLOW_HTTP", "false", "its endpoint is http, not https; set AWS_ALLOW_HTTP=true if that is meant"),
        ("AWS_SECRET_ACCESS_KEY", None, "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, message: str
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        # Where no address is the machine's own, nobody answers for it.
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://{NOBODY}")
    else:
        monkeypatch.setenv(variable, value)
    began = time.monotonic()
    with pytest.raises(StorageError) as caught:
        TableStore(bucket.tables).exists("t")
    assert time.monotonic() - began < SOON_SECONDS
    assert str(caught.value).startswith(f"{bucket.tables}/t cannot be read: {message}")


@pytest.mark.slow
def test_a_silent_store_is_not_waited_for(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{silent}")
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"does not answer \(operation timed out\); check AWS_ENDPOINT_URL"):
        TableStore(bucket.tables).exists("t")
    assert time.monotonic() - began < SOON_SECONDS


@pytest.mark.parametrize("location", ["s3://bucket/a b", "s3://bucket/a%20b", "s3://bucket/a?b", "s3://"])
def test_a_location_that_would_have_to_be_quoted_is_refused(location: str) -> None:
    with pytest.raises(StorageError, match="is no place for tables: write VIEWS_TABLES as s3://bucket/prefix"):
        TableStore(location)


def test_a_file_that_is_gone_or_cut_short_is_damage_of_its_month(bucket: Bucket) -> None:
    store = TableStore(bucket.tables)
    months = range(121, 140)
    store.write("t", pl.concat(rows(month, 1) for month in months), months, {})
    gone, cut = bucket.objects("tables/t/month_id=122/")[0], bucket.objects("tables/t/month_id=125/")[0]
    bucket.client.delete_object(Bucket=bucket.name, Key=gone)
    bucket.client.put_object(Bucket=bucket.name, Key=cut, Body=b"short")
    there = f"s3://{bucket.name}/"
    assert store.damage("t", 121, 139) == {122: f"{there}{gone} is gone", 125: f"{there}{cut} is damaged"}
    assert store.damage("t", 122, 123) == {122: f"{there}{gone} is gone"}
    assert store.damage("t", 123, 124) == {}


# Databases.


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql://views:{postgres.PASSWORD}@{NOBODY}/x", f"Dagster's database {NOBODY}/x cannot be reached: .*Connection refused.*; check host, port, user"),
        ("{no_database}", "Dagster's database .*/nowhere cannot be reached: .*database \"nowhere\" does not exist; check"),
        (f"postgresql://views:{postgres.PASSWORD}@{{silent}}/x", "Dagster's database .*/x cannot be reached: .*timeout expired; check host, port, user"),
        (f"{postgres.PASSWORD} at home", "VIEWS_POSTGRES_URL is no database URL; write it as postgresql://user:password@host:5432/database"),
    ],
)  # fmt: skip
def test_a_database_that_does_not_let_us_in(postgres_url: str, silent: str, url: str, message: str) -> None:
    url = url.format(silent=silent, no_database=postgres_url.rpartition("/")[0] + "/nowhere")
    began = time.monotonic()
    with pytest.raises(StorageError, match=message) as caught:
        PostgresStorage.from_config_value(None, {"postgres_url": url})
    assert time.monotonic() - began < SOON_SECONDS
    assert postgres.PASSWORD not in str(caught.value)


@pytest.mark.slow
def test_a_command_with_a_wrong_password_says_so_at_once_and_makes_nothing(tmp_path: Path, postgres_url: str) -> None:
    wrong = postgres_url.replace(postgres.PASSWORD, "another-password")
    place = install(tmp_path, SMALL, {"VIEWS_POSTGRES_URL": wrong})
    began = time.monotonic()
    done = place.materialize("raw/countries", "1990-01")
    assert time.monotonic() - began < SOON_SECONDS
    assert done.returncode != 0
    assert re.search(r"Dagster's database .* cannot be reached: .*password authentication failed", done.stdout)
    assert "another-password" not in done.stdout
    assert not Path(place.environment["VIEWS_TABLES"]).exists()


def test_a_connection_to_the_database_is_given_up_when_its_server_is_gone(postgres_url: str) -> None:
    """Not after the hours that the system's own limits take; what the URL says counts."""
    storage = PostgresStorage.from_config_value(None, {"postgres_url": f"{postgres_url}?keepalives_idle=7"})
    with storage.event_log_storage._connect() as connection:
        parameters = connection.connection.dbapi_connection.get_dsn_parameters()
    assert {name: parameters[name] for name in LIMITS} == {**LIMITS, "keepalives_idle": "7"}


@pytest.mark.slow
def test_a_database_of_studies_that_does_not_let_us_in(postgres_url: str, silent: str) -> None:
    for url, said in (
        (postgres_url.replace(postgres.PASSWORD, "another-password"), "password authentication failed"),
        (postgres_url.rpartition("/")[0] + "/nowhere", 'database "nowhere" does not exist'),
        (f"{postgres.SCHEME}://views:{postgres.PASSWORD}@{NOBODY}/x", "Connection refused"),
        (f"{postgres.SCHEME}://views:{postgres.PASSWORD}@{silent}/x", "timeout expired"),
    ):
        began = time.monotonic()
        with pytest.raises(
            PlatformError, match=r"(?s)the sweep's storage .* cannot be opened: .*check that the"
        ) as caught:
            open_database(url, 10)
        assert time.monotonic() - began < SOON_SECONDS
        assert said in str(caught.value)
        assert not [word for word in (postgres.PASSWORD, "another-password") if word in str(caught.value)]
