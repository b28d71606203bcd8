"""The analyst's command, on a small release with numbers that can be worked out by hand."""

import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from views_dagster.calendar import from_key
from views_dagster.errors import MissingMonthsError
from views_dagster.precipitation.release import TABLE, released_diagnoses
from views_dagster.precipitation.released import RELEASED, band_mix, read_release, wettest_times
from views_dagster.precipitation.show import main
from views_dagster.storage.tables import TableStore

MONTH, EARLIER = from_key("2024-01"), from_key("2023-12")
TIMES = [datetime(2024, 1, 5, 3), datetime(2024, 1, 5, 6)]
DRY, WET, SOAKED = [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.25, 0.75]
EDGES = {"calm_gauge": [0.1, 1.0], "storm_glass": [0.1, 1.0]}


def rows(model: str, month_id: int, rain: list[float], fractions: list[list[float]]) -> pl.DataFrame:
    """Two boxes, one south and west of zero, at two times."""
    return pl.DataFrame(
        {
            "month_id": pl.Series([month_id] * 4, dtype=pl.Int32),
            "model": [model] * 4,
            "valid_time": pl.Series([TIMES[0]] * 2 + [TIMES[1]] * 2, dtype=pl.Datetime("us")),
            "box_id": [0, 7] * 2,
            "latitude": pl.Series([-1.5, 48.25] * 2, dtype=pl.Float32),
            "longitude": pl.Series([-0.5, 7.0] * 2, dtype=pl.Float32),
            "fractions": pl.Series(fractions, dtype=pl.List(pl.Float32)),
            "rain_mean": pl.Series(rain, dtype=pl.Float32),
        }
    )


def release(store: TableStore, month_id: int, *, with_rain: bool = True) -> None:
    """Rows, then the manifest, as the platform writes them."""
    parts: dict[str, object] = {"table": "forecasts", "table_version": 0}
    if with_rain:
        table = released_diagnoses(
            [
                rows("storm_glass", month_id, [0, 0.5, 0.25, 4.75], [DRY, WET, WET, SOAKED]),
                rows("calm_gauge", month_id, [0, 0, 0, 0.5], [DRY, DRY, DRY, WET]),
            ],
            lambda model: "abc" if model == "calm_gauge" else None,
        )
        version = store.write(TABLE, table, [month_id], {})
        parts[TABLE] = {"table_version": version, "rows": 8, "leading": "storm_glass", "edges": EDGES}
    document = {"release": parts, "made_from": {"ensembles/storm_glass": {}, "forecasts/calm_gauge": {}}}
    written = {"month_id": [month_id], "manifest": [json.dumps(document)]}
    schema = {"month_id": pl.Int32(), "manifest": pl.String()}
    store.write("release_manifests", pl.DataFrame(written, schema), [month_id], {})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TableStore:
    """A home with a release of a month, and one of an earlier month in which this system had not begun."""
    monkeypatch.setenv("VIEWS_HOME", str(tmp_path))
    monkeypatch.delenv("VIEWS_TABLES", raising=False)
    made = TableStore(str(tmp_path / "tables"))
    release(made, EARLIER, with_rain=False)
    release(made, MONTH)
    return made


def test_the_mix_and_the_wettest_times_by_hand(store: TableStore) -> None:
    found = read_release(store, MONTH)
    assert found.models == ["storm_glass", "calm_gauge"]
    assert found.bands("calm_gauge") == ("0-0.1", "0.1-1", "1+")
    assert band_mix(found) == {
        "storm_glass": ([0.5, 0.3125, 0.1875], 1.375),
        "calm_gauge": ([0.875, 0.125, 0.0], 0.125),
    }
    leading = found.rows.filter(pl.col("model") == "storm_glass")
    assert wettest_times(leading, found.bands("storm_glass"), count=5).rows() == [
        (TIMES[1], 2.5, 0.25, 0.375, 0.375, 4.75),
        (TIMES[0], 0.25, 0.75, 0.25, 0.0, 0.5),
    ]


def test_a_release_in_words(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Release 2024-01: rain in 2 boxes at 2 times from 2024-01-05 03:00 to 2024-01-05 06:00 UTC"
    assert lines[1] == "  8 rows: 2 models and ensembles, storm_glass first"
    words = [line.split() for line in lines]
    assert ["storm_glass", "50.0%", "31.2%", "18.8%", "1.375"] in words
    assert ["2024-01-05", "06:00", "2.50", "4.8", "25.0%", "37.5%", "37.5%"] in words
    boxes = words[lines.index("Wettest boxes by storm_glass") + 2 :]
    assert boxes[0] == ["2024-01-05", "06:00", "48.25", "N", "7.00", "E", "4.8", "0.0%", "25.0%", "75.0%"]
    assert boxes[2] == ["2024-01-05", "06:00", "1.50", "S", "0.50", "W", "0.2", "50.0%", "50.0%", "0.0%"]
    assert any("assets/ensembles/storm_glass?view=partitions&partition=2024-01" in line for line in lines)


def test_another_model_and_fewer_lines(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["2024-01", "--model", "calm_gauge", "--count", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Wettest times by calm_gauge" in shown
    assert "assets/forecasts/calm_gauge?view=partitions&partition=2024-01" in shown
    assert "03:00 " not in shown.split("Wettest times")[1]


def test_exports_have_a_column_a_band(store: TableStore, tmp_path: Path) -> None:
    csv, parquet = tmp_path / "rain.csv", tmp_path / "rain.parquet"
    assert main(["2024-01", "--csv", str(csv), "--parquet", str(parquet)]) == 0
    exported = pl.read_parquet(parquet)
    bands = ["fraction 0-0.1", "fraction 0.1-1", "fraction 1+"]
    assert exported.height == pl.read_csv(csv).height == 8
    assert exported.select(pl.sum_horizontal(bands)).to_series().to_list() == [1.0] * 8
    assert exported.filter(pl.col("model") == "calm_gauge")["artifact"].unique().to_list() == ["abc"]
    assert main(["2024-01", "--model", "calm_gauge", "--csv", str(csv)]) == 0
    assert pl.read_csv(csv)["model"].unique().to_list() == ["calm_gauge"]


def test_a_month_before_the_system_begins(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["2023-12"]) == 1
    told = capsys.readouterr().err
    assert f"the release of 2023-12 has nothing in {TABLE}: what it comes from begins later" in told
    assert "the first that has is 2024-01" in told


def test_a_month_without_a_release_names_the_command(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["2024-03"]) == 1
    told = capsys.readouterr().err
    assert "2024-03 has no release (the newest of 1 that are there is 2024-01)" in told
    assert "make forecasts MONTH=2024-03" in told


def test_rows_without_their_manifest_are_refused(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    newer = rows("storm_glass", MONTH, [0, 0, 0, 0], [DRY] * 4).with_columns(artifact=pl.lit(None, pl.String))
    store.write(TABLE, newer, [MONTH], {})
    with pytest.raises(MissingMonthsError, match=r"2024-01 is not complete.*belongs to earlier rows"):
        read_release(store, MONTH)
    assert RELEASED.complete_months(store) == []
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["2024-01  not complete, make it again"]


def test_a_model_that_is_not_released(store: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "storm_glas"]) == 1
    assert "has no storm_glas; did you mean storm_glass?" in capsys.readouterr().err


def test_a_home_without_any_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIEWS_TABLES", str(tmp_path / "none"))
    assert main([]) == 1
    assert "make forecasts" in capsys.readouterr().err
