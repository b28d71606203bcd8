"""YAML blocks: the line of every value in a file, and what is wrong with a block, in words that say what is allowed."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import DEFAULT_REF_TEMPLATE, GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import ErrorDetails, core_schema

from views_dagster.errors import PlatformError
from views_dagster.names import nearest

CHOICES: Final = "choices"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

LARGEST: Final = 2**31 - 1
"""The largest whole number that every library counts with, and minus it the smallest."""

Keys = Sequence[str | int]


class CatalogueError(PlatformError):
    """An entry of the catalogue names something that does not exist or does not fit."""


class YamlFile:
    """One YAML document and where its values stand.

    Attributes:
        value: the document.
        shown: what messages call the file.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Read the file; messages call it `name`.

        Raises:
            CatalogueError: it is not one YAML document, or a key is written twice; names the line.
        """
        self.shown = name
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CatalogueError(f"{name}: this is not UTF-8 text ({error}); save it as UTF-8") from None
        try:
            loader = _LOADER(text)
            self._root = loader.get_single_node()
            twice = list(self._duplicates(self._root))
            self.value: Any = None if self._root is None else loader.construct_document(self._root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            row = mark.line if mark else 0
            line = text.splitlines()[row] if row < len(text.splitlines()) else ""
            tab = "; YAML is indented with spaces, never tabs" if "\t" in line else ""
            said = ", ".join(part for part in (error.context, error.problem) if part)
            raise CatalogueError(f"{self.shown}:{row + 1}: this is not YAML: {said}{tab}") from None
        except yaml.YAMLError as error:
            raise CatalogueError(f"{self.shown}: this is not YAML: {error}") from None
        if twice:
            raise CatalogueError("\n".join(twice))

    def place(self, keys: Keys) -> str:
        """`folder/defs.yaml:line` of the value at `keys`, or of the deepest above it that is there."""
        line, node = 1, self._root
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                found = next((pair for pair in node.value if pair[0].value == str(key)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                found = (node.value[key], node.value[key])
            else:
                found = None
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return f"{self.shown}:{line}"

    def problems(self, adapter: TypeAdapter[Any], at: Keys = ()) -> list[str]:
        """What is wrong with the block at `at`, one line a problem, each with its place and what is allowed.

        Types are taken strictly, as YAML gives them: `yes` is no number, and neither is "12". Numbers are finite, and
        whole ones at most `LARGEST`, whatever the setting allows.
        """
        block = self.value
        for key in at:
            block = block[key]
        found = list(_unbounded(block))
        unbounded = [keys for keys, _ in found]
        try:
            adapter.validate_json(json.dumps(block, default=str), strict=True)
        except ValidationError as error:
            schema = adapter.json_schema(schema_generator=BlockSchema)
            explained = (_explained(details, block, schema) for details in error.errors())
            found += [(keys, what) for keys, what in explained if keys not in unbounded]
        return [
            f"{self.place([*at, *keys])}: {'.'.join(map(str, keys)) or 'the block'}: {what}" for keys, what in found
        ]

    def _duplicates(self, node: yaml.Node | None) -> Iterator[str]:
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from self._duplicates(item)
        if isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.value in first:
                    yield (
                        f"{self.shown}:{line}: {key.value} is written twice, first in line {first[key.value]}; "
                        "keep one of them"
                    )
                first.setdefault(key.value, line)
                yield from self._duplicates(value)


class BlockSchema(GenerateJsonSchema):
    """JSON schemas whose violations name the one setting that is wrong.

    pydantic writes a choice between blocks as `oneOf`, of which a validator can only say that none fits. Here the tag
    picks the block that is then checked. `choices` holds the blocks by tag.
    """

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        choices = {str(tag): self.generate_inner(choice) for tag, choice in schema["choices"].items()}
        tags, by = sorted(choices), schema["discriminator"]
        if isinstance(by, str):
            made: JsonSchemaValue = {"type": "object", "properties": {by: {"enum": tags}}, "required": [by]}
            conditions = {tag: {"properties": {by: {"const": tag}}, "required": [by]} for tag in tags}
        else:
            # A block under the name of its kind: {lightgbm: {...}}.
            made = {"type": "object", "propertyNames": {"enum": tags}, "minProperties": 1, "maxProperties": 1}
            conditions = {tag: {"required": [tag]} for tag in tags}
        checks = [{"if": conditions[tag], "then": choices[tag]} for tag in tags]
        return {**made, "allOf": checks, CHOICES: choices}

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {"minimum": -LARGEST, "maximum": LARGEST, **super().int_schema(schema)}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"minimum": -sys.float_info.max, "maximum": sys.float_info.max, **super().float_schema(schema)}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        if made.get("additionalProperties") is False:
            # additionalProperties says that a setting is not allowed, this says which are.
            made["propertyNames"] = {"enum": list(made.get("properties", {}))}
        return made


class YamlBlock(BaseModel):
    """A model that stands in YAML and is checked by JSON schema before it is loaded."""

    @classmethod
    def model_json_schema(
        cls,
        by_alias: bool | None = True,
        ref_template: str = DEFAULT_REF_TEMPLATE,
        schema_generator: type[GenerateJsonSchema] = BlockSchema,
        mode: JsonSchemaMode = "validation",
        **options: Any,
    ) -> dict[str, Any]:
        """The schema, with errors that name what is wrong."""
        return super().model_json_schema(by_alias, ref_template, schema_generator, mode, **options)


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself in place of a reference to it or of an optional value."""
    if "$ref" in schema:
        return resolved(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    real = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    if len(real) == 1:
        return resolved(real[0], root)
    return schema


def _unbounded(block: Any, keys: tuple[str | int, ...] = ()) -> Iterator[tuple[list[str | int], str]]:
    """Where in a block numbers are that nothing can be computed with, and what is wrong with them."""
    children = block.items() if isinstance(block, dict) else enumerate(block) if isinstance(block, list) else ()
    for key, child in children:
        yield from _unbounded(child, (*keys, key))
    if isinstance(block, float) and not math.isfinite(block):
        yield [*keys], f"should be a finite number, not {block}"
    elif isinstance(block, int) and abs(block) > LARGEST:
        yield [*keys], f"should be at most {LARGEST} in size, as every whole number, not {block}"


def _items(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Schema of what a list or a mapping with free keys holds."""
    options = [schema.get("items"), schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    return next((option for option in options if isinstance(option, dict)), {})


def _explained(details: ErrorDetails, block: Any, root: Mapping[str, Any]) -> tuple[list[str | int], str]:
    """Where in the YAML an error of pydantic is, and what it says.

    pydantic's locations also hold the tags of unions, which are no keys in the YAML.
    """
    keys: list[str | int] = []
    parent = schema = resolved(root, root)
    *_, last = details["loc"] or ("",)
    absent = details["type"] in ("missing", "extra_forbidden")
    for number, key in enumerate(details["loc"]):
        is_last = number == len(details["loc"]) - 1
        children = block if isinstance(block, dict) else dict(enumerate(block)) if isinstance(block, list) else {}
        inside = {str(name): child for name, child in children.items()}
        if key in schema.get(CHOICES, {}):
            schema = resolved(schema[CHOICES][key], root)
        elif str(key) in inside or (is_last and absent):
            keys.append(key)
            parent = schema
            known = schema.get("properties", {})
            schema = resolved(known.get(key) or _items(schema), root)
            block = inside.get(str(key))
    match details["type"]:
        case "extra_forbidden":
            return keys, f"there is no setting {last}{nearest(str(last), parent.get('properties', {}))}"
        case "missing":
            meaning = parent.get("properties", {}).get(last, {}).get("description", "")
            return keys, f"this setting is missing. {meaning}".rstrip()
        case "union_tag_invalid":
            by = details["ctx"]["discriminator"].strip("'")
            tag = details["ctx"]["tag"]
            return [*keys, by], f"there is no {by} {tag}{nearest(tag, schema.get(CHOICES, {}))}"
        case "union_tag_not_found":
            by = details["ctx"]["discriminator"].strip("'")
            return keys, f"{by} is missing; write one of: {', '.join(sorted(schema.get(CHOICES, {})))}"
        case "value_error":
            return keys, str(details["ctx"]["error"])
        case _:
            value = details["input"]
            got = "" if isinstance(value, dict | list) else f", not {value!r}"
            meaning = parent.get("properties", {}).get(keys[-1] if keys else "", {}).get("description", "")
            return keys, details["msg"].replace("Input should", "should") + got + (f" ({meaning})" if meaning else "")
