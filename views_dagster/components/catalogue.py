"""What the component classes share: keys, partitions, names from folders, neighbours in the catalogue, error positions.

An entry's name is its folder's; its system is the folder above its room: `assets/<system>/<room>/<name>/defs.yaml`.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from views_dagster import calendar
from views_dagster.components.blocks import CatalogueError, Keys, YamlBlock, YamlFile
from views_dagster.components.months import Months
from views_dagster.conflict.cells import PrioGrid
from views_dagster.conflict.countries import Countries
from views_dagster.conflict.demo_cells import DemoCells
from views_dagster.conflict.demo_readers import DemoCountries, DemoEvents, DemoYearTable
from views_dagster.conflict.ucdp_api import UcdpApi
from views_dagster.conflict.ucdp_files import UcdpFiles
from views_dagster.errors import MissingMonthsError
from views_dagster.names import nearest
from views_dagster.precipitation.column_files import ColumnFiles
from views_dagster.precipitation.demo_weather_readers import DemoColumns, DemoMembers, DemoRain
from views_dagster.precipitation.rain_files import MemberFiles, RainFiles
from views_dagster.sources.base import Reader
from views_dagster.sources.tables import MonthTable, YearTable

# Partition mappings, checks over partitions and freshness policies are marked beta; each command would say so again.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
# Raw data and features may be made over ranges and models not: the job then runs month by month, as it should.
warnings.filterwarnings("ignore", message="Asset job month materializes assets with varying BackfillPolicies")

MONTHS = Months(start_date=calendar.FIRST_KEY, fmt="%Y-%m")
HISTORY = dg.TimeWindowPartitionMapping(start_offset=-600, end_offset=0, allow_nonexistent_upstream_partitions=True)
"""A month and the fifty years before it, which is what whoever computes with the past depends on."""

WHOLE_RANGE = dg.BackfillPolicy.single_run()
MONTHLY_FRESHNESS = dg.FreshnessPolicy.cron(deadline_cron="0 6 27 * *", lower_bound_delta=timedelta(days=20))
"""By the 27th a month must have been made since the 7th: the schedule runs on the 25th, the sensor may be earlier."""

SOURCES_VARIABLE = "VIEWS_SOURCES"

AnyReader = Annotated[
    DemoEvents
    | DemoCountries
    | DemoCells
    | DemoYearTable
    | UcdpFiles
    | UcdpApi
    | Countries
    | PrioGrid
    | MonthTable
    | YearTable
    | DemoColumns
    | DemoRain
    | DemoMembers
    | ColumnFiles
    | RainFiles
    | MemberFiles,
    Field(discriminator="kind"),
]
Entry = TypeVar("Entry", bound="CatalogueEntry[Any]")
A = TypeVar("A", bound=YamlBlock)
READERS: TypeAdapter[dict[str, AnyReader]] = TypeAdapter(dict[str, AnyReader])


class Attributes(YamlBlock):
    """What every entry's `attributes` block allows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(default="", description="What it is, in a sentence or two; shown in the UI.")


class CatalogueEntry(dg.Component, Generic[A]):
    """A component whose settings are one pydantic model, `attributes`.

    Attributes:
        room: the folder of a system that holds all entries of the class.
        adjective_noun: entries are named with two words, as VIEWS names its models.
    """

    attributes_type: type[A]
    room: ClassVar[str]
    adjective_noun: ClassVar[bool] = False

    def __init__(self, attributes: A) -> None:
        self.attributes = attributes

    @classmethod
    def get_model_cls(cls) -> type[YamlBlock]:
        """The model that `dg` checks the YAML against."""
        return cls.attributes_type

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> "CatalogueEntry[A]":
        """Build from checked attributes."""
        if not isinstance(attributes, cls.attributes_type):
            raise CatalogueError(f"{context.path} has no attributes")
        return cls(attributes)

    def is_present(self, context: dg.ComponentLoadContext, system: Path) -> bool:
        """Whether this deployment has the entry's assets: it is not retired, and has the sources it is made from."""
        return True

    @property
    def code_version(self) -> str:
        """Changes when the settings do, so that the UI shows what was made with older ones."""
        return digest_of(self.attributes.model_dump())[:12]


