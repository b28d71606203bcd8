"""Vintages: what changed between two versions of the same months."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Revision:
    """How one month's new rows differ from those it had before.

    Attributes:
        added, dropped, revised: numbers of rows; a revised row keeps its keys and changes some value.
        changes: new sum minus old sum of every numeric column whose sum changed.
    """

    added: int
    dropped: int
    revised: int
    changes: dict[str, float]


def compare(old: pl.DataFrame, new: pl.DataFrame, keys: Sequence[str]) -> dict[int, Revision]:
    """Revision of each month of `new`, which has the columns `keys` (`month_id` first) and values; keys are unique.

    A month that `old` lacks is all added. Columns that only one of the two has count as changed, but for those that a
    table once had and keeps without values.
    """
    gone = [name for name in old.columns if name not in new.columns and old[name].null_count() == old.height]
    old = old.drop(gone)
    values = [name for name in new.columns if name not in keys]
    shared = [name for name in values if name in old.columns]
    schema_changed = set(old.columns) != set(new.columns)
    differs = pl.any_horizontal(
        pl.lit(schema_changed), *(pl.col(name).ne_missing(pl.col(f"{name}:old")) for name in shared)
    )
    before = old.select(*keys, *(pl.col(name).alias(f"{name}:old") for name in shared), pl.lit(True).alias(":old"))
    after = new.with_columns(pl.lit(True).alias(":new"))
    joined = after.join(before, on=list(keys), how="full", coalesce=True)
    both = pl.col(":old") & pl.col(":new")
    numeric = [name for name in shared if new.schema[name].is_numeric()]
    counts = joined.group_by("month_id").agg(
        pl.col(":old").is_null().sum().alias("added"),
        pl.col(":new").is_null().sum().alias("dropped"),
        (both & differs).sum().alias("revised"),
        *(
            (pl.col(name).cast(pl.Float64).sum() - pl.col(f"{name}:old").cast(pl.Float64).sum()).alias(f"sum:{name}")
            for name in numeric
        ),
    )
    return {
        int(row["month_id"]): Revision(
            added=row["added"],
            dropped=row["dropped"],
            revised=row["revised"],
            changes={name: row[f"sum:{name}"] for name in numeric if row[f"sum:{name}"]},
        )
        for row in counts.iter_rows(named=True)
    }
