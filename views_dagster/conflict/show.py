"""The analyst's command `python -m views_dagster.conflict.show [MONTH]`: print a release, export it, list them."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from views_dagster import calendar
from views_dagster.conflict.released import (
    MEASURES,
    RELEASES,
    Release,
    complete_months,
    country_names,
    read_release,
    worst_hit,
)
from views_dagster.errors import MissingMonthsError, PlatformError
from views_dagster.storage.tables import TableStore

UI = "http://127.0.0.1:3000"
PROGRAM = "python -m views_dagster.conflict.show"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, or 1 after an error that is told in words."""
    options = _parser().parse_args(arguments)
    store = TableStore(tables_location())
    try:
        if options.list:
            print(_listing(complete_months(store), store))
            return 0
        release = read_release(store, options.month if options.month is not None else _newest(store))
        names = country_names(store, release.month_id)
        for path, write in ((options.csv, pl.DataFrame.write_csv), (options.parquet, pl.DataFrame.write_parquet)):
            if path is not None:
                table = export(release, names)
                write(table, path)
                print(f"{path}: {table.height:,} rows of the release of {calendar.to_key(release.month_id)}")
        if options.csv is None and options.parquet is None:
            print(describe(release, store, names, options.model, options.count))
    except (PlatformError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def tables_location() -> str:
    """Where the tables are: `$VIEWS_TABLES`, or `tables` in `$VIEWS_HOME`, or in the project's `data/`."""
    home = os.environ.get("VIEWS_HOME") or str(Path(__file__).resolve().parents[2] / "data")
    return os.environ.get("VIEWS_TABLES") or str(Path(home).resolve() / "tables")


def export(release: Release, names: dict[int, str]) -> pl.DataFrame:
    """The release with two more columns for people: `country`, and `month`, the forecast month as `YYYY-MM`."""
    months = {int(month): calendar.to_key(month) for month in release.rows["target_month"].unique()}
    return release.rows.with_columns(
        country=pl.col("unit_id").replace_strict(names, default=None, return_dtype=pl.String),
        month=pl.col("target_month").replace_strict(months, return_dtype=pl.String),
    )


def describe(release: Release, store: TableStore, names: dict[int, str], model: str | None, count: int) -> str:
    """The release in words and a table for each target.

    Raises:
        MissingMonthsError: the release has no such model.
    """
    key, rows = calendar.to_key(release.month_id), release.rows
    models = rows["model"].unique().sort().to_list()
    shown = model or release.leading
    if shown not in models:
        raise MissingMonthsError(f"the release of {key} has no {shown}; it has {', '.join(models)}")
    months = [calendar.to_key(month) for month in rows["target_month"].unique().sort()]
    lines = [
        f"Release {key}: forecasts of {months[0]} to {months[-1]}, made with data up to {key}",
        f"  {rows.height:,} rows: {len(models)} models and ensembles, {rows['unit_id'].n_unique()} countries, "
        f"{len(months)} months ahead",
        f"  {', '.join(models)}",
        f"  table {store.uri(RELEASES)}, version {release.manifest['release']['table_version']}",
    ]
    for target in rows.filter(pl.col("model") == shown)["target"].unique().sort():
        table = worst_hit(rows.filter(pl.col("target") == target), names, model=shown, count=count)
        lines += ["", f"Worst hit by {shown}: {MEASURES.get(target, target)}", *_table(table)]
    lines.append("  Expected deaths; P(25+) is the probability of at least 25 in a month.")
    return "\n".join(
        [
            *lines,
            "",
            f"Pictures and tables: make dev, then {UI}/assets/forecasts?partition={key}",
            f"A file of all rows:  {PROGRAM} {key} --csv release_{key}.csv",
        ]
    )


def _table(table: pl.DataFrame) -> list[str]:
    """Expected deaths as whole numbers; P(25+), the probability of at least 25 deaths in a month, in per cent."""
    head = ("country", "next month", "next 12 months", "P(25+) next month", "P(25+) worst of 12")
    cells = [
        (name, f"{month:,.0f}", f"{year:,.0f}", f"{now:.0%}", f"{worst:.0%}")
        for name, month, year, now, worst in table.iter_rows()
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = []
    for name, *numbers in (head, *cells):
        aligned = [f"{number:>{width}}" for number, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([f"  {name:<{widths[0]}}", *aligned]))
    return lines


def _newest(store: TableStore) -> int:
    months = complete_months(store)
    if not months:
        raise MissingMonthsError(f"there is no release in {store.location}. Make one with\n  make forecasts")
    return months[-1]


def _listing(complete: Sequence[int], store: TableStore) -> str:
    partial = sorted(store.months(RELEASES) - set(complete))
    lines = [f"{calendar.to_key(month)}" for month in complete]
    lines += [f"{calendar.to_key(month)}  not complete, make it again" for month in partial]
    return "\n".join(lines) or f"there is no release in {store.location}"


def _month(text: str) -> int:
    try:
        return calendar.from_key(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of countries; write 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Show a month's release of conflict forecasts.")
    parser.add_argument("month", nargs="?", type=_month, metavar="MONTH", help="such as 2024-01; the newest by default")
    parser.add_argument("--model", help="model or ensemble to show; the leading ensemble by default")
    parser.add_argument("--count", type=_count, default=10, help="how many countries (10)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all rows of the release as CSV instead")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="write all rows of the release as Parquet instead")
    parser.add_argument("--list", action="store_true", help="list the months that have a release")
    return parser


if __name__ == "__main__":
    sys.exit(main())
