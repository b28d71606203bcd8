"""What a person sees of a materialisation or a check in the UI: numbers, tables and pictures as metadata values."""

import math
from collections.abc import Mapping

import dagster as dg
import polars as pl

from views_dagster.reports.tables import image_markdown, markdown_columns, markdown_table

WIDE = 8
"""More columns than this do not fit side by side in the UI."""


def number(value: float) -> dg.MetadataValue:
    """A number, which the UI draws over the months; four significant digits, whole numbers in full.

    One that is not finite becomes text: the UI cannot load a page that holds it as a number.
    """
    value = float(value)
    if not math.isfinite(value):
        return dg.MetadataValue.text(str(value))
    return dg.MetadataValue.float(value if value.is_integer() else float(f"{value:.4g}"))


def named_numbers(values: Mapping[str, float]) -> dg.MetadataValue:
    """Names and numbers as a table."""
    frame = pl.DataFrame({"name": list(values), "value": [float(value) for value in values.values()]})
    return dg.MetadataValue.md(markdown_table(frame, rows=frame.height))


def frame_head(frame: pl.DataFrame, rows: int = 10) -> dg.MetadataValue:
    """The first rows as a table; of a wide frame each column and its values in the first two rows."""
    return dg.MetadataValue.md(markdown_columns(frame) if frame.width > WIDE else markdown_table(frame, rows=rows))


def picture(png: bytes, alt: str) -> dg.MetadataValue:
    """A PNG shown in place."""
    return dg.MetadataValue.md(image_markdown(png, alt))
