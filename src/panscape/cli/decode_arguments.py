"""``--decode.NAME VALUE`` on the command line: post-processing options, whose names depend on the model.

A command is parsed in two steps, see :mod:`panscape.cli.prefixed_options`: these options are parsed after the model is
loaded, against its own. This module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagConversionOff, arg

from panscape.cli.parser import parse
from panscape.cli.prefixed_options import separate
from panscape.errors import UnknownNameError

if TYPE_CHECKING:
    from panscape.models.base import PanopticModel
    from panscape.representations.decoding_options import DecodingOption

PREFIX = "--decode."
HELP = f"{PREFIX}help"


def split(arguments: Sequence[str], *, several: bool = False) -> tuple[list[str], tuple[str, ...]]:
    """Separate the post-processing options and their values from the other arguments of a command.

    Args:
        arguments: the arguments of the command.
        several: an option takes all values up to the next option instead of one.

    Returns:
        The other arguments, and the post-processing options with their values.
    """
    return separate(arguments, PREFIX, lambda option, count, word: several or (count == 0 and "=" not in option))


def apply_arguments(model: PanopticModel, arguments: Sequence[str], program: str) -> None:
    """Set the post-processing options of a model to the given values.

    Args:
        model: the model to change.
        arguments: post-processing options and values, from :func:`split`.
        program: name of the command, for error messages.

    Raises:
        UnknownNameError: the model has no such option; the message suggests the nearest and lists all.
        InvalidArgumentError: a value has the wrong type or is out of its range.
    """
    given = _values(model, arguments, program, several=False)
    model.set_decoding(**given)


def parse_grid(model: PanopticModel, arguments: Sequence[str], program: str) -> dict[str, tuple[Any, ...]]:
    """Return one or more values for each given option, in the order of the arguments.

    Args:
        model: the model that has the options.
        arguments: post-processing options and values, from :func:`split`.
        program: name of the command, for error messages.

    Raises:
        UnknownNameError: the model has no such option; the message suggests the nearest and lists all.
        InvalidArgumentError: a value has the wrong type.
    """
    return _values(model, arguments, program, several=True)


def overview(model: PanopticModel, name: str, grid: Mapping[str, Sequence[Any]] | None = None) -> str:
    """Return a model's post-processing options as text: name, value and help.

    Args:
        model: the model.
        name: name of the model, for the title.
        grid: values that tuning tries by default, for some options; listed with the option.
    """
    from panscape.representations.decoding_options import decoding_options

    options = decoding_options(model.decoding)
    if not options:
        return f"{name} has no post-processing options."
    blocks = [f"Post-processing options of {name} ({type(model.decoding).__name__}):"]
    for option in options.values():
        lines = [f"{_option_string(option.name)} {option.value}", f"    {option.help}"]
        if grid is not None and option.name in grid:
            lines.append(f"    tried by default: {' '.join(map(str, grid[option.name]))}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _values(model: PanopticModel, arguments: Sequence[str], program: str, *, several: bool) -> dict[str, Any]:
    from panscape.representations.decoding_options import decoding_options

    options = decoding_options(model.decoding)
    given: dict[str, list[str]] = {}
    name = ""
    for argument in arguments:
        if not argument.startswith(PREFIX):
            given[name].append(argument)
            continue
        typed, is_joined, value = argument.removeprefix(PREFIX).partition("=")
        name = typed.replace("-", "_")
        if name not in options:
            known = [option.replace("_", "-") for option in options]
            raise UnknownNameError("decoding option", typed, known, list_all=True)
        given[name] = [value] if is_joined else []
    if not given:
        return {}
    found = parse(
        _parser([options[name] for name in given], several=several),
        [word for name, words in given.items() for word in (_option_string(name), *words)],
        program=program,
        config=(FlagConversionOff,),
    )
    return {name: getattr(found.decode, name) for name in given}


def _parser(options: Sequence[DecodingOption], *, several: bool) -> Any:
    """Return a dataclass with a field for each option, from which tyro builds a parser."""
    decode = make_dataclass(
        "Decode",
        [
            (option.name, Annotated[tuple[option.type, ...] if several else option.type, arg(help=option.help)])  # type: ignore[name-defined]
            for option in options
        ],
    )
    return make_dataclass("Options", [("decode", decode)])


def _option_string(name: str) -> str:
    """Return the command-line form of an option."""
    return PREFIX + name.replace("_", "-")


Decode = Annotated[tuple[str, ...], arg(name="decode.NAME", metavar="VALUE", help_behavior_hint="")]
"""Post-processing options; ``main`` separates them from the arguments of a command with a field ``decode``."""
