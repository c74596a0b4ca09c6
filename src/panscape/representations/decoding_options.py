"""Post-processing options of any system by name: a flat view of a frozen decoding dataclass.

A system's decoding is a frozen dataclass such as ``CenterDecoding`` or ``DenseBoxDecoding``, whose fields may be such
dataclasses themselves (``FusionConfig``). Here each option has a flat name, without the path to it, so that the command
line, saved models and hyperparameter search treat all systems alike.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from numbers import Real
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from panscape.errors import InvalidArgumentError, UnknownNameError

__all__ = ["DecodingOption", "decoding_options", "replace_options"]

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class DecodingOption:
    """One option of a decoding.

    Attributes:
        name: name of the field, the same in all systems that have it.
        type: ``int``, ``float``, ``bool``, ``str`` or a ``Literal`` of strings.
        value: current value.
        help: description from the docstring of the dataclass.
    """

    name: str
    type: Any
    value: Any
    help: str


def decoding_options(decoding: Any) -> dict[str, DecodingOption]:
    """Return the options of a decoding by name, including those of nested dataclasses.

    Args:
        decoding: a frozen dataclass, or None for a system without options.
    """
    return {} if decoding is None else {option.name: option for option in _options(decoding)}


def replace_options(decoding: D, changes: Mapping[str, Any]) -> D:
    """Return a copy of a decoding with some options changed.

    Args:
        decoding: a frozen dataclass, or None for a system without options.
        changes: new values by name, see :func:`decoding_options`.

    Raises:
        UnknownNameError: there is no such option; the closest names are suggested and all are listed.
        InvalidArgumentError: a value has the wrong type or is out of range.
    """
    known = decoding_options(decoding)
    checked = {}
    for name, value in changes.items():
        if name not in known:
            raise UnknownNameError("decoding option", name, known, list_all=True)
        checked[name] = _checked(known[name], value)
    replaced: D = _replaced(decoding, checked)
    return replaced


def _options(decoding: Any) -> Iterator[DecodingOption]:
    types, texts = get_type_hints(type(decoding)), _attribute_texts(type(decoding))
    for field in fields(decoding):
        value = getattr(decoding, field.name)
        if is_dataclass(value):
            yield from _options(value)
        else:
            yield DecodingOption(field.name, types[field.name], value, texts.get(field.name, ""))


def _replaced(decoding: Any, changes: Mapping[str, Any]) -> Any:
    if not changes:
        return decoding
    changed = {}
    for field in fields(decoding):
        value = getattr(decoding, field.name)
        if is_dataclass(value):
            changed[field.name] = _replaced(value, {n: v for n, v in changes.items() if n in decoding_options(value)})
        elif field.name in changes:
            changed[field.name] = changes[field.name]
    return replace(decoding, **changed)


def _checked(option: DecodingOption, value: Any) -> Any:
    """Return the value converted to the option's type; integers are accepted for floats."""
    if get_origin(option.type) is Literal:
        expected, fits = " or ".join(f'"{choice}"' for choice in get_args(option.type)), value in get_args(option.type)
    elif option.type is float:
        expected, fits = "a number", isinstance(value, Real) and not isinstance(value, bool)  # also those of NumPy
        value = float(value) if fits else value
    else:
        names = {int: "an integer", bool: "True or False"}
        expected, fits = names.get(option.type, option.type.__name__), type(value) is option.type
    if not fits:
        raise InvalidArgumentError(f"expected {option.name} as {expected}, got {value!r}")
    return value


def _attribute_texts(kind: type) -> dict[str, str]:
    """Return the descriptions in the section "Attributes" of a docstring, by attribute."""
    section = re.search(r"^Attributes:\n(.*?)(?:\n\S|\Z)", inspect.getdoc(kind) or "", re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
