"""Frames and pictures as Markdown, which asset metadata and reports show in place."""

import base64
from typing import Literal

import polars as pl

_ITEMS = 3


def markdown_table(frame: pl.DataFrame, rows: int = 10) -> str:
    """The first `rows` rows as a Markdown table: numbers on the right, long lists shortened.

    Fractions are written as by `short_number`.

    A last line says how many rows there are where not all of them are shown.
    """
    numeric = [dtype.is_numeric() for dtype in frame.dtypes]
    lines = [
        _line([_escape(name) for name in frame.columns]),
        _line(["---:" if number else "---" for number in numeric]),
        *(_line([_cell(value) for value in row]) for row in frame.head(rows).iter_rows()),
    ]
    if frame.height > rows:
        lines += ["", f"{rows:,} of {frame.height:,} rows"]
    return "\n".join(lines)


def short_number(value: float) -> str:
    """Four significant digits, and from 1,000 on none after the point."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def markdown_columns(frame: pl.DataFrame, rows: int = 2) -> str:
    """A wide frame as a narrow Markdown table: a line for each column, with its values in the first `rows` rows."""
    shown = frame.head(rows)
    lines = [
        _line(["column", *(f"row {place}" for place in range(1, shown.height + 1))]),
        _line(["---"] * (shown.height + 1)),
        *(_line([_escape(series.name), *map(_cell, series)]) for series in shown),
    ]
    if frame.height > rows:
        lines += ["", f"{rows:,} of {frame.height:,} rows"]
    return "\n".join(lines)


def image_markdown(image: bytes, alt: str, kind: Literal["png", "gif"] = "png") -> str:
    """A picture as Markdown that holds the picture itself (a data URI); `alt` is read where it cannot be shown."""
    text = _escape(alt).replace("[", "(").replace("]", ")")
    return f"![{text}](data:image/{kind};base64,{base64.b64encode(image).decode()})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return short_number(value)
    if isinstance(value, list | pl.Series):
        items = [_cell(item) for item in value[:_ITEMS]]
        return f"[{', '.join(items)}{f', … {len(value)}' if len(value) > _ITEMS else ''}]"
    return _escape(str(value))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
