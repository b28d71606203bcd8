"""Proposals: better settings as a change of a model's YAML file, for a person to read and to apply with `patch -p1`.

Only the values that differ are written; comments, order and layout of everything else stay.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import JsonValue

from views_dagster.errors import QuerysetError
from views_dagster.tuning.space import StartingPoint

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class _Edit:
    """Text that takes the place of what stands from `start` to `end`."""

    start: int
    end: int
    text: str


def propose(
    text: str,
    values: Mapping[str, JsonValue],
    start: StartingPoint,
    *,
    file: str,
    at: Sequence[str] = ("attributes", "learner"),
) -> str:
    """The change as a unified diff; empty where there is none.

    Args:
        text: the YAML file as it is.
        values: new settings of the block at `at`, by dotted path.
        start: what that block means now.
        file: path of the file from the folder in which `patch -p1` will be run.
        at: keys of the block.

    Raises:
        QuerysetError: as `edited` does.
    """
    old = text.splitlines(keepends=True)
    new = edited(text, values, start, at=at).splitlines(keepends=True)
    lines = difflib.unified_diff(old, new, f"a/{file}", f"b/{file}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def edited(
    text: str,
    values: Mapping[str, JsonValue],
    start: StartingPoint,
    *,
    at: Sequence[str] = ("attributes", "learner"),
) -> str:
    """The file with `values` in the block at `at`.

    Raises:
        QuerysetError: the file is not one YAML document, has no such block, or repeats values by anchor and alias, so
            that a change of one place would change others.
    """
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=_LOADER)):
            raise QuerysetError("the file repeats values by alias (*name); write the proposed values by hand")
        node = yaml.compose(text, Loader=_LOADER)
        wanted = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise QuerysetError(f"the file is not one YAML document: {error}") from error
    block = wanted
    for key in at:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
        if node is None:
            raise QuerysetError(f"the file has no {'.'.join(at)}")
        parent, block = block, block[key]
    if not isinstance(node, yaml.MappingNode):
        raise QuerysetError(f"{'.'.join(at)} is {_flow(block)}, not a block of settings")
    parent[at[-1]] = StartingPoint(block, start.complete).changed(_differing(values, start))
    changed = text
    for edit in sorted(_changes(text, node, block, parent[at[-1]]), key=lambda edit: edit.start, reverse=True):
        changed = changed[: edit.start] + edit.text + changed[edit.end :]
    try:
        reads_back = yaml.load(changed, Loader=_LOADER) == wanted
    except yaml.YAMLError:
        reads_back = False
    if not reads_back:
        raise QuerysetError(f"{'.'.join(at)} is written in a way that cannot be edited; write the values by hand")
    return changed


def _differing(values: Mapping[str, JsonValue], start: StartingPoint) -> dict[str, JsonValue]:
    """The values that are not what the settings already mean, written or by default."""

    def is_default(path: str, value: JsonValue) -> bool:
        block = path.rpartition(".")[0]
        if f"{block}.kind" in values:
            # Another kind of block has other defaults.
            return False
        try:
            present = start.value(path)
        except KeyError:
            return False
        return present == value and type(present) is type(value)

    return {path: value for path, value in values.items() if not is_default(path, value)}


def _changes(text: str, node: yaml.MappingNode, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[_Edit]:
    """Edits that turn a mapping's `old` values into `new` ones."""
    for key, value in node.value:
        name = key.value
        if name not in new or (old[name] == new[name] and type(old[name]) is type(new[name])):
            continue
        if isinstance(value, yaml.MappingNode) and isinstance(new[name], dict) and old[name].keys() <= new[name].keys():
            yield from _changes(text, value, old[name], new[name])
        else:
            # From the colon on: a value may stand below its key, or not at all.
            colon = text.index(":", key.end_mark.index) + 1
            yield _Edit(colon, max(colon, _end(value)), f" {_flow(new[name])}")
    added = {name: value for name, value in new.items() if name not in old}
    if added:
        yield _insertion(text, node, added)


def _insertion(text: str, node: yaml.MappingNode, added: Mapping[str, Any]) -> _Edit:
    """New keys at the end of a mapping, written as the others are."""
    written = [f"{_flow(name)}: {_flow(value)}" for name, value in added.items()]
    if node.flow_style:
        place = _end(node.value[-1][1]) if node.value else node.start_mark.index + 1
        return _Edit(place, place, ", ".join([""] * bool(node.value) + written))
    place = text.find("\n", max(_end(node.value[-1][0]), _end(node.value[-1][1])))
    newline = "\r\n" if "\r\n" in text else "\n"
    indent = " " * node.value[0][0].start_mark.column
    if place < 0:
        return _Edit(len(text), len(text), "".join(f"{newline}{indent}{line}" for line in written))
    return _Edit(place + 1, place + 1, "".join(f"{indent}{line}{newline}" for line in written))


def _end(node: yaml.Node) -> int:
    """Where a value ends. The mark of a block is where the next thing begins, behind comments and empty lines."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return max(_end(part) for part in last) if isinstance(last, tuple) else _end(last)
    return int(node.end_mark.index)


def _flow(value: Any) -> str:
    """A value on one line, as YAML reads it back."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
