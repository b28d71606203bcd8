"""What a deployment's own sources (`VIEWS_SOURCES`) change, in words: for errors and as a notice."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import dagster as dg

from views_dagster.components.catalogue import SOURCES_VARIABLE, entry_file, sources_file
from views_dagster.names import listed

_log = logging.getLogger(__name__)
_COUNTED: Final = ("models", "ensembles")
_NAMED: Final = 12


def sources_in_force() -> str:
    """Which sources an entry was held against: the end of an error about one that does not fit them."""
    file = sources_file()
    if file is not None:
        return f" (the sources in force are those of {file.shown})"
    return f" ({SOURCES_VARIABLE} is not set: these are the catalogue's own sources; set it where this is for others)"


def tell_what_is_left_out(folders: Iterable[tuple[Path, str]], defs: dg.Definitions) -> None:
    """Log, once for all, the entries that a deployment's own sources leave without assets.

    Args:
        folders: of all entries, each with its room.
        defs: what was made of them.
    """
    file = sources_file()
    if file is None:
        return
    made = {key.path[-1] for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition) for key in asset.keys}
    absent: dict[str, list[str]] = {}
    for folder, room in folders:
        if folder.name not in made and not _is_retired(folder):
            absent.setdefault(room, []).append(folder.name)
    if absent:
        _log.warning("%s leaves out what is of the demo worlds: %s", file.shown, "; ".join(_in_words(absent)))


def _is_retired(folder: Path) -> bool:
    return bool(entry_file(folder / "defs.yaml").value["attributes"].get("maturity") == "retired")


def _in_words(absent: dict[str, list[str]]) -> Iterator[str]:
    named = {room: sorted(names) for room, names in absent.items() if room not in _COUNTED}
    yield from (f"{room} {listed(names, most=_NAMED)}" for room, names in sorted(named.items(), reverse=True))
    counts = [
        f"{len(absent[room])} {room if len(absent[room]) > 1 else room[:-1]}" for room in _COUNTED if room in absent
    ]
    if counts:
        yield f"and the {' and '.join(counts)} that need them"
