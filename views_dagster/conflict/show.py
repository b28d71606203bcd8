"""The analyst's command `python -m views_dagster.conflict.show [MONTH]`: print, export or map a release, list them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from views_dagster import calendar
from views_dagster.conflict.released import (
    CELL_LEVEL,
    COUNTED,
    COUNTRY_LEVEL,
    MEASURES,
    RELEASED,
    Release,
    country_names,
    located_cells,
    read_release,
    worst_hit,
    worst_hit_cells,
)
from views_dagster.errors import MissingMonthsError, PlatformError
from views_dagster.reports.outlooks import YEAR, Outlook, means_of, outlook_map
from views_dagster.reports.terminal import (
    UI,
    aligned,
    degrees,
    listing,
    newest_release,
    release_parser,
    write_files,
)
from views_dagster.storage.places import tables_location
from views_dagster.storage.tables import TableStore

PROGRAM = "python -m views_dagster.conflict.show"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, or 1 after an error that is told in words."""
    options = _parser().parse_args(arguments)
    try:
        store = TableStore(tables_location())
        if options.list:
            print(listing(store, RELEASED))
            return 0
        release = read_release(store, options.month if options.month is not None else newest_release(store, RELEASED))
        contents = contents_of(release, options.level, options.model)
        if options.map is not None:
            options.map.write_bytes(release_map(release, store, options.model))
            print(f"{options.map}: {_mapped(release, options.model)} of the release of {_key(release)}")
        rows = export(release, store, options.level, options.model)
        if not write_files(options, rows, release.month_id) and options.map is None:
            print(describe(release, store, contents, options.model, options.count))
    except (PlatformError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def contents_of(release: Release, level: str | None = None, model: str | None = None) -> pl.DataFrame:
    """What the release holds: `level`, `model`, `target`, and how many `rows`, `units` and `months`.

    Raises:
        MissingMonthsError: nothing of that level or model.
    """
    found = (
        release.rows.group_by("level", "model", "target")
        .agg(rows=pl.len(), units=pl.col("unit_id").n_unique(), months=pl.col("target_month").n_unique())
        .sort("level", "model", "target")
        .collect()
    )
    for column, wanted in (("level", level), ("model", model)):
        there = found[column].unique(maintain_order=True).to_list()
        if wanted is not None:
            if wanted not in there:
                raise MissingMonthsError(f"the release of {_key(release)} has no {wanted}; it has {', '.join(there)}")
            found = found.filter(pl.col(column) == wanted)
    return found


def export(release: Release, store: TableStore, level: str | None = None, model: str | None = None) -> pl.LazyFrame:
    """The release, of one level or model if given, with columns for people.

    They are `country` (that holds the cell, for cells), `latitude` and `longitude` (of the cell, null for countries),
    and `month`, the forecast month as `YYYY-MM`.
    """
    countries = pl.DataFrame(
        list(country_names(store, release.month_id).items()), {"unit_id": pl.Int64, "country": pl.String}, orient="row"
    )
    units = pl.concat(
        [
            countries.with_columns(level=pl.lit(COUNTRY_LEVEL)),
            located_cells(store, release.month_id).drop("parent_id").with_columns(level=pl.lit(CELL_LEVEL)),
        ],
        how="diagonal",
    )
    months = range(release.month_id + 1, release.month_id + len(calendar.STEPS) + 1)
    rows = _only(release, level, model).join(units.lazy(), on=["level", "unit_id"], how="left", maintain_order="left")
    return rows.with_columns(
        month=pl.col("target_month").replace_strict({month: calendar.to_key(month) for month in months})
    )


def release_map(release: Release, store: TableStore, model: str | None = None) -> bytes:
    """The four maps of a model's forecast of cells, by default of the leading one; PNG.

    The change is that from the release of the month before, where there is one with the model.

    Raises:
        MissingMonthsError: the model forecasts no cells, or none leads.
    """
    name = _mapped(release, model)
    rows = _of_cells(release, name).collect()
    if rows.is_empty():
        raise MissingMonthsError(
            f"{name} forecasts no cells in the release of {_key(release)}; name a model of {CELL_LEVEL}"
        )
    units, months = (rows[column].unique().sort().to_numpy() for column in ("unit_id", "target_month"))
    first = rows.filter(pl.col("step") == 1).sort("unit_id")
    outlook = Outlook(
        origin=release.month_id,
        units=units,
        months=months,
        means=means_of(rows, units, months),
        at_least_one=first["p_at_least_1"].to_numpy(),
    )
    target = str(rows["target"][0])
    return outlook_map(
        outlook,
        _earlier(store, release.month_id - 1, name),
        located_cells(store, release.month_id),
        measure=COUNTED.get(target, target),
        title=f"{name}: {target} after {_key(release)}",
    )


def describe(release: Release, store: TableStore, contents: pl.DataFrame, model: str | None, count: int) -> str:
    """The release in words, and a table of the worst hit for each level and target of `contents`."""
    key = _key(release)
    months = [calendar.to_key(release.month_id + step) for step in (1, max(contents["months"]))]
    lines = [f"Release {key}: forecasts of {months[0]} to {months[1]}, made with data up to {key}"]
    for level in contents["level"].unique(maintain_order=True):
        part = contents.filter(pl.col("level") == level)
        units = {COUNTRY_LEVEL: "countries", CELL_LEVEL: "cells"}.get(level, "units")
        models = part["model"].unique(maintain_order=True).to_list()
        kinds = "model" if len(models) == 1 else "models and ensembles"
        lines += [
            f"  {level}: {part['rows'].sum():,} rows: {len(models)} {kinds}, "
            f"{max(part['units']):,} {units}, {max(part['months'])} months ahead",
            f"      {', '.join(models)}",
        ]
    lines.append(f"  table {store.uri(RELEASED.table)}, version {release.manifest['release']['table_version']}")
    shown = contents.filter(pl.col("model") == (model or pl.col("level").replace_strict(release.leading, default=None)))
    for level, name, target in shown.select("level", "model", "target").iter_rows():
        rows = release.rows.filter(pl.col("target") == target)
        lines += ["", f"Worst hit by {name}: {MEASURES.get(target, target)}"]
        if level == CELL_LEVEL:
            cells = located_cells(store, release.month_id)
            lines += _cell_lines(worst_hit_cells(rows, cells, model=name, count=count))
        else:
            names = country_names(store, release.month_id) if level == COUNTRY_LEVEL else {}
            lines += _unit_lines(worst_hit(rows, names, model=name, count=count, level=level))
    return "\n".join(
        [
            *lines,
            "",
            f"Pictures and tables: make dev, then {UI}/assets/forecasts?view=partitions&partition={key}",
            f"A file of all rows:  {PROGRAM} {key} --csv release_{key}.csv",
            *([f"A map of cells:      {PROGRAM} {key} --map map_{key}.png"] if CELL_LEVEL in release.leading else []),
        ]
    )


def _key(release: Release) -> str:
    return calendar.to_key(release.month_id)


def _only(release: Release, level: str | None, model: str | None) -> pl.LazyFrame:
    """The rows of one level or model, or of all."""
    wanted = [pl.col(column) == value for column, value in (("level", level), ("model", model)) if value is not None]
    return release.rows.filter(*wanted)


def _of_cells(release: Release, model: str) -> pl.LazyFrame:
    """What maps show of a model's rows of cells in the next year."""
    rows = _only(release, CELL_LEVEL, model).filter(pl.col("step") <= YEAR)
    return rows.select("unit_id", "step", "target", "target_month", "mean", "p_at_least_1")


def _mapped(release: Release, model: str | None) -> str:
    """The model to map."""
    name = model or release.leading.get(CELL_LEVEL)
    if name is None:
        raise MissingMonthsError(f"no model of cells leads the release of {_key(release)}; name one with --model")
    return name


def _earlier(store: TableStore, month_id: int, model: str) -> pl.DataFrame | None:
    """What the model expected of cells a month before, from that month's release if it is complete."""
    try:
        release = read_release(store, month_id)
    except MissingMonthsError:
        return None
    return _only(release, CELL_LEVEL, model).select("unit_id", "target_month", "mean").collect()


def _unit_lines(table: pl.DataFrame) -> list[str]:
    """Expected deaths as whole numbers, probabilities in per cent."""
    head = (table.columns[0], "next month", "next 12 months", "P(25+) next month", "P(25+) worst of 12")
    cells = (
        (name, f"{month:,.0f}", f"{year:,.0f}", f"{now:.0%}", f"{worst:.0%}")
        for name, month, year, now, worst in table.iter_rows()
    )
    return [*aligned(head, cells), "  Expected deaths; P(25+) is the probability of at least 25 in a month."]


def _cell_lines(table: pl.DataFrame) -> list[str]:
    """Expected deaths with one digit after the point, since cells have few; probabilities in per cent."""
    head = ("country", "latitude", "longitude", "gid", "next month", "next 12 months", "P(1+)", "P(25+)")
    cells = (
        (
            country or "",
            degrees(latitude, "N", "S"),
            degrees(longitude, "E", "W"),
            str(gid),
            f"{month:,.1f}",
            f"{year:,.1f}",
            f"{one:.0%}",
            f"{many:.0%}",
        )
        for country, latitude, longitude, gid, month, year, one, many in table.iter_rows()
    )
    return [
        *aligned(head, cells),
        "  Expected deaths; P(1+) and P(25+) are the probabilities of at least 1 and 25 in the next month.",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = release_parser(PROGRAM, "Show a month's release of conflict forecasts.", shown="countries or cells")
    parser.add_argument("--level", help="cm (countries) or pgm (cells) alone; by default all levels")
    parser.add_argument("--model", help="model or ensemble alone; to show, by default the leading one of each level")
    parser.add_argument("--map", type=Path, metavar="FILE", help="draw maps of a forecast of cells as PNG instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
