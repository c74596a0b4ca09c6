"""Dataclasses as JSON values: recipes, options of saved models, reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from panscape.errors import InvalidArgumentError


def to_plain(value: Any, name: str = "value", extra: Callable[[Any], Mapping[str, Any]] = lambda part: {}) -> Any:
    """Return a value as dicts, lists, strings, numbers, booleans and None.

    Dataclasses and mappings become dicts, tuples lists, paths strings, and nan None, as JSON has no nan. Keys become
    strings; a member of an enum is represented by its name in lower case. Fields of a dataclass with ``compare=False``
    are not part of its value and are left out.

    Args:
        value: of any of these types, nested.
        name: of the value, for the message.
        extra: receives each dataclass, and returns entries that precede its fields, for example its type.

    Raises:
        InvalidArgumentError: a part has another type; the message names it.
    """
    if is_dataclass(value) and not isinstance(value, type):
        entries = {f.name: getattr(value, f.name) for f in fields(value) if f.compare}
        return {k: to_plain(part, f"{name}.{k}", extra) for k, part in {**extra(value), **entries}.items()}
    if isinstance(value, Mapping):
        return {_key(k): to_plain(part, f"{name}.{_key(k)}", extra) for k, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(part, f"{name}.{i}", extra) for i, part in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InvalidArgumentError(
        f"expected numbers, strings, paths, tuples, dicts and dataclasses, got a {type(value).__qualname__} as {name}; "
        "give its name or its options instead"
    )


def _key(key: object) -> str:
    return key.name.lower() if isinstance(key, Enum) else str(key)
