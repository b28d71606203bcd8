"""What a person sees of a materialisation in the UI: table heads and pictures as metadata values."""

import dagster as dg
import polars as pl

from views_dagster.reports.tables import markdown_table, png_markdown


def frame_head(frame: pl.DataFrame, rows: int = 10) -> dg.MetadataValue:
    """The first rows as a table."""
    return dg.MetadataValue.md(markdown_table(frame, rows=rows))


def picture(png: bytes, alt: str) -> dg.MetadataValue:
    """A PNG shown in place."""
    return dg.MetadataValue.md(png_markdown(png, alt))
