"""`dg scaffold defs`: new entries that load at once, every setting written with its default and meaning."""

import textwrap
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

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


class Parameters(BaseModel):
    """Options of `dg scaffold defs`; what is not given is taken from what the catalogue has."""

    model_config = ConfigDict(extra="forbid")


P = TypeVar("P", bound=Parameters)


class EntryScaffolder(dg.Scaffolder[P], Generic[P]):
    """Writes the `defs.yaml` of a new entry and, where its room wants one, a README.md to fill in."""

    parameters: type[P]
    room: str

    @classmethod
    def get_scaffold_params(cls) -> type[P]:
        """The options."""
        return cls.parameters

    @abstractmethod
    def settings(self, name: str, system: Path, given: P) -> Settings:
        """Settings of the new entry that are not left at their defaults."""

    def readme(self, name: str, settings: Settings) -> str:
        """Text of the README.md, or nothing for an entry whose description says it all."""
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
        if text := self.readme(folder.name, settings):
            (folder / "README.md").write_text(text)

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

    reader: Literal["month_table", "year_table"] = Field(
        default="month_table", description="Kind of reader; for the other kinds edit the file."
    )
    path: str | None = Field(default=None, description="The table's file (csv, zip of a csv, parquet).")


class SourceScaffolder(EntryScaffolder[SourceParameters]):
    """A source that reads a table in a file."""

    parameters, room = SourceParameters, "sources"

    def settings(self, name: str, system: Path, given: SourceParameters) -> Settings:
        """A reader of one column; the file need not be there to load."""
        time = {"month_id": "month_id"} if given.reader == "month_table" else {"publication_lag": 12}
        table = {"path": given.path or f"data/{name}.csv", "level": "cm", "unit": "country_id", **time}
        columns = {"my_column": "column_in_the_file"}
        return {"description": "What it is.", "reader": {"kind": given.reader, **table, "columns": columns}}


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


class ModelParameters(Parameters):
    """Options of a new model."""

    features: str | None = Field(default=None, description="Name of the queryset it learns from.")
    target: str | None = Field(default=None, description="Name of one of the queryset's targets.")
    learner: str = Field(default="step_shift", description="Kind of learner.")


class ModelScaffolder(EntryScaffolder[ModelParameters]):
    """A model that learns from an existing queryset."""

    parameters, room = ModelParameters, "models"

    def settings(self, name: str, system: Path, given: ModelParameters) -> Settings:
        """The queryset and target given, or the first of each."""
        querysets = neighbours(system, "features")
        queryset = chosen("queryset", given.features, querysets)
        target = given.target or next(iter(queryset["targets"]))
        chosen("target", target, queryset["targets"])
        schema = rooms()[self.room][f"{KINDS_MODULE}.ForecastModel"].attributes_type.model_json_schema()
        learners = resolved(schema["properties"]["learner"], schema)[CHOICES]
        chosen("learner", given.learner, learners)
        return {
            "description": "What it is, in a sentence or two.",
            "features": given.features or next(iter(querysets)),
            "target": target,
            "learner": {"kind": given.learner},
            "maturity": "candidate",
        }

    def readme(self, name: str, settings: Settings) -> str:
        """What a reader of the catalogue wants to know of a model."""
        features, target, learner = settings["features"], settings["target"], settings["learner"]["kind"]
        return readme_of(
            name,
            f"## Features\n\n`{features}`, target `{target}`. Which columns matter, and why.\n\n"
            f"## Learner\n\n`{learner}`. The settings that differ from the defaults, and why.\n",
        )


class EnsembleParameters(Parameters):
    """Options of a new ensemble."""

    members: list[str] = Field(default=[], description="Name of a member; give the option once for each.")
    method: Literal["mixture", "vincentization", "trained_weights"] = Field(
        default="mixture", description="How members become one forecast."
    )


