"""Passwords, keys and tokens of a deployment stay in its environment: no log, event, run, table, file or command shows one."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from views_dagster.calendar import FIRST_KEY
from views_dagster_tests.deployment import postgres
from views_dagster_tests.deployment.conftest import SECRET_KEY, Bucket
from views_dagster_tests.deployment.months import install, materialize
from views_dagster_tests.homes import HISTORY, RELEASE, SMALL

pytestmark = pytest.mark.slow
NEWEST = "1990-12"
WEBHOOK, MLFLOW_TOKEN, MLFLOW_PASSWORD, MAIL = (f"planted-{name}" for name in ("webhook", "token", "mlflow", "mail"))
SECRETS = [SECRET_KEY, postgres.PASSWORD, WEBHOOK, MLFLOW_TOKEN, MLFLOW_PASSWORD, MAIL]


def everything_in(url: str) -> str:
    """All rows of all tables of a database, as text."""
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        rows = [str(row) for table in tables for row in connection.execute(text(f'SELECT t::text FROM "{table}" t'))]
    engine.dispose()
    return "\n".join(rows)


def test_no_secret_is_shown(tmp_path: Path, postgres_url: str, postgres_server: str, bucket: Bucket) -> None:
    """After a history, a release and a step that fails, with experiments and studies on the same database server."""
    experiments = postgres.add_database(postgres_server, "experiments")
    place = install(
        tmp_path,
        SMALL,
        {
            "VIEWS_POSTGRES_URL": postgres_url,
            "VIEWS_TABLES": bucket.tables,
            "MLFLOW_TRACKING_URI": experiments,
            "MLFLOW_TRACKING_TOKEN": MLFLOW_TOKEN,
            "MLFLOW_TRACKING_PASSWORD": MLFLOW_PASSWORD,
            "VIEWS_STUDIES": postgres_url,
            "VIEWS_WEBHOOK_URL": f"http://127.0.0.1:9/{WEBHOOK}",
            "VIEWS_SMTP_PASSWORD": MAIL,
            **bucket.environment,
        },
    )
    said = place.dagster(
        materialize(HISTORY, FIRST_KEY, NEWEST),
        materialize(RELEASE, NEWEST),
        ["instance", "info"],
        ["job", "list", "-m", "month_of_tests"],
        ["job", "print", "-m", "month_of_tests", "-j", "month"],
        materialize(RELEASE, "1995-01"),
    )
    assert said.returncode != 0
    for known in ("$DAGSTER_HOME", "Job: month", "dagster asset materialize"):
        assert known in said.stdout, said.stdout
    events, runs = everything_in(postgres_url), everything_in(experiments)
    assert "ASSET_MATERIALIZATION" in events
    assert "quiet_echo" in runs
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    objects = [bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read() for key in bucket.objects()]
    shown = {
        "said": said.stdout.encode(),
        "events": events.encode(),
        "experiments": runs.encode(),
        "files": b"\n".join(path.read_bytes() for path in files),
        "tables": b"\n".join(objects),
    }
    assert {
        (where, secret) for where, text_ in shown.items() for secret in SECRETS if secret.encode() in text_
    } == set()


def test_the_ui_names_variables_and_shows_no_value(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launchpad offers every resource's settings with their defaults."""
    from dagster._core.snap import JobSnap

    from views_dagster_tests.homes import open_home, write_catalogue

    for name in ("MLFLOW_TRACKING_URI", "VIEWS_STUDIES"):
        monkeypatch.setenv(name, postgres_url)
    monkeypatch.setenv("VIEWS_WEBHOOK_URL", f"http://127.0.0.1:9/{WEBHOOK}")
    from views_dagster.definitions import default_resources

    home = open_home(tmp_path, write_catalogue(tmp_path, SMALL), **default_resources())
    offered = str(JobSnap.from_job_def(home.defs.resolve_job_def("month")))
    assert "VIEWS_STUDIES" in offered
    assert not [secret for secret in SECRETS if secret in offered]
