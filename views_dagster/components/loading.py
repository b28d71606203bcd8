"""Loading the catalogue: its files are checked first, so that one short error names all that is wrong in them."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dagster.components.core.component_tree import ComponentTreeException
from pydantic import TypeAdapter

from views_dagster.components.blocks import CatalogueError, YamlFile
from views_dagster.components.catalogue import CatalogueEntry, configured_readers, entry_file, sources_file
from views_dagster.components.deployment import tell_what_is_left_out
from views_dagster.errors import PlatformError
from views_dagster.names import malformed, nearest

ENTRY_FILE = "defs.yaml"
TOP_LEVEL = ("type", "attributes", "template_vars_module", "requirements", "post_processing")
KINDS_MODULE = "views_dagster.components"

Kinds = dict[str, type[CatalogueEntry[Any]]]


def load_catalogue(project: Path) -> dg.Definitions:
    """Definitions of every entry of the project's catalogue.

    Raises:
        PlatformError: names the file and line of what is wrong, and what is allowed.
    """
    catalogue = dg.ComponentTree.for_project(project).defs_module_path
    check_catalogue(catalogue)
    try:
        # Outside a code server Dagster would ask its database anew for each entry whether something is loaded besides.
        with DefinitionsLoadContext.scoped(DefinitionsLoadContext.get()):
            defs = dg.load_from_defs_folder(path_within_project=project)
    except ComponentTreeException as error:
        # Dagster wraps what an entry raises in pictures of the whole catalogue; the reader needs the cause alone.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, PlatformError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause.with_traceback(None) from None
    tell_what_is_left_out(_folders(catalogue, rooms(), []), defs)
    return defs


def check_catalogue(catalogue: Path) -> None:
    """Check the files of all entries: where they are, their names, their YAML and the types of their settings.

    What an entry says about others (a queryset, a member) is checked when its definitions are built.

    Raises:
        CatalogueError: all problems, one line each.
    """
    kinds = rooms()
    problems: list[str] = []
    names: dict[str, str] = {}
    sources: set[str] = set()
    for folder, room in _folders(catalogue, kinds, problems):
        place = f"{folder.relative_to(catalogue.parent).as_posix()}/{ENTRY_FILE}:1"
        adjective_noun = any(kind.adjective_noun for kind in kinds[room].values())
        if problem := malformed(folder.name, adjective_noun=adjective_noun):
            problems.append(f"{place}: {problem}")
        if folder.name in names:
            problems.append(
                f"{place}: {names[folder.name]} has this name already; tables are named after entries, so rename one"
            )
        names.setdefault(folder.name, place.rpartition("/")[0])
        if room == "sources":
            sources.add(folder.name)
        try:
            problems += entry_problems(entry_file(folder / ENTRY_FILE), room, kinds[room])
        except CatalogueError as error:
            problems.append(str(error))
    try:
        problems += _deployment_problems(sources)
    except CatalogueError as error:
        problems.append(str(error))
    if problems:
        many = f"{len(problems)} problems in the catalogue\n" if len(problems) > 1 else ""
        raise CatalogueError(many + "\n".join(problems))


def rooms() -> dict[str, Kinds]:
    """The classes of the entries of each room, by the type that is written in the file."""
    module = import_module(KINDS_MODULE)
    found: dict[str, Kinds] = {}
    for name in module.__all__:
        kind = getattr(module, name)
        found.setdefault(kind.room, {})[f"{KINDS_MODULE}.{name}"] = kind
    return found


def _folders(catalogue: Path, kinds: dict[str, Kinds], problems: list[str]) -> Iterator[tuple[Path, str]]:
    """Folder and room of every entry; what lies elsewhere becomes a problem."""
    inside = f"{catalogue.name}/<system>/<room>/<name>/{ENTRY_FILE}"
    files = sorted(path for name in ("*.yaml", "*.yml") for path in catalogue.rglob(name))
    for file in files:
        parts = file.relative_to(catalogue).parts
        where = file.relative_to(catalogue.parent).as_posix()
        if len(parts) != 4:
            problems.append(f"{where}:1: an entry is a file {inside}; move or remove this one")
        elif parts[1] not in kinds:
            problems.append(f"{where}:1: there is no room {parts[1]}{nearest(parts[1], kinds)}")
        elif file.name != ENTRY_FILE:
            problems.append(f"{where}:1: an entry's file is called {ENTRY_FILE}; rename this one")
    for room in (path for system in _visible(catalogue) for path in _visible(system) if path.name in kinds):
        for folder in _visible(room):
            if (folder / ENTRY_FILE).is_file():
                yield folder, room.name
            else:
                where = folder.relative_to(catalogue.parent).as_posix()
                problems.append(f"{where}: this folder has no {ENTRY_FILE}; write one, or remove the folder")


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")


def entry_problems(file: YamlFile, room: str, kinds: Kinds) -> list[str]:
    """What is wrong with the file of an entry of a room that holds these kinds, taken by itself."""
    document = file.value
    if not isinstance(document, dict):
        return [f"{file.place(())}: write a mapping with type and attributes, not {document!r}"]
    problems = [
        f"{file.place([key])}: {key}: there is no such key beside type and attributes{nearest(str(key), TOP_LEVEL)}"
        for key in document
        if key not in TOP_LEVEL
    ]
    kind = kinds.get(str(document.get("type")))
    if kind is None:
        problems.append(
            f"{file.place(['type'])}: type: entries in {room} are of type {' or '.join(kinds)}, "
            f"not {document.get('type')!r}"
        )
    elif not isinstance(document.get("attributes"), dict):
        problems.append(f"{file.place(['attributes'])}: attributes: write the entry's settings here")
    else:
        problems += file.problems(TypeAdapter(kind.attributes_type), ["attributes"])
    return problems


def _deployment_problems(sources: set[str]) -> list[str]:
    """What is wrong with the file that VIEWS_SOURCES names."""
    file, readers = sources_file(), configured_readers()
    return [
        f"{file.place([name])}: {name}: there is no source {name}{nearest(name, sources)}"
        for name in readers
        if file is not None and name not in sources
    ]
