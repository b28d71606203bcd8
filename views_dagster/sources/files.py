"""Reading table files of the formats that publishers use, and saying which file it was."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Annotated

import polars as pl
from pydantic import AfterValidator

from views_dagster.errors import SourceError

UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
"""A path as a person writes it: `~` is the home folder, and a relative one starts at the current folder."""


def read_table(path: Path, *, keep: Callable[[Sequence[str]], Sequence[str]]) -> pl.DataFrame:
    """The columns of a table file that `keep` picks from its column names.

    Formats, by suffix: `.parquet` (typed), `.csv` (UTF-8, comma-separated, with a header; every value is text, an empty
    one null) and `.zip` holding exactly one csv.

    Raises:
        SourceError: the file is absent, of another format, empty or damaged, or has no column that `keep` picks.
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path}; check the path, which is relative to {Path.cwd()}")
    try:
        match path.suffix.lower():
            case ".parquet":
                frame = _collect(pl.scan_parquet(path), keep, path)
            case ".csv":
                frame = _collect(_scan_csv(path), keep, path)
            case ".zip":
                frame = _read_zip(path, keep)
            case suffix:
                raise SourceError(f"{path} ends in {suffix!r}; use .csv, .zip holding one csv, or .parquet")
    except pl.exceptions.NoDataError as error:
        raise SourceError(f"{path} is empty; fetch it again") from error
    except (pl.exceptions.PolarsError, zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"{path} cannot be read: {error}; fetch it again") from error
    if frame.is_empty():
        raise SourceError(f"{path} has no rows; fetch it again")
    return frame


def _read_zip(path: Path, keep: Callable[[Sequence[str]], Sequence[str]]) -> pl.DataFrame:
    with zipfile.ZipFile(path) as archive:
        tables = [name for name in archive.namelist() if name.lower().endswith(".csv") and "__MACOSX" not in name]
        if len(tables) != 1:
            held = ", ".join(archive.namelist())
            raise SourceError(f"{path} holds {len(tables)} csv files, expected exactly one; it holds {held}")
        # Read here and not by polars, which ends the process where the checksum is wrong.
        return _collect(_scan_csv(io.BytesIO(archive.read(tables[0]))), keep, path)


def _scan_csv(source: Path | IO[bytes]) -> pl.LazyFrame:
    return pl.scan_csv(source, infer_schema=False)


def _collect(table: pl.LazyFrame, keep: Callable[[Sequence[str]], Sequence[str]], path: Path) -> pl.DataFrame:
    names = table.collect_schema().names()
    if not (kept := keep(names)):
        raise SourceError(f"{path} has none of the expected columns; it has {', '.join(names)[:300]}")
    return table.select(kept).collect()


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
