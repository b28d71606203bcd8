"""What the readers of this system offer each other and column sets, whatever they read."""

from typing import Protocol, runtime_checkable

from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.levels import LevelUnit


@runtime_checkable
class OnBoxes(Protocol):
    """A reader of rows of boxes."""

    @property
    def grid(self) -> BoxGrid:
        """The lattice that its box ids count in."""
        ...


@runtime_checkable
class OffersColumns(OnBoxes, Protocol):
    """A reader of columns."""

    @property
    def fields(self) -> frozenset[str]:
        """Names of its profiles, single-level and static fields."""
        ...

    @property
    def level_unit(self) -> LevelUnit:
        """Unit of the levels of its profiles."""
        ...


@runtime_checkable
class OffersRain(OnBoxes, Protocol):
    """A reader of rain in bands."""

    @property
    def edges(self) -> tuple[float, ...]:
        """Lower edges of all bands but the first, mm/h."""
        ...
