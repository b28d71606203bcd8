"""What the asset of a queryset tells about the rows of its sources."""

from pathlib import Path

import polars as pl

from views_dagster.calendar import from_key
from views_dagster_tests.homes import open_home, write_catalogue

JANUARY, FEBRUARY = "1990-01", "1990-02"


def test_rows_of_unknown_units_are_left_out_counted_and_named(tmp_path: Path) -> None:
    months = [from_key(JANUARY), from_key(FEBRUARY)]
    demo = {"countries": {"kind": "demo_countries"}}
    known = open_home(
        tmp_path / "known", write_catalogue(tmp_path, {"sources/countries": {"reader": demo["countries"]}})
    )
    known.run("key:raw/countries", JANUARY)
    country = int(known.rows("raw/countries", JANUARY)["unit_id"][0])
    rows = [(unit, month, 1.0) for unit in (country, 9999) for month in months]
    pl.DataFrame(rows, schema=["country", "month_id", "gdp"], orient="row").write_parquet(tmp_path / "ready.parquet")
    table = {"kind": "month_table", "path": str(tmp_path / "ready.parquet"), "level": "cm", "unit": "country"}
    project = write_catalogue(
        tmp_path,
        {
            "sources/countries": {"reader": demo["countries"]},
            "sources/ready": {"reader": {**table, "month_id": "month_id", "columns": {"gdp": "gdp"}}},
            "features/rich": {
                "level": "cm",
                "units": "countries",
                "targets": {"gdp": {"from": "ready.gdp"}},
                "columns": {"old": {"from": "ready.gdp", "transforms": ["tlag(1)"]}},
            },
        },
    )
    home = open_home(tmp_path / "home", project)
    result = home.run("group:raw_data or group:processed_features", JANUARY, FEBRUARY, checks=False)
    assert result.success
    features = home.rows("features/rich", JANUARY)
    assert features.filter(pl.col("unit_id") == country)["gdp"].to_list() == [1.0]
    assert features["gdp"].sum() == 1
    metadata = home.metadata("features/rich", FEBRUARY)
    assert metadata["unknown_units: ready"] == "9999 in 2 rows"
    assert "2" in metadata["rows_outside_their_unit"]
    logged = [event.user_message for event in home.instance.all_logs(result.run_id)]
    assert any("ready has rows of units that countries does not have: 9999 in 2 rows" in text for text in logged)
