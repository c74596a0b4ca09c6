"""Ranges and choices of the fields of dataclasses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from panscape.constraints import (
    BelowOne,
    Hue,
    NonNegative,
    NonNegativeInt,
    OddInt,
    Positive,
    PositiveFraction,
    PositiveInt,
    UnitInterval,
    check_fields,
)
from panscape.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Part:
    kernel: OddInt = 7


@dataclass(frozen=True, slots=True)
class Options:
    unit: UnitInterval = 0.5
    below: BelowOne = 0.0
    fraction: PositiveFraction = 1.0
    hue: Hue = 0.5
    positive: Positive = 1e-9
    non_negative: NonNegative = 0.0
    count: PositiveInt = 1
    index: NonNegativeInt = 0
    kernel: OddInt = 7
    kind: Literal["a", "b", "c"] = "a"
    size: tuple[PositiveInt, PositiveInt] = (1, 2)
    weights: tuple[Positive, ...] = ()
    width: PositiveInt | None = None
    plain: float = math.nan
    is_on: bool = False
    name: str = ""
    part: Part | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class More(Options):
    extra: UnitInterval = 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"unit": 1.5}, "unit in 0..1, got 1.5"),
        ({"unit": math.nan}, "unit in 0..1, got nan"),
        ({"below": 1.0}, "below in [0, 1), got 1.0"),
        ({"fraction": 0.0}, "fraction in (0, 1], got 0.0"),
        ({"hue": 0.6}, "hue in 0..0.5, got 0.6"),
        ({"positive": 0.0}, "positive above 0, got 0.0"),
        ({"positive": math.inf}, "positive above 0, got inf"),
        ({"non_negative": -1.0}, "non_negative of 0 or more, got -1.0"),
        ({"count": 0}, "count of 1 or more, got 0"),
        ({"count": 2.5}, "count as an integer, got 2.5"),
        ({"count": True}, "count as an integer, got True"),
        ({"unit": "0.5"}, "unit as a number, got '0.5'"),
        ({"is_on": 1}, "is_on as True or False, got 1"),
        ({"name": None}, "name as text, got None"),
        ({"size": 3}, "size as a tuple, got 3"),
        ({"part": {"kernel": 3}}, "part as Part, got {'kernel': 3}"),
        ({"index": -1}, "index of 0 or more, got -1"),
        ({"kernel": 4}, "kernel as an odd number of 1 or more, got 4"),
        ({"kind": "d"}, 'kind "a", "b" or "c", got \'d\''),
        ({"size": (1, 0)}, "size[1] of 1 or more, got 0"),
        ({"size": (1, 2, 3)}, "size as 2 values, got (1, 2, 3)"),
        ({"weights": (1.0, -2.0)}, "weights[1] above 0, got -2.0"),
        ({"width": 0}, "width of 1 or more, got 0"),
        ({"extra": 2.0}, "extra in 0..1, got 2.0"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        More(**values)
    assert str(refused.value) == f"expected {message}"


def test_values_at_the_ends_and_none_are_valid() -> None:
    More()
    More(unit=0, below=0, fraction=1, hue=0, kernel=1, weights=(1.0, 2.0), width=3, extra=1)
