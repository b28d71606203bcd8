"""Dagster's storage on PostgreSQL: who makes the tables of an empty database."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import create_engine, func, inspect, select
from sqlalchemy.pool import NullPool

from resources import postgres
from resources.postgres import MAKING_TABLES, PostgresStorage
from views_dagster.errors import StorageError

TOGETHER = 8


def storage(url: str) -> PostgresStorage:
    return PostgresStorage.from_config_value(None, {"postgres_url": url})


def test_those_who_start_together_make_the_tables_once(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    start = Barrier(TOGETHER)

    def first_look() -> int:
        start.wait()
        return len(storage(postgres_url).run_storage.get_runs())

    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(TOGETHER) as pool:
        assert [found.result() for found in [pool.submit(first_look) for _ in range(TOGETHER)]] == [0] * TOGETHER
    # Dagster warns where a table that it is about to make is there already, and gives up after five.
    assert not [record.message for record in caplog.records if "database creation" in record.message]


def test_only_an_empty_database_is_waited_for(postgres_url: str) -> None:
    engine = create_engine(postgres_url, poolclass=NullPool)
    with ThreadPoolExecutor(1) as pool:
        with engine.connect() as other:
            other.execute(select(func.pg_advisory_xact_lock(MAKING_TABLES)))
            waiting = pool.submit(storage, postgres_url)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
            assert inspect(other).get_table_names() == []
        assert waiting.result(timeout=60)
        with engine.connect() as other:
            other.execute(select(func.pg_advisory_xact_lock(MAKING_TABLES)))
            assert pool.submit(storage, postgres_url).result(timeout=60)


def test_a_maker_of_tables_that_never_ends_is_an_error(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "PATIENCE", 1)
    with create_engine(postgres_url, poolclass=NullPool).connect() as other:
        other.execute(select(func.pg_advisory_xact_lock(MAKING_TABLES)))
        with pytest.raises(StorageError, match=r"lacks tables, and another process .* for 1 seconds; end its session"):
            storage(postgres_url)
