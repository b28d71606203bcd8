"""Content digests: the same rows give the same digest on every machine, whatever wrote or holds them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Hash = Any


class _Column:
    """A column in a layout that does not depend on how polars holds it, from which stretches of rows are digested."""

    def __init__(self, values: pl.Series) -> None:
        self.dtype = values.dtype
        self.nulls: NDArray[np.bool_] | None = values.is_null().to_numpy() if values.null_count() else None
        self.inner: _Column | None = None
        self.offsets: NDArray[np.int64] | None = None
        self.text: memoryview | None = None
        if isinstance(self.dtype, pl.List):
            self.numbers: NDArray[Any] = values.list.len().fill_null(0).to_numpy().astype("<i8")
            self.offsets = _ends(self.numbers)
            filled = values.filter(values.list.len() > 0)
            self.inner = _Column(filled.explode(empty_as_null=True, keep_nulls=True))
        elif self.dtype == pl.String:
            self.numbers = values.str.len_bytes().fill_null(0).to_numpy().astype("<i8")
            self.offsets = _ends(self.numbers)
            self.text = memoryview(values.str.join("").item().encode())
        elif self.dtype == pl.Binary:
            self.numbers = values.bin.size().fill_null(0).to_numpy().astype("<i8")
            self.offsets = _ends(self.numbers)
            self.text = memoryview(b"".join(values.drop_nulls().to_list()))
        elif self.dtype == pl.Boolean:
            self.numbers = values.fill_null(False).to_numpy().astype("u1")
        else:
            physical = values.to_physical()
            numbers = (physical.fill_null(0) if self.nulls is not None else physical).to_numpy()
            self.numbers = np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<"))

    def null_count(self, rows: slice) -> int:
        """Number of nulls among the rows."""
        return int(np.count_nonzero(self.nulls[rows])) if self.nulls is not None else 0

    def feed(self, digest: Hash, rows: slice) -> None:
        """Add the rows: which of them are null, then their values."""
        if self.nulls is not None and self.null_count(rows):
            digest.update(np.packbits(self.nulls[rows]))
        digest.update(self.numbers[rows])
        if self.offsets is None:
            return
        within = slice(int(self.offsets[rows.start]), int(self.offsets[rows.stop]))
        if self.text is not None:
            digest.update(self.text[within])
        if self.inner is not None:
            self.inner.feed(digest, within)


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N + 1,) where each of N stretches one after the other begins, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def _digests(frame: pl.DataFrame, stretches: Sequence[slice]) -> list[str]:
    """SHA-256 (hex) of each stretch of rows; columns are taken by name, and left out where all of it is null."""
    columns = [(name, _Column(frame[name])) for name in sorted(frame.columns)]
    found = []
    for rows in stretches:
        digest = hashlib.sha256()
        for name, column in columns:
            nulls = column.null_count(rows)
            if nulls < rows.stop - rows.start:
                digest.update(f"{name}:{column.dtype}:{nulls};".encode())
                column.feed(digest, rows)
        found.append(digest.hexdigest())
    return found


def digest_frame(frame: pl.DataFrame, keys: Sequence[str]) -> str:
    """SHA-256 (hex) of names, types and values, with rows in the order of `keys`, which identify them.

    The order of columns does not count, nor do columns without a value: a table keeps those that it once had.
    """
    return _digests(frame.sort(keys), [slice(0, frame.height)])[0]


def digest_months(frame: pl.DataFrame, keys: Sequence[str]) -> dict[int, str]:
    """`digest_frame` of each month's rows; `keys` starts with `month_id`."""
    ordered = frame.sort(keys)
    months = ordered["month_id"].rle().struct.unnest()
    ends = months["len"].cum_sum().to_list()
    stretches = [slice(end - length, end) for end, length in zip(ends, months["len"].to_list(), strict=True)]
    return dict(zip(months["value"].to_list(), _digests(ordered, stretches), strict=True))


def combine(digests: Mapping[int, str]) -> str:
    """One digest of several months; of a single month, that month's own."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    text = "\n".join(f"{month} {digests[month]}" for month in sorted(digests))
    return hashlib.sha256(text.encode()).hexdigest()