def digest_of(value: Any) -> str:
    """SHA-256 of settings as JSON; sets, whose order differs between processes, are sorted."""

    def plain(item: Any) -> Any:
        return sorted(item, key=str) if isinstance(item, frozenset | set) else str(item)

    return hashlib.sha256(json.dumps(value, sort_keys=True, default=plain).encode()).hexdigest()


def system_folder(context: dg.ComponentLoadContext) -> Path:
    """Folder of the system (`assets/conflict`) that the entry belongs to."""
    return context.path.parents[1]


def entries(context: dg.ComponentLoadContext, system: Path, room: str, kind: type[Entry]) -> dict[str, Entry]:
    """All entries of one room of a system, by name."""
    # Every entry asks for its neighbours; what a tree has loaded is kept with the tree, which is made anew to reload.
    rooms: dict[tuple[Path, str], dict[str, Entry]] = vars(context.component_tree).setdefault("_rooms", {})
    if (system, room) not in rooms:
        folders = sorted(path.parent for path in (system / room).glob("*/defs.yaml"))
        rooms[system, room] = {folder.name: context.load_component(folder, kind) for folder in folders}
    return rooms[system, room]


def named_members(
    folder: Path,
    members: Sequence[str],
    models: Mapping[str, Entry],
    objection: Callable[[Entry], str | None] = lambda model: None,
) -> dict[str, Entry]:
    """The models that an ensemble's `members` name, in that order.

    Args:
        folder: the ensemble's own.
        objection: what else speaks against a model, if anything does.

    Raises:
        CatalogueError: all members that are unknown, retired, named twice or objected to, with their lines.
    """
    usable = {name: model for name, model in models.items() if model.attributes.maturity != "retired"}
    problems = []
    for number, member in enumerate(members):
        problem = None
        if member in members[:number]:
            problem = f"{member} is named twice"
        elif member not in models:
            problem = f"there is no model {member}{nearest(member, usable)}"
        elif member not in usable:
            problem = f"{member} is retired; take it out"
        elif said := objection(models[member]):
            problem = f"{member} {said}"
        if problem is not None:
            problems.append(f"{line_of(folder, ['members', number])}: members: {problem}")
    if problems:
        raise CatalogueError("\n".join(problems))
    return {member: models[member] for member in members}


def entry_file(path: Path) -> YamlFile:
    """A `defs.yaml`; messages call it by its path from the catalogue's folder on."""
    return YamlFile(path, "/".join(path.parts[-5:]))


def line_of(folder: Path, keys: Keys) -> str:
    """`folder/defs.yaml:line` of an entry's attribute at `keys`, or of the deepest of them that is there."""
    return entry_file(folder / "defs.yaml").place(["attributes", *keys])


def configured_readers() -> Mapping[str, Reader]:
    """Readers that this deployment puts in place of the catalogue's: the YAML file that VIEWS_SOURCES names.

    Raises:
        CatalogueError: the file is missing or a block in it is not a reader; names each line that is wrong.
    """
    file = sources_file()
    if file is None or file.value is None:
        return {}
    if problems := file.problems(READERS):
        raise CatalogueError("\n".join(problems))
    return READERS.validate_python(file.value)


def sources_file() -> YamlFile | None:
    """The file that VIEWS_SOURCES names; None where it names none."""
    location = os.environ.get(SOURCES_VARIABLE)
    if not location:
        return None
    path = Path(location).expanduser()
    if not path.is_file():
        raise CatalogueError(f"{SOURCES_VARIABLE} names {path}, which is not a file; name one, or unset it")
    return YamlFile(path, f"{path} ({SOURCES_VARIABLE})")


def month_range(context: dg.AssetExecutionContext) -> tuple[int, int]:
    """First and last month id of the run's partitions.

    Raises:
        MissingMonthsError: the range runs backwards.
    """
    keys = context.partition_key_range
    if keys.start > keys.end:
        raise MissingMonthsError(f"{keys.start}...{keys.end} runs backwards; write the earlier month first")
    return calendar.from_key(keys.start), calendar.from_key(keys.end)


def check_month(context: dg.AssetCheckExecutionContext) -> int:
    """The month that a check looks at: the run's, or the newest one of a run over a range."""
    tags = context.run.tags
    key = tags.get("dagster/partition") or tags.get("dagster/asset_partition_range_end")
    if key is None:
        raise CatalogueError("a check needs a month: start it with --partition or for a partition in the UI")
    return calendar.from_key(key)
