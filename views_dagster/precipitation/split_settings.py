"""How rows are divided into training, validation and test: the settings of it, and the record that is kept."""

from datetime import datetime
from itertools import combinations
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from views_dagster.names import nearest
from views_dagster.precipitation.events import EventSettings, Region, Storms

Side = Literal["train", "validation", "test"]
SIDES: Final[tuple[Side, ...]] = ("train", "validation", "test")


class SplitSettings(BaseModel):
    """How rows are divided into training, validation and test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: EventSettings = Field(default=Storms(), description="What an event is; events are never divided.")
    regions: dict[str, Region] = Field(
        default_factory=dict,
        description="Regions with events of their own, by name; boxes outside all of them are not used. Without any "
        "the whole lattice is one.",
    )
    by: Literal["event", "month"] = Field(
        default="event", description="Whether validation is chosen event by event, or month by month."
    )
    test_months: int | None = Field(
        default=None, ge=1, description="How many of the newest months are the test; 1, unless test_regions are."
    )
    test_regions: tuple[str, ...] = Field(
        default=(), description="Regions that are the test, in all months, instead of the newest months."
    )
    validation_share: float = Field(
        default=0.2, gt=0, le=0.5, description="Share of the other events, or months, that validate."
    )
    buffer_hours: float = Field(
        default=24.0, ge=0, allow_inf_nan=False, description="Rows at most this far in time from another side leave."
    )
    buffer_degrees: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="With regions, only rows at most this far from the other side's region count as near it.",
    )
    seed: int = Field(default=0, description="Which events validate.")

    @model_validator(mode="after")
    def _regions_fit(self) -> "SplitSettings":
        for name in self.test_regions:
            if name not in self.regions:
                raise ValueError(f"test_regions: there is no region {name}{nearest(name, self.regions)}")
        if self.test_regions and set(self.test_regions) == set(self.regions):
            raise ValueError("test_regions: all regions are the test; leave one to train on")
        if self.test_regions and self.test_months is not None:
            raise ValueError("the test is either test_regions or the newest test_months, not both")
        for (one, first), (other, second) in combinations(self.regions.items(), 2):
            if _overlap(first, second):
                raise ValueError(f"regions {one} and {other} overlap; a box belongs to one")
        return self

    @property
    def months_of_test(self) -> int:
        """How many of the newest months are the test; none where regions are."""
        return 0 if self.test_regions else self.test_months or 1


def _overlap(one: Region, other: Region) -> bool:
    apart = (other.west - one.west) % 360 >= one.width and (one.west - other.west) % 360 >= other.width
    return not apart and one.south < other.north and other.south < one.north


class EventRecord(BaseModel):
    """An event and what became of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Region and first valid time.")
    region: str = Field(description="Its region; empty where there are none.")
    start: datetime = Field(description="First valid time, UTC.")
    end: datetime = Field(description="Last valid time, UTC.")
    storm: bool = Field(description="Whether it is a storm.")
    side: Side | None = Field(description="The side its rows are on; none where all were left out.")
    rows: int = Field(description="Rows on that side.")
    left_out: int = Field(description="Rows left out.")


class SplitRecord(BaseModel):
    """What is saved of a split, with `model_dump_json`: settings, events and sides, and what was left out and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: SplitSettings
    rows: dict[Side, int]
    left_out: dict[str, int]
    events: tuple[EventRecord, ...]
