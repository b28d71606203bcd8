"""What commands that show a release to people share: arguments, lists of releases, and tables as text."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from views_dagster import calendar
from views_dagster.errors import MissingMonthsError
from views_dagster.storage.manifests import ReleasedTable
from views_dagster.storage.tables import TableStore

UI: Final = "http://127.0.0.1:3000"


def newest_release(store: TableStore, released: ReleasedTable) -> int:
    """The newest month with a complete release.

    Raises:
        MissingMonthsError: there is none.
    """
    months = released.complete_months(store)
    if not months:
        raise MissingMonthsError(f"there is no release in {store.location}. Make one with\n  make forecasts")
    return months[-1]


def listing(store: TableStore, released: ReleasedTable) -> str:
    """The months that have a release, a line each."""
    complete = released.complete_months(store)
    partial = sorted(store.months(released.table) - set(complete))
    lines = [f"{calendar.to_key(month)}" for month in complete]
    lines += [f"{calendar.to_key(month)}  not complete, make it again" for month in partial]
    return "\n".join(lines) or f"there is no release in {store.location}"


def write_files(options: argparse.Namespace, rows: pl.LazyFrame, month_id: int) -> bool:
    """Write the release's rows to the files that `--csv` and `--parquet` name, and say so; whether there were any."""
    files: list[Path] = [path for path in (options.csv, options.parquet) if path is not None]
    if options.csv is not None:
        rows.sink_csv(options.csv)
    if options.parquet is not None:
        rows.sink_parquet(options.parquet)
    for path in files:
        print(f"{path}: {rows.select(pl.len()).collect().item():,} rows of the release of {calendar.to_key(month_id)}")
    return bool(files)


def aligned(head: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, the first column on the left and the others on the right."""
    lines = [head, *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            [
                f"  {name:<{widths[0]}}",
                *(f"{number:>{width}}" for number, width in zip(numbers, widths[1:], strict=True)),
            ]
        )
        for name, *numbers in lines
    ]


def degrees(value: float | None, positive: str, negative: str) -> str:
    """A coordinate as people write it, `12.25 N`; empty where it is not known."""
    return "" if value is None else f"{abs(value):.2f} {negative if value < 0 else positive}"


def month_argument(text: str) -> int:
    """Month id of a command's argument."""
    try:
        return calendar.from_key(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def count_argument(text: str) -> int:
    """A number of things to show."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of things to show; write 1 or more")
    return int(text)


def release_parser(program: str, description: str, *, shown: str) -> argparse.ArgumentParser:
    """What every such command takes: a month, how many of what is `shown`, a file to write, or the list of months."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument(
        "month", nargs="?", type=month_argument, metavar="MONTH", help="such as 2024-01; the newest by default"
    )
    parser.add_argument("--count", type=count_argument, default=10, help=f"how many {shown} to show (10)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows as CSV instead")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="write the rows as Parquet instead")
    parser.add_argument("--list", action="store_true", help="list the months that have a release")
    return parser
