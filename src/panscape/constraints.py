"""Ranges of the fields of dataclasses, written once as part of their types and checked by one function.

::

    @dataclass(frozen=True)
    class Options:
        compat: Literal["released", "paper"] = "released"
        threshold: UnitInterval = 0.5
        top_k: PositiveInt = 100

        def __post_init__(self) -> None:
            check_fields(self)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from panscape.errors import InvalidArgumentError, shown


class Constraint(NamedTuple):
    """A condition on the values of a type, as metadata of ``Annotated``.

    Attributes:
        text: follows the name of the field in messages, for example "in 0..1".
        holds: whether a value satisfies it; also receives nan.
    """

    text: str
    holds: Callable[[Any], bool]


UnitInterval = Annotated[float, Constraint("in 0..1", lambda value: 0 <= value <= 1)]
Angle = Annotated[float, Constraint("in (0, 180]", lambda value: 0 < value <= 180)]
Hue = Annotated[float, Constraint("in 0..0.5", lambda value: 0 <= value <= 0.5)]
BelowOne = Annotated[float, Constraint("in [0, 1)", lambda value: 0 <= value < 1)]
PositiveFraction = Annotated[float, Constraint("in (0, 1]", lambda value: 0 < value <= 1)]
Positive = Annotated[float, Constraint("above 0", lambda value: 0 < value < math.inf)]
NonNegative = Annotated[float, Constraint("of 0 or more", lambda value: 0 <= value < math.inf)]
PositiveInt = Annotated[int, Constraint("of 1 or more", lambda value: value >= 1)]
NonNegativeInt = Annotated[int, Constraint("of 0 or more", lambda value: value >= 0)]
OddInt = Annotated[int, Constraint("as an odd number of 1 or more", lambda value: value >= 1 and value % 2 == 1)]

# How values of the plain types are recognised, and what the types are called.
_PLAIN: Mapping[Any, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "an integer"),
    float: (Real, "a number"),
    str: (str, "text"),
}


def check_fields(options: object) -> None:
    """Check the fields of a dataclass against their types, for ``__post_init__``.

    Checked are numbers, text, booleans and dataclasses, the constraints of ``Annotated``, the choices of ``Literal``
    and the lengths of tuples, also inside tuples and optional types. Integers are valid as floats, and so are numbers
    of NumPy. None is valid where the type includes it. Other types are not checked.

    Raises:
        InvalidArgumentError: a value is invalid; the message has the field, what was expected, and the value.
    """
    for name, hint in _hints(type(options)).items():  # type: ignore[arg-type]  # mypy: classes are hashable
        _check(hint, getattr(options, name), name)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(kind, include_extras=True).items() if _is_checked(hint)}


def _is_checked(hint: Any) -> bool:
    """Return whether a type has anything to check; class variables have not."""
    origin = get_origin(hint)
    if origin in (tuple, Union, UnionType):
        return any(map(_is_checked, get_args(hint)))
    return origin in (Annotated, Literal) or hint in _PLAIN or is_dataclass(hint)


def _check(hint: Any, value: Any, name: str) -> None:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        _check(parts[0], value, name)
        for constraint in parts[1:]:
            if isinstance(constraint, Constraint) and not constraint.holds(value):
                raise InvalidArgumentError(f"expected {name} {constraint.text}, got {value!r}")
    elif hint in _PLAIN:
        kind, text = _PLAIN[hint]
        if not isinstance(value, kind) or (isinstance(value, bool) and hint is not bool):
            raise InvalidArgumentError(f"expected {name} as {text}, got {shown(value)}")
    elif is_dataclass(hint):
        if not isinstance(value, hint):  # type: ignore[arg-type]  # mypy: it could be an instance
            raise InvalidArgumentError(f"expected {name} as {hint.__name__}, got {shown(value)}")  # type: ignore[union-attr]
    elif origin is Literal:
        if value not in parts:
            *first, last = (f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in parts)
            choices = f"{', '.join(first)} or {last}" if first else last
            raise InvalidArgumentError(f"expected {name} {choices}, got {value!r}")
    elif origin in (Union, UnionType):
        others = [part for part in parts if part is not NoneType]
        if value is not None and len(others) == 1:
            _check(others[0], value, name)
    elif origin is tuple:
        if not isinstance(value, tuple | list):
            raise InvalidArgumentError(f"expected {name} as a tuple, got {shown(value)}")
        if parts[-1] is Ellipsis:
            parts = parts[:1] * len(value)
        if len(parts) != len(value):
            raise InvalidArgumentError(f"expected {name} as {len(parts)} values, got {value!r}")
        for i, (part, element) in enumerate(zip(parts, value, strict=True)):
            _check(part, element, f"{name}[{i}]")
