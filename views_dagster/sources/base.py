"""What a source is: something that can be read for a range of months, and the report of what it did while reading.

What it reads may be of any shape (`Reader`) or of units that live through the months (`PanelReader`).

A reader is a pydantic model whose fields are what a person writes in YAML; `kind` picks it. Readers live here when any
system can use them (tables) and in the system's own package when they know its data (UCDP, weather files).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class RawMonths:
    """What a reader returns.

    Attributes:
        frame: rows of the requested months, each with an int32 `month_id`; no requested month is without a row.
        repairs: what was put right while reading, as `{name of the repair: how many rows}`; zero where none was needed.
        provenance: where the rows came from (file name, URL, release version, digest), for the asset's metadata.
    """

    frame: pl.DataFrame
    repairs: Mapping[str, int] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


class Reader(BaseModel, ABC):
    """One way to obtain a source. Subclasses add `kind: Literal[...]` and their own settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    @abstractmethod
    def row_keys(self) -> Sequence[str]:
        """Columns that identify a row of `read`'s frame, `month_id` first; vintages are compared on them."""

    @abstractmethod
    def read(self, first: int, last: int) -> RawMonths:
        """Rows of months `first..last` (month ids, inclusive).

        Raises:
            SourceError: the source cannot be read, breaks its schema, or lacks a requested month.
        """

    @property
    def begins(self) -> int | None:
        """Month id of the first month there is; None for a source that has every month of the calendar."""
        return None

    def latest_month(self) -> int | None:
        """Month id of the newest month the source offers now, or None where that cannot be asked cheaply."""
        return None

    @property
    def invented(self) -> bool:
        """Whether the rows are of an invented world, which must not be mixed with rows of the real one."""
        return False

    @property
    def lists_units(self) -> bool:
        """Whether the rows say which units exist, so that other sources are read in their terms."""
        return False


class PanelReader(Reader, ABC):
    """A source about units that live through the months."""

    @abstractmethod
    def columns(self, level: str) -> frozenset[str]:
        """Names a queryset at `level` may use; known without touching the data, so that a typo fails at load time."""

    @abstractmethod
    def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """Stored raw rows as a panel: `month_id`, `unit_id` and `columns(level)`, at most one row a month and unit.

        A unit-month without a row is unknown (null), unless `absent_is_zero` says that it means nothing happened.

        Args:
            units: `month_id`, `unit_id` and, at a level whose units lie in those of a coarser one, `parent_id` of the
                units that exist; what a reader needs that places its rows on them.
        """

    def placed(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame) -> Mapping[str, float]:
        """What became of the rows that `panel` placed on these units, in numbers for people.

        Nothing where rows say themselves which unit they are of.
        """
        return {}

    @property
    def absent_is_zero(self) -> bool:
        """Whether a unit-month without a row means zero (event tables) rather than unknown (ready panels)."""
        return False

    @property
    def panel_memory(self) -> int:
        """Months before a month whose raw rows `panel` needs for that month's values."""
        return 0

    @property
    def parent_level(self) -> str | None:
        """The coarser level that `parent_id` of a table of units refers to; None for everything else."""
        return None