class EnsembleScaffolder(EntryScaffolder[EnsembleParameters]):
    """An ensemble of existing models."""

    parameters, room = EnsembleParameters, "ensembles"

    def settings(self, name: str, system: Path, given: EnsembleParameters) -> Settings:
        """The members given, or the first two models of one target."""
        models = {name: model for name, model in neighbours(system, "models").items() if model["maturity"] != "retired"}
        for member in given.members:
            chosen("model", member, models)
        first = next(iter(models.values()), {})
        alike = [name for name, model in models.items() if model["target"] == first["target"]]
        members = given.members or alike[:2]
        if len(members) < 2:
            raise CatalogueError("an ensemble needs two models of the same target; scaffold them first")
        return {
            "description": "What it is, in a sentence or two.",
            "members": members,
            "method": {"kind": given.method},
            "maturity": "candidate",
        }

    def readme(self, name: str, settings: Settings) -> str:
        """What a reader of the catalogue wants to know of an ensemble."""
        members = ", ".join(f"`{member}`" for member in settings["members"])
        method = settings["method"]["kind"]
        return readme_of(
            name,
            f"## Members\n\n{members}. What each adds to the others.\n\n## Method\n\n`{method}`, and why.\n",
        )


class ReconciliationParameters(Parameters):
    """Options of a new reconciliation."""

    cells: str = Field(description="Model or ensemble of the cells.")
    parents: str = Field(description="Model or ensemble of the units that hold the cells.")


class ReconciliationScaffolder(EntryScaffolder[ReconciliationParameters]):
    """A forecast of cells scaled to one of the units that hold them."""

    parameters, room = ReconciliationParameters, "ensembles"

    def settings(self, name: str, system: Path, given: ReconciliationParameters) -> Settings:
        """The two forecasts given."""
        known = {**neighbours(system, "models"), **neighbours(system, "ensembles")}
        cells = chosen("model or ensemble", given.cells, known)
        chosen("model or ensemble", given.parents, known)
        return {
            "description": "What it is, in a sentence or two.",
            "cells": given.cells,
            "parents": given.parents,
            "draws": cells["draws"],
            "maturity": "candidate",
        }

    def readme(self, name: str, settings: Settings) -> str:
        """What a reader of the catalogue wants to know of a reconciliation."""
        return readme_of(
            name,
            f"## Cells and totals\n\nShares from `{settings['cells']}`, totals from `{settings['parents']}`. "
            "Why these two.\n",
        )


class ExternalParameters(Parameters):
    """Options of a new forecast from elsewhere."""

    path: str | None = Field(default=None, description="The file, with {month} where the month stands.")
    features: str | None = Field(default=None, description="Queryset whose units and targets it is held to.")
    target: str | None = Field(default=None, description="Name of one of the queryset's targets.")


class ExternalScaffolder(EntryScaffolder[ExternalParameters]):
    """A forecast that arrives as a file, which need not be there to load."""

    parameters, room = ExternalParameters, "models"

    def settings(self, name: str, system: Path, given: ExternalParameters) -> Settings:
        """The file, queryset and target given, or the first of each."""
        querysets = neighbours(system, "features")
        queryset = chosen("queryset", given.features, querysets)
        target = given.target or next(iter(queryset["targets"]))
        chosen("target", target, queryset["targets"])
        return {
            "description": "Whose forecast it is, in a sentence or two.",
            "path": given.path or f"data/forecasts/{name}/{{month}}.parquet",
            "features": given.features or next(iter(querysets)),
            "target": target,
            "maturity": "candidate",
        }

    def readme(self, name: str, settings: Settings) -> str:
        """What a reader of the catalogue wants to know of a forecast from elsewhere."""
        return readme_of(
            name,
            f"## Source\n\n`{settings['path']}`. Who makes it, when it arrives, and under which licence.\n",
        )


_README = """# {name}

What it is, in two sentences.

## Why

What the catalogue lacked, and for whom.

{sections}
## How it did

{scores}
"""
_SCORES = (
    "CRPS, and the shares of its intervals that held, against conflictology and the last value over the same months "
    "and units: which months, and where it was worst. The backtest in the artifact's metadata is a start."
)


def readme_of(name: str, sections: str, scores: str = _SCORES) -> str:
    """A README to fill in: what an entry is, its own `sections`, and which `scores` to report."""
    return _README.format(name=name, sections=sections, scores=textwrap.fill(scores, WIDTH))


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
