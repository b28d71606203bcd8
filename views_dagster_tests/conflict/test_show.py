"""The analyst's command, on a small release with numbers that can be worked out by hand."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from views_dagster.calendar import from_key
from views_dagster.conflict.release import RELEASE_SCHEMA
from views_dagster.conflict.released import (
    RELEASED,
    located_cells,
    read_release,
    unit_names,
    worst_hit,
    worst_hit_cells,
)
from views_dagster.conflict.show import main
from views_dagster.errors import MissingMonthsError
from views_dagster.geography import gid_at
from views_dagster.storage.tables import TableStore

MONTH, EARLIER = from_key("2024-01"), from_key("2023-12")
COUNTRIES_ALONE = {"cm": "white_mustang"}


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


CELLS = gid_at([12.3, 12.3, -1.2], [-7.6, -7.1, 30.1]).tolist()
"""Two neighbours in Mali, and one in a country without a name."""


def cell_rows(month_id: int, scale: float = 1) -> pl.DataFrame:
    """One model of the three cells: 0, 4 and 0.5 times the scale each month."""
    found = rows(month_id, scale).filter(pl.col("model") == "white_mustang", pl.col("unit_id") == 20)
    parts = [
        found.with_columns(
            model=pl.lit("tall_grass"),
            level=pl.lit("pgm"),
            unit_id=pl.lit(gid, pl.Int64),
            mean=pl.lit(mean * scale, pl.Float32),
            p_at_least_1=pl.lit(chance, pl.Float32),
        )
        for gid, mean, chance in zip(CELLS, (0.0, 4.0, 0.5), (0.0, 0.75, 0.125), strict=True)
    ]
    return pl.concat(parts)


def release(store: TableStore, month_id: int, scale: float = 1, leading: Mapping[str, str] = COUNTRIES_ALONE) -> None:
    """Rows, then the manifest, as the platform writes them; with cells if one of them leads."""
    table = rows(month_id, scale)
    if "pgm" in leading:
        table = pl.concat([table, cell_rows(month_id, scale)])
    version = store.write("forecasts", table, [month_id], {})
    document = {"release": {"table_version": version, "leading": leading}}
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


@pytest.fixture
def cells(store: TableStore) -> TableStore:
    """The same home with a release that has cells too; the month before has none."""
    parents = pl.DataFrame({"month_id": [MONTH] * 3, "unit_id": CELLS, "parent_id": [20, 20, 30]})
    store.write("raw/prio_grid", parents.cast({"month_id": pl.Int32}), [MONTH], {})
    release(store, MONTH, leading={"cm": "white_mustang", "pgm": "tall_grass"})
    return store


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


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
    assert exported.select(RELEASE_SCHEMA.keys()).equals(read_release(store, MONTH).rows.collect())
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
    assert RELEASED.complete_months(store) == [EARLIER]
    release(store, MONTH, scale=4)
    assert read_release(store, MONTH).rows.select(pl.col("mean").max()).collect().item() == 20
    assert RELEASED.complete_months(store) == [EARLIER, MONTH]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["2024-01", "--model", "red_fox"], "has no red_fox; it has quiet_echo, white_mustang"),
        (["2024-01", "--level", "pgm"], "has no pgm; it has cm"),
        (["2024-01", "--csv", "/no/such/folder/file.csv"], "No such file"),
    ],
)
def test_errors_in_words(
    store: TableStore, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(arguments) == 1
    assert told in capsys.readouterr().err


def test_cells_are_called_by_country_and_place(cells: TableStore) -> None:
    assert unit_names(cells, MONTH, "raw/prio_grid") == {
        CELLS[0]: "Mali (12.25 N, 7.75 W)",
        CELLS[1]: "Mali (12.25 N, 7.25 W)",
        CELLS[2]: "country 30 (1.25 S, 30.25 E)",
    }
    assert unit_names(cells, MONTH) == {20: "Mali"}
    assert unit_names(cells, EARLIER, "raw/prio_grid") == {}


def test_the_worst_hit_cells_by_hand(cells: TableStore) -> None:
    both = read_release(cells, MONTH).rows
    table = worst_hit_cells(both, located_cells(cells, MONTH), model="tall_grass", count=2)
    assert table.rows() == [
        ("Mali", 12.25, -7.25, CELLS[1], 4.0, 48.0, 0.75, 0.25),
        ("30", -1.25, 30.25, CELLS[2], 0.5, 6.0, 0.125, 0.25),
    ]
    assert worst_hit(both, {20: "Mali"}, model="white_mustang", count=1)["next_12_months"].to_list() == [60.0]
    assert worst_hit(both, {}, model="tall_grass", count=5).is_empty()


def test_both_levels_are_shown(cells: TableStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["2024-01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  cm: 52 rows: 2 models and ensembles, 2 countries, 13 months ahead" in lines
    assert "  pgm: 39 rows: 1 model, 3 cells, 13 months ahead" in lines
    shown = [line.split() for line in lines if line.startswith(("  Mali", "  30"))]
    assert shown == [
        ["Mali", "5", "60", "25%", "50%"],
        ["Mali", "12.25", "N", "7.25", "W", str(CELLS[1]), "4.0", "48.0", "75%", "25%"],
        ["30", "1.25", "S", "30.25", "E", str(CELLS[2]), "0.5", "6.0", "12%", "25%"],
        ["Mali", "12.25", "N", "7.75", "W", str(CELLS[0]), "0.0", "0.0", "0%", "25%"],
    ]
    assert main(["2024-01", "--level", "pgm", "--count", "1"]) == 0
    only = capsys.readouterr().out
    assert "Worst hit by tall_grass" in only
    assert "white_mustang" not in only


def test_one_level_is_exported_with_places(cells: TableStore, tmp_path: Path) -> None:
    file = tmp_path / "cells.parquet"
    assert main(["2024-01", "--level", "pgm", "--parquet", str(file)]) == 0
    exported = pl.read_parquet(file)
    assert exported.height == 39
    first = exported.filter(pl.col("step") == 1).sort("mean")
    assert first.select("unit_id", "country", "latitude", "longitude", "month").rows() == [
        (CELLS[0], "Mali", 12.25, -7.75, "2024-02"),
        (CELLS[2], None, -1.25, 30.25, "2024-02"),
        (CELLS[1], "Mali", 12.25, -7.25, "2024-02"),
    ]
    assert main(["2024-01", "--parquet", str(file)]) == 0
    everything = pl.read_parquet(file)
    assert everything.height == 52 + 39
    assert everything.filter(pl.col("level") == "cm")["latitude"].null_count() == 52


def test_the_map_shows_the_change_where_there_is_an_earlier_release(cells: TableStore, tmp_path: Path) -> None:
    alone, after = tmp_path / "alone.png", tmp_path / "after.png"
    assert main(["2024-01", "--map", str(alone)]) == 0
    release(cells, EARLIER, scale=2, leading={"cm": "white_mustang", "pgm": "tall_grass"})
    assert main(["2024-01", "--map", str(after)]) == 0
    one, two = pixels_of(alone), pixels_of(after)
    assert one.shape == two.shape
    height, width, _ = one.shape
    changed = (one != two).any(axis=2)
    assert not changed[: height // 2].any()
    assert not changed[:, : width // 2].any()
    # Half of what was expected before: the largest change there is, a decrease, has the last blue.
    blues = [
        int((picture[height // 2 :, width // 2 :] == np.array([8, 48, 107])).all(axis=2).sum())
        for picture in (one, two)
    ]
    assert blues[0] == 0
    assert blues[1] > 0


def test_a_release_may_lead_for_countries_alone(
    store: TableStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_release(store, MONTH).leading == COUNTRIES_ALONE
    assert main(["2024-01", "--map", str(tmp_path / "none.png")]) == 1
    assert "no model of cells leads the release of 2024-01; name one with --model" in capsys.readouterr().err
    assert main(["2024-01", "--map", str(tmp_path / "none.png"), "--model", "quiet_echo"]) == 1
    assert "quiet_echo forecasts no cells in the release of 2024-01" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


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
