"""The analyst's command `python -m views_dagster.precipitation.show [MONTH]`: print or export a release, list them."""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime

import polars as pl

from views_dagster.calendar import to_key
from views_dagster.errors import MissingMonthsError, PlatformError
from views_dagster.names import nearest
from views_dagster.precipitation.release import wettest_boxes
from views_dagster.precipitation.released import RELEASED, Release, band_mix, read_release, wettest_times, with_bands
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

PROGRAM = "python -m views_dagster.precipitation.show"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, or 1 after an error that is told in words."""
    options = _parser().parse_args(arguments)
    try:
        store = TableStore(tables_location())
        if options.list:
            print(listing(store, RELEASED))
            return 0
        release = read_release(store, options.month if options.month is not None else newest_release(store, RELEASED))
        key = to_key(release.month_id)
        if options.model is not None and options.model not in release.models:
            unknown = f"{options.model}{nearest(options.model, release.models)}"
            raise MissingMonthsError(f"the release of {key} has no {unknown}")
        if not write_files(options, export(release, options.model), release.month_id):
            print(describe(release, store, options.model or release.leading, options.count))
    except (PlatformError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def export(release: Release, model: str | None = None) -> pl.LazyFrame:
    """The release, or one model's part of it, with a column for each band; null where a model has no such band."""
    models = release.models if model is None else [model]
    parts = [with_bands(release.rows.filter(pl.col("model") == name), release.bands(name)) for name in models]
    return pl.concat(parts, how="diagonal")


def describe(release: Release, store: TableStore, model: str, count: int) -> str:
    """The release in words: the mix of bands by model, then the wettest times and boxes of one model."""
    key = to_key(release.month_id)
    rows = release.rows.filter(pl.col("model") == model)
    size = rows.select(
        rows=pl.len(),
        boxes=pl.col("box_id").n_unique(),
        times=pl.col("valid_time").n_unique(),
        first=pl.col("valid_time").min(),
        last=pl.col("valid_time").max(),
    ).collect()
    _, boxes, times, first, last = size.row(0)
    names = release.bands(model)
    lines = [
        f"Release {key}: rain in {boxes:,} boxes at {times:,} times from {_time(first)} to {_time(last)} UTC",
        f"  {release.described['rows']:,} rows: {len(release.models)} models and ensembles, {release.leading} first",
        f"      {', '.join(release.models)}",
        f"  table {store.uri(RELEASED.table)}, version {release.described['table_version']}",
    ]
    by_bands: dict[tuple[str, ...], list[tuple[str, list[float], float]]] = {}
    for name, (mix, rain) in band_mix(release).items():
        by_bands.setdefault(release.bands(name), []).append((name, mix, rain))
    for labels, found in by_bands.items():
        lines += ["", "Share of the area by band, mm/h"]
        head = ("", *labels, "mean mm/h")
        lines += aligned(head, [(name, *map(_share, mix), f"{rain:.3f}") for name, mix, rain in found])
    lines += ["", f"Wettest times by {model}: means over the boxes"]
    head = ("time (UTC)", "mean mm/h", "wettest box", *names)
    lines += aligned(
        head,
        [
            (_time(time), f"{rain:.2f}", f"{highest:.1f}", *map(_share, shares))
            for time, rain, *shares, highest in wettest_times(rows, names, count=count).iter_rows()
        ],
    )
    lines += ["", f"Wettest boxes by {model}"]
    head = ("time (UTC)", "latitude", "longitude", "mean mm/h", *names)
    lines += aligned(
        head,
        [
            (_time(time), degrees(lat, "N", "S"), degrees(lon, "E", "W"), f"{rain:.1f}", *map(_share, shares))
            for time, lat, lon, rain, shares in wettest_boxes(rows.collect(), count=count).iter_rows()
        ],
    )
    return "\n".join(
        [
            *lines,
            "  Columns of bands are the share of the area, or of the box, with rain of that many mm/h.",
            "",
            f"Maps and animation:  make dev, then {UI}/assets/{release.table_of(model)}?view=partitions"
            f"&partition={key}",
            f"A file of all rows:  {PROGRAM} {key} --csv rain_{key}.csv",
        ]
    )


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def _share(value: float) -> str:
    """A share of an area in per cent; what is there but rounds to nothing is said so."""
    return "<0.1%" if 0 < value < 0.0005 else f"{value:.1%}"


def _parser() -> argparse.ArgumentParser:
    parser = release_parser(PROGRAM, "Show a month's release of fractions by band of rain.", shown="times and boxes")
    parser.add_argument("--model", help="model or ensemble; to show, by default the leading one, to write, all")
    return parser


if __name__ == "__main__":
    sys.exit(main())
