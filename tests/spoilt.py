"""Spoil files at random, as broken disks, other tools and attackers do."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        -1,
        0,
        1,
        2**31,
        2**63,
        2**64,
        -(2**70),
        10**400,
        1.5,
        float("nan"),
        float("inf"),
        -0.0,
        1e308,
    ),
    *("", "x", "1", "\x00", "\ud800", "../1.png", "/", "a" * 5000, [], [[]], {}, {"id": 1}, [1, 2], [{}], [None]),
]


def flip(chance: random.Random, data: bytes) -> bytes:
    spoilt = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8, 50])):
        if spoilt:
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    return bytes(spoilt)


def cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def double(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + data[start // 2 :]


def places(content: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in a JSON."""
    items = list(content.items() if isinstance(content, dict) else enumerate(content)) if content else []
    found = [(content, key) for key, _ in items]
    for _, value in items:
        if isinstance(value, dict | list):
            found += places(value)
    return found


def spoil_json(chance: random.Random, content: Any) -> str:
    """Swap types, delete keys, put in huge numbers, repeat and exchange parts."""
    content = copy.deepcopy(content)
    for _ in range(chance.choice([1, 1, 2, 4])):
        spots = places(content)
        if not spots:
            return json.dumps(content)
        container, key = chance.choice(spots)
        action = chance.randrange(4)
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, list):
            container.append(container[key])
        elif action == 2:
            other, position = chance.choice(spots)
            container[key] = copy.deepcopy(other[position])
        else:
            container[key] = copy.deepcopy(chance.choice(VALUES))
    return json.dumps(content)
