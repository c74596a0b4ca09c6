"""Hook of the documentation build: tables of the JSON schemas of the commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[1] / "schemas"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``<!-- schema NAME -->`` by the tables of ``docs/schemas/NAME.json``."""
    return re.sub(r"<!-- schema (\w+) -->", lambda match: schema_tables(match[1]), markdown)


def schema_tables(name: str) -> str:
    """Return the description of a schema, and a table of the keys of each of its objects."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    parts = [schema["description"]]
    if "properties" in schema:
        parts.append(_table(schema, name))
    for key, part in schema.get("$defs", {}).items():
        parts += [f"### {part['title']} {{ #{name}-{key.replace('_', '-')} }}", part["description"], _table(part, name)]
    return "\n\n".join([*parts, f"Schema: [`{name}.json`](schemas/{name}.json)."])


def _table(part: dict[str, Any], name: str) -> str:
    rows = ["| key | type | |", "|---|---|---|"]
    for key, value in part["properties"].items():
        optional = "" if key in part["required"] else " (optional)"
        rows.append(f"| `{key}`{optional} | {_type(value, name)} | {value['description']} |")
    return "\n".join(rows)


def _type(value: dict[str, Any], name: str) -> str:
    if "$ref" in value:
        file, _, key = value["$ref"].partition("#/$defs/")
        target = f"{file.removesuffix('.json') or name}-{key.replace('_', '-')}"
        return f"[{key.replace('_', ' ')}](#{target})"
    if "oneOf" in value:
        return " or ".join(_type(choice, name) for choice in value["oneOf"])
    if "enum" in value or "const" in value:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in value.get("enum", [value.get("const")]))
    if value["type"] == "array":
        return f"list of {_type(value['items'], name)}"
    if "additionalProperties" in value:
        return f"object of {_type(value['additionalProperties'], name)}"
    types = value["type"] if isinstance(value["type"], list) else [value["type"]]
    return " or ".join(types)
