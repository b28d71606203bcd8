"""The references of learners in docs/models.md and docs/precipitation.md, from the schemas.

`python -m views_dagster.components.reference` prints the first, with the argument `DiagnosisModel` the second.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from views_dagster.components.blocks import CHOICES, resolved
from views_dagster.components.loading import KINDS_MODULE, rooms
from views_dagster.components.scaffolding import inline

Schema = Mapping[str, Any]
LONG = 80


def learner_reference(component: str = "ForecastModel") -> str:
    """Markdown: what each kind of learner is, and a table of the settings of learners and of the blocks inside them.

    Args:
        component: a class of models, whose learners they are.
    """
    root = rooms()["models"][f"{KINDS_MODULE}.{component}"].attributes_type.model_json_schema()
    kinds = resolved(root["properties"]["learner"], root)[CHOICES]
    blocks = {kind: resolved(kinds[kind], root) for kind in sorted(kinds)}
    summaries = [
        f"- `{kind}`: " + block["description"].partition("\n\n")[0].replace("\n", " ") for kind, block in blocks.items()
    ]
    learners = list(blocks.values())
    owners: dict[tuple[str, str, str], list[str]] = {}
    done: set[str] = set()
    while waiting := [name for name in blocks if name not in done]:
        name = waiting[0]
        done.add(name)
        needed = blocks[name].get("required", ())
        for setting, field in blocks[name].get("properties", {}).items():
            if "const" not in field:
                inside = _inside(setting, resolved(field, root), root)
                # A learner that is part of another has the settings that it has by itself.
                blocks.update({label: block for label, block in inside if block not in learners})
                default = "needed" if setting in needed else _default(field)
                owners.setdefault((setting, default, _meaning(field)), []).append(name)
    rows = [
        f"| `{setting}` | {', '.join(names)} | {default} | {meaning} |"
        for (setting, default, meaning), names in owners.items()
    ]
    return "\n".join([*summaries, "", "| setting | of | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _inside(setting: str, value: Schema, root: Schema) -> Iterator[tuple[str, Schema]]:
    """The blocks that a setting can hold, by the name that the table gives them."""
    if CHOICES not in value and "properties" in value:
        yield setting, value
    for tag, choice in value.get(CHOICES, {}).items():
        block = resolved(choice, root)
        held = block.get("properties", {})
        if tag not in held:
            yield f"{setting} {tag}", block
            continue
        library = resolved(held[tag], root)
        if CHOICES in library:
            yield from ((name, resolved(estimator, root)) for name, estimator in library[CHOICES].items())
        else:
            yield f"{tag} {setting}", library


def _default(field: Schema) -> str:
    """The default; of a large block its kind alone, for its settings have rows of their own."""
    value = field.get("default", {})
    text = inline(value)
    if len(text) > LONG and isinstance(value, Mapping):
        return f"`{{kind: {value['kind']}}}`" if "kind" in value else "see below"
    return f"`{text}`"


def _meaning(field: Schema) -> str:
    options = f"; one of {', '.join(field['enum'])}" if "enum" in field else ""
    return f"{field['description'].rstrip('.')}{options}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the reference of learners that docs/ hold.")
    parser.add_argument("component", nargs="?", default="ForecastModel", choices=["ForecastModel", "DiagnosisModel"])
    print(learner_reference(parser.parse_args().component))
