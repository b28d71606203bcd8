"""Content digests: the same rows give the same digest on every machine, whatever wrote or holds them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

Hash = Any


def _feed(digest: Hash, values: pl.Series) -> None:
    """Add a column: its nulls, then its values in a layout that does not depend on how polars holds them."""
    if values.null_count():
        digest.update(np.packbits(values.is_null().to_numpy()).tobytes())
    dtype = values.dtype
    if isinstance(dtype, pl.List):
        digest.update(values.list.len().fill_null(0).to_numpy().astype("<i8").tobytes())
        inner = values.filter(values.list.len() > 0)
        _feed(digest, inner.explode(empty_as_null=True, keep_nulls=True))
    elif dtype in (pl.String, pl.Binary):
        parts = [part if isinstance(part, bytes) else part.encode() for part in values.drop_nulls().to_list()]
        digest.update(np.array([len(part) for part in parts], dtype="<i8").tobytes())
        for part in parts:
            digest.update(part)
    elif dtype == pl.Boolean:
        digest.update(values.fill_null(False).to_numpy().astype("u1").tobytes())
    else:
        physical = values.to_physical()
        numbers = (physical.fill_null(0) if values.null_count() else physical).to_numpy()
        digest.update(np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<")).tobytes())


def _digest_ordered(frame: pl.DataFrame) -> str:
    digest = hashlib.sha256()
    for values in sorted(frame.iter_columns(), key=lambda column: column.name):
        if values.null_count() == frame.height:
            continue
        digest.update(f"{values.name}:{values.dtype}:{values.null_count()};".encode())
        _feed(digest, values)
    return digest.hexdigest()


def digest_frame(frame: pl.DataFrame, keys: Sequence[str]) -> str:
    """SHA-256 (hex) of names, types and values, with rows in the order of `keys`, which identify them.

    The order of columns does not count, nor do columns without a value: a table keeps those that it once had.
    """
    return _digest_ordered(frame.sort(keys))


def digest_months(frame: pl.DataFrame, keys: Sequence[str]) -> dict[int, str]:
    """`digest_frame` of each month's rows; `keys` starts with `month_id`."""
    ordered = frame.sort(keys).rechunk()
    months = ordered["month_id"].rle().struct.unnest()
    ends = months["len"].cum_sum()
    return {
        month: _digest_ordered(ordered[end - length : end])
        for month, length, end in zip(months["value"], months["len"], ends, strict=True)
    }


def combine(digests: Mapping[int, str]) -> str:
    """One digest of several months; of a single month, that month's own."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    text = "\n".join(f"{month} {digests[month]}" for month in sorted(digests))
    return hashlib.sha256(text.encode()).hexdigest()
