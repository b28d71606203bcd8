"""Markdown of frames and pictures."""

import base64

import polars as pl

from views_dagster.reports.tables import image_markdown, markdown_columns, markdown_table


def test_a_table_by_hand() -> None:
    frame = pl.DataFrame(
        {
            "unit_id": [57, 99, 12],
            "name": ["a|b", None, "c\nd"],
            "mean": [0.123456, 1e21, 22018.4],
            "draws": [[0.0, 1.0, 2.0, 3.0], [5.0], []],
        }
    )
    assert markdown_table(frame, rows=2).splitlines() == [
        "| unit_id | name | mean | draws |",
        "| ---: | --- | ---: | --- |",
        "| 57 | a\\|b | 0.1235 | [0, 1, 2, … 4] |",
        "| 99 |  | 1e+21 | [5] |",
        "",
        "2 of 3 rows",
    ]
    assert markdown_table(frame).splitlines()[-1] == "| 12 | c d | 22,018 | [] |"


def test_a_frame_without_rows_shows_its_columns() -> None:
    assert markdown_table(pl.DataFrame(schema={"a": pl.Int64})) == "| a |\n| ---: |"


def test_a_wide_frame_by_its_columns() -> None:
    frame = pl.DataFrame({"id": [7, 8, 9], "side_a": ["A", "B|C", None], "latitude": [0.5, -12.34567, 3.0]})
    assert markdown_columns(frame, rows=2).splitlines() == [
        "| column | row 1 | row 2 |",
        "| --- | --- | --- |",
        "| id | 7 | 8 |",
        "| side_a | A | B\\|C |",
        "| latitude | 0.5 | -12.35 |",
        "",
        "2 of 3 rows",
    ]


def test_a_picture_carries_itself() -> None:
    text = image_markdown(b"\x89PNG", "fan [chart]")
    assert text.startswith("![fan (chart)](data:image/png;base64,")
    assert base64.b64decode(text.split(",")[1].rstrip(")")) == b"\x89PNG"
