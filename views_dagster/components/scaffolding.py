"""`dg scaffold defs`: new entries that load at once, every setting written with its default and meaning."""

import textwrap
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import click
import dagster as dg
import yaml
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.components.blocks import CHOICES, CatalogueError, resolved
from views_dagster.components.catalogue import entry_file
from views_dagster.components.loading import ENTRY_FILE, KINDS_MODULE, entry_problems, rooms
from views_dagster.names import malformed, nearest

Settings = dict[str, Any]
Schema = Mapping[str, Any]
WIDTH = 118
README = """# {name}

What it is, in two sentences.

## Why

What the catalogue lacked, and for whom.

{sections}

## How it did

{scores}
"""


class Parameters(BaseModel):
    """Options of `dg scaffold defs`; what is not given is taken from what the catalogue has."""

    model_config = ConfigDict(extra="forbid")


P = TypeVar("P", bound=Parameters)


class EntryScaffolder(dg.Scaffolder[P], Generic[P]):
    """Writes the `defs.yaml` of a new entry and, where its room wants one, a README.md to fill in.

    Attributes:
        parameters: its options.
        room: of the entries that it makes.
        scores: what their README.md should report.
    """

    parameters: type[P]
    room: str
    scores: ClassVar[str] = ""

    @classmethod
    def get_scaffold_params(cls) -> type[P]:
        """The options."""
        return cls.parameters

    @abstractmethod
    def settings(self, name: str, system: Path, given: P) -> Settings:
        """Settings of the new entry that are not left at their defaults."""

    def sections(self, settings: Settings) -> str:
        """The README.md's sections about what the entry is made of; nothing where its description says it all."""
        return ""

    def scaffold(self, request: dg.ScaffoldRequest[P]) -> None:
        """Write the entry's files; leave no folder behind where that is refused."""
        folder = request.target_path
        try:
            if request.scaffold_format != "yaml" or request.append:
                raise CatalogueError("an entry of the catalogue is one YAML file of its own; use --format yaml")
            self._check_place(folder, request.project_root)
            settings = self.settings(folder.name, folder.parents[1], request.params)
        except CatalogueError as error:
            for made in (folder, *folder.parents[:2]):
                if made.is_dir() and not any(made.iterdir()):
                    made.rmdir()
            raise click.ClickException(str(error)) from None
        schema = rooms()[self.room][request.type_name].attributes_type.model_json_schema()
        lines = [f"type: {request.type_name}", "attributes:", *setting_lines(schema, schema, settings)]
        (folder / ENTRY_FILE).write_text("\n".join(lines) + "\n")
        if sections := self.sections(settings):
            scores = textwrap.fill(self.scores, WIDTH)
            (folder / "README.md").write_text(README.format(name=folder.name, sections=sections, scores=scores))

    def _check_place(self, folder: Path, project: Path | None) -> None:
        within = folder.relative_to(project).parts if project is not None else folder.parts[-4:]
        if len(within) != 4 or within[2] != self.room:
            raise CatalogueError(
                f"name the entry <system>/{self.room}/<name>, for example conflict/{self.room}/my_name"
            )
        adjective_noun = any(kind.adjective_noun for kind in rooms()[self.room].values())
        if problem := malformed(folder.name, adjective_noun=adjective_noun):
            raise CatalogueError(problem)
        taken = [path for path in folder.parents[2].glob(f"*/*/{folder.name}") if path != folder]
        if taken:
            raise CatalogueError(f"{taken[0].relative_to(folder.parents[2])} has this name already; choose another")


class SourceParameters(Parameters):
    """Options of a new source."""

    reader: Literal["month_table", "year_table", "column_files", "rain_files", "member_files"] = Field(
        default="month_table", description="Kind of reader; for the other kinds edit the file."
    )
    path: str | None = Field(default=None, description="The file, or for weather files the pattern of their paths.")


class SourceScaffolder(EntryScaffolder[SourceParameters]):
    """A source that reads files."""

    parameters, room = SourceParameters, "sources"

    def settings(self, name: str, system: Path, given: SourceParameters) -> Settings:
        """A reader of one column or field; the files need not be there to load."""
        if given.reader in ("month_table", "year_table"):
            time = {"month_id": "month_id"} if given.reader == "month_table" else {"publication_lag": 12}
            table = {"path": given.path or f"data/{name}.csv", "level": "cm", "unit": "country_id", **time}
            reader = {**table, "columns": {"my_column": "column_in_the_file"}}
        else:
            variable = {"files": given.path or f"data/{name}/%Y%m.nc", "variable": "name_in_the_files"}
            reader = {"grid": {"latitude": 40.0, "longitude": 0.0, "step": 0.5, "rows": 20, "columns": 20}}
            if given.reader == "column_files":
                level = {"dimension": "level", "unit": "hPa"}
                reader |= {"level": level, "profiles": {"temperature": variable}, "time_step": "6h"}
            else:
                reader |= {"rain": variable, "interval": "1h"}
        return {"description": "What it is.", "reader": {"kind": given.reader, **reader}}


class QuerysetParameters(Parameters):
    """Options of a new queryset."""

    like: str | None = Field(default=None, description="Queryset whose level, units and targets it takes over.")


