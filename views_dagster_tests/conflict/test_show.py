"""The analyst's command, on a small release with numbers that can be worked out by hand."""

import json
from pathlib import Path

import polars as pl
import pytest

from views_dagster.calendar import from_key
from views_dagster.conflict.release import RELEASE_SCHEMA
from views_dagster.conflict.released import complete_months, read_release, worst_hit
from views_dagster.conflict.show import main
from views_dagster.errors import MissingMonthsError
from views_dagster.storage.tables import TableStore

MONTH, EARLIER = from_key("2024-01"), from_key("2023-12")


def rows(month_id: int, scale: float = 1) -> pl.DataFrame:
    """Two models, countries 10 (unnamed) and 20, 13 steps: a mean of 2 or 5 times the scale each month."""
    cells = [
        {
            "month_id": month_id,
            "model": model,
            "level": "cm",
            "unit_id": unit,
            "step": step,
            "target": "sb_best",
            "target_month": month_id + step,
            "mean": scale * mean,
            "p_at_least_25": 0.5 if (unit, step) == (20, 7) else 0.25,
        }
        for model in ("quiet_echo", "white_mustang")
        for unit, mean in ((10, 2.0), (20, 5.0))
        for step in range(1, 14)
    ]
    known = pl.DataFrame(cells)
    absent = {name: pl.lit(0.0) for name in RELEASE_SCHEMA if name not in known.columns}
    return known.with_columns(**absent).select(pl.col(name).cast(dtype) for name, dtype in RELEASE_SCHEMA.items())


def release(store: TableStore, month_id: int, scale: float = 1) -> None:
    """Rows, then the manifest, as the platform writes them."""
    version = store.write("forecasts", rows(month_id, scale), [month_id], {})
    document = {"release": {"table_version": version, "leading": "white_mustang"}}
    written = {"month_id": [month_id], "manifest": [json.dumps(document)]}
    schema = {"month_id": pl.Int32(), "manifest": pl.String()}
    store.write("release_manifests", pl.DataFrame(written, schema), [month_id], {})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TableStore:
    """A home whose country 20 has a name, with releases of two months."""
    monkeypatch.setenv("VIEWS_HOME", str(tmp_path))
    monkeypatch.delenv("VIEWS_TABLES", raising=False)
    made = TableStore(str(tmp_path / "tables"))
    schema = {"month_id": pl.Int32(), "unit_id": pl.Int64(), "name": pl.String()}
    made.write("raw/countries", pl.DataFrame([[MONTH], [20], ["Mali"]], schema), [MONTH], {})
    release(made, MONTH)
    release(made, EARLIER, scale=100)
    return made


def test_the_worst_hit_by_hand() -> None:
    table = worst_hit(rows(MONTH), {20: "Mali"}, model="white_mustang", count=5)
    assert table.rows() == [("Mali", 5.0, 60.0, 0.25, 0.5), ("10", 2.0, 24.0, 0.25, 0.25)]
    assert worst_hit(rows(MONTH), {}, model="quiet_echo", count=1)["country"].to_list() == ["20"]


def test_the_newest_release_is_shown_in_words(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Release 2024-01: forecasts of 2024-02 to 2025-02, made with data up to 2024-01"
    assert "52 rows: 2 models and ensembles, 2 countries, 13 months ahead" in lines[1]
    assert any(store.uri("forecasts") in line for line in lines)
    shown = [line.split() for line in lines if line.startswith(("  Mali", "  10 "))]
    assert shown == [["Mali", "5", "60", "25%", "50%"], ["10", "2", "24", "25%", "25%"]]


def test_an_earlier_release_and_another_model(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["2023-12", "--model", "quiet_echo", "--count", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Worst hit by quiet_echo" in shown
    assert "6,000" in shown
    assert "2,400" not in shown


def test_the_list(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.write("forecasts", rows(MONTH, scale=3), [MONTH], {})
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["2023-12", "2024-01  not complete, make it again"]


def test_exports_hold_every_row(store: TableStore, tmp_path: Path) -> None:
    csv, parquet = tmp_path / "release.csv", tmp_path / "release.parquet"
    assert main(["2024-01", "--csv", str(csv), "--parquet", str(parquet)]) == 0
    exported = pl.read_parquet(parquet)
    assert exported.select(RELEASE_SCHEMA.keys()).equals(read_release(store, MONTH).rows)
    assert exported.filter(pl.col("unit_id") == 20)["country"].unique().to_list() == ["Mali"]
    assert exported.filter(pl.col("step") == 1)["month"].unique().to_list() == ["2024-02"]
    assert pl.read_csv(csv).height == exported.height == 52


def test_a_month_without_a_release_names_the_command(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["2024-03"]) == 1
    told = capsys.readouterr().err
    assert "2024-03 has no release (the newest of 2 that are there is 2024-01)" in told
    assert "make forecasts MONTH=2024-03" in told


def test_rows_without_their_manifest_are_refused(store: TableStore) -> None:
    store.write("forecasts", rows(MONTH, scale=3), [MONTH], {})
    with pytest.raises(MissingMonthsError, match=r"2024-01 is not complete.*belongs to earlier rows"):
        read_release(store, MONTH)
    store.write("forecasts", rows(MONTH + 1), [MONTH + 1], {})
    with pytest.raises(MissingMonthsError, match=r"2024-02 is not complete.*is missing"):
        read_release(store, MONTH + 1)
    assert complete_months(store) == [EARLIER]
    release(store, MONTH, scale=4)
    assert read_release(store, MONTH).rows["mean"].max() == 20
    assert complete_months(store) == [EARLIER, MONTH]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["2024-01", "--model", "red_fox"], "has no red_fox; it has quiet_echo, white_mustang"),
        (["2024-01", "--csv", "/no/such/folder/file.csv"], "No such file"),
    ],
)
def test_errors_in_words(
    store: TableStore, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(arguments) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["2024-13"], ["January"], ["--count", "0"]])
def test_arguments_that_make_no_sense(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_a_home_without_any_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIEWS_TABLES", str(tmp_path / "none"))
    assert main([]) == 1
    assert "make forecasts" in capsys.readouterr().err
    assert main(["--list"]) == 0
    assert "there is no release in" in capsys.readouterr().out
