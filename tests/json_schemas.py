"""The documented JSON schemas of the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

SCHEMAS = {
    path.name: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[1] / "docs/schemas").glob("*.json"))
}
_REGISTRY: Registry[Any] = Registry().with_resources(
    [(name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items()]
)


def require_schema(content: dict[str, Any], name: str) -> dict[str, Any]:
    """Check an object against the schema of a command, and return it."""
    schema = SCHEMAS[f"{name}.json"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema, registry=_REGISTRY).validate(content)
    return content