class QuerysetScaffolder(EntryScaffolder[QuerysetParameters]):
    """A queryset with the targets of another one and one column for each."""

    parameters, room = QuerysetParameters, "features"

    def settings(self, name: str, system: Path, given: QuerysetParameters) -> Settings:
        """Targets of `like`, and their logarithms as columns."""
        like = chosen("queryset", given.like, neighbours(system, self.room))
        columns = {
            f"ln_{name}": {**spec, "transforms": ["replace_na(0)", "ln"]} for name, spec in like["targets"].items()
        }
        shared = {key: like[key] for key in ("level", "units", "targets") if key in like}
        return {"description": "What it is for.", **shared, "columns": columns}


class MembersParameters(Parameters):
    """Options of a new ensemble; those of a kind of ensemble say which methods it has."""

    members: list[str] = Field(default=[], description="Name of a member; give the option once for each.")
    method: str


M = TypeVar("M", bound=MembersParameters)


class MembersScaffolder(EntryScaffolder[M], Generic[M]):
    """An ensemble of existing models."""

    room = "ensembles"

    @abstractmethod
    def subject(self, model: Settings, features: Mapping[str, Settings]) -> object:
        """What a model is about, equal for those that one ensemble can join; None where that is not known.

        Args:
            features: the system's sound feature sets, by name.
        """

    def settings(self, name: str, system: Path, given: M) -> Settings:
        """The members given, or the first two models that go together."""
        models = {name: model for name, model in neighbours(system, "models").items() if model["maturity"] != "retired"}
        for member in given.members:
            chosen("model", member, models)
        features = neighbours(system, "features")
        alike: dict[object, list[str]] = {}
        for name, model in models.items():
            alike.setdefault(self.subject(model, features), []).append(name)
        joinable = (names for subject, names in alike.items() if subject is not None and len(names) > 1)
        members = given.members or next(joinable, [])[:2]
        if len(members) < 2:
            raise CatalogueError("an ensemble needs two models of one kind of forecast; scaffold them first")
        return {
            "description": "What it is, in a sentence or two.",
            "members": members,
            "method": {"kind": given.method},
            "maturity": "candidate",
        }

    def sections(self, settings: Settings) -> str:
        """Its members and its method."""
        members = ", ".join(f"`{member}`" for member in settings["members"])
        return (
            f"## Members\n\n{members}. What each adds to the others.\n\n"
            f"## Method\n\n`{settings['method']['kind']}`, and why."
        )


def neighbours(system: Path, room: str) -> dict[str, Settings]:
    """Settings of the sound entries of a room, by name, defaults included."""
    kinds = rooms()[room]
    found: dict[str, Settings] = {}
    for path in sorted((system / room).glob(f"*/{ENTRY_FILE}")):
        file = entry_file(path)
        if not entry_problems(file, room, kinds):
            written = file.value["attributes"]
            fields = kinds[file.value["type"]].attributes_type.model_fields.items()
            defaults = {name: field.get_default(call_default_factory=True) for name, field in fields}
            found[path.parent.name] = {name: written.get(name, default) for name, default in defaults.items()}
    return found


def require_learner(component: str, learner: str) -> None:
    """CatalogueError where a class of models has no such kind of learner."""
    schema = rooms()["models"][f"{KINDS_MODULE}.{component}"].attributes_type.model_json_schema()
    chosen("learner", learner, resolved(schema["properties"]["learner"], schema)[CHOICES])


def setting_lines(schema: Schema, root: Schema, given: Settings, indent: int = 2) -> Iterator[str]:
    """YAML lines of a block: settings given or needed, then the others as comments with their defaults."""
    pad, fields = " " * indent, schema["properties"]
    needed = {name: example(fields[name], root) for name in schema.get("required", ()) if name not in given}
    for name, value in {**given, **needed}.items():
        choices = resolved(fields[name], root).get(CHOICES, {})
        if isinstance(value, dict) and value.get("kind") in choices:
            yield from _comment(pad, f"{fields[name]['description']} Kinds: {', '.join(sorted(choices))}.")
            yield f"{pad}{name}:"
            yield from setting_lines(resolved(choices[value["kind"]], root), root, value, indent + 2)
        elif isinstance(value, dict) and any(isinstance(item, dict) and item for item in value.values()):
            yield f"{pad}{name}:"
            yield from (f"{pad}  {key}: {inline(item)}" for key, item in value.items())
        else:
            yield f"{pad}{name}: {inline(value)}"
    for name, field in fields.items():
        if name not in given and name not in needed:
            yield from _comment(pad, field["description"])
            yield f"{pad}# {name}: {inline(field.get('default', {}))}"


def example(schema: Schema, root: Schema) -> Any:
    """The simplest value that a schema allows, without optional settings."""
    schema = resolved(schema, root)
    if CHOICES in schema:
        tag = min(schema[CHOICES])
        block = example(schema[CHOICES][tag], root)
        return {**dict.fromkeys(schema.get("properties", {}), tag), **block}
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") in ("integer", "number"):
        return schema.get("minimum", 1)
    if schema.get("type") == "object":
        return {name: example(schema["properties"][name], root) for name in schema.get("required", ())}
    return "..."


def _comment(pad: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ")


def inline(value: Any) -> str:
    """A value as YAML in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.strip().removesuffix("...").strip()


def chosen(what: str, name: str | None, known: Mapping[str, Any]) -> Any:
    """The one of that name, or the first."""
    if not known:
        raise CatalogueError(f"the system has no {what} yet; write that first")
    if name is not None and name not in known:
        raise CatalogueError(f"there is no {what} {name}{nearest(name, known)}")
    return known[name if name is not None else next(iter(known))]
