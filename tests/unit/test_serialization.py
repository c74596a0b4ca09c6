"""Dataclasses as JSON values."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.serialization import to_plain

SIZE = Size(2, 3)


class Kind(IntEnum):
    FIRST_KIND = 0


@dataclass(frozen=True, slots=True)
class Inner:
    score: float
    size: Size


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    parts: tuple[Inner, ...]
    by_key: dict[Any, Any]
    path: Path | None = None
    cache: object = field(default=None, compare=False)


def test_every_type_becomes_a_json_value() -> None:
    value = Outer(
        "a", (Inner(0.1 + 0.2, SIZE), Inner(math.nan, SIZE)), {Kind.FIRST_KIND: True, 3: [1]}, Path("x/y"), object()
    )
    plain = to_plain(value)
    assert plain == {
        "name": "a",
        "parts": [{"score": 0.1 + 0.2, "size": [2, 3]}, {"score": None, "size": [2, 3]}],
        "by_key": {"first_kind": True, "3": [1]},
        "path": "x/y",
    }
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_extra_entries_precede_the_fields_of_each_dataclass() -> None:
    plain = to_plain(Outer("a", (Inner(1.0, SIZE),), {}), extra=lambda part: {"type": type(part).__name__})
    assert list(plain) == ["type", "name", "parts", "by_key", "path"]
    assert plain["parts"] == [{"type": "Inner", "score": 1.0, "size": [2, 3]}]


def test_another_type_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidArgumentError, match=r"got a object as recipe\.by_key\.x\.1"):
        to_plain(Outer("a", (), {"x": [0, object()]}), "recipe")
