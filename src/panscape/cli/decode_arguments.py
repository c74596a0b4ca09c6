"""``--decode.NAME VALUE`` on the command line: options of post-processing, whose names depend on the model.

A command is parsed in two steps, like ``panscape train``: first all but these options, which :func:`split` takes out;
then, when the model is loaded, these, by the options that it has. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import arg

from panscape.errors import UnknownNameError

if TYPE_CHECKING:
    from panscape.models.base import PanopticModel
    from panscape.representations.decoding_options import DecodingOption

PREFIX = "--decode."
HELP = f"{PREFIX}help"


def split(arguments: Sequence[str], *, several: bool = False) -> tuple[list[str], tuple[str, ...]]:
    """Take the options of post-processing and their values out of the arguments of a command.

    Args:
        arguments: of the command.
        several: an option takes all values up to the next option, not one.

    Returns:
        The other arguments, and those taken out.
    """
    others: list[str] = []
    taken: list[str] = []
    is_expected = False  # a value of the option before
    for argument in arguments:
        if argument.startswith(PREFIX):
            taken.append(argument)
            is_expected = argument != HELP and (several or "=" not in argument)
        elif is_expected and not _is_option(argument):
            taken.append(argument)
            is_expected = several
        else:
            others.append(argument)
            is_expected = False
    return others, tuple(taken)


def apply_arguments(model: PanopticModel, arguments: Sequence[str], program: str) -> None:
    """Change the options of a model's post-processing to those given.

    Args:
        model: whose options.
        arguments: what :func:`split` took out.
        program: the command, for complaints.

    Raises:
        UnknownNameError: the model has no such option; the nearest are suggested and all are listed.
        InvalidArgumentError: a value is out of its range.
        SystemExit: with 2 after a complaint about the type of a value.
    """
    given = _values(model, arguments, program, several=False)
    model.set_decoding(**given)


def parse_grid(model: PanopticModel, arguments: Sequence[str], program: str) -> dict[str, tuple[Any, ...]]:
    """Return the values given for each option, one or more, in the order of the options given.

    Args:
        model: says which options there are.
        arguments: what :func:`split` took out.
        program: the command, for complaints.

    Raises:
        UnknownNameError: the model has no such option; the nearest are suggested and all are listed.
        SystemExit: with 2 after a complaint about the type of a value.
    """
    return _values(model, arguments, program, several=True)


def overview(model: PanopticModel, name: str, grid: Mapping[str, Sequence[Any]] | None = None) -> str:
    """Return the options of a model's post-processing as text: name, value, and what they do.

    Args:
        model: whose options.
        name: of the model.
        grid: values that are tried for some options, to be listed as well.
    """
    from panscape.representations.decoding_options import decoding_options

    options = decoding_options(model.decoding)
    if not options:
        return f"{name} has no options of post-processing."
    blocks = [f"Options of post-processing of {name} ({type(model.decoding).__name__}):"]
    for option in options.values():
        lines = [f"{_spelt(option.name)} {option.value}", f"    {option.help}"]
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
        spelt, is_joined, value = argument.removeprefix(PREFIX).partition("=")
        name = spelt.replace("-", "_")
        if name not in options:
            known = [option.replace("_", "-") for option in options]
            raise UnknownNameError("decoding option", spelt, known, list_all=True)
        given[name] = [value] if is_joined else []
    if not given:
        return {}
    found = tyro.cli(
        _parser([options[name] for name in given], several=several),
        prog=program,
        args=[word for name, words in given.items() for word in (_spelt(name), *words)],
        config=(tyro.conf.FlagConversionOff,),
    )
    return {name: getattr(found.decode, name) for name in given}


def _parser(options: Sequence[DecodingOption], *, several: bool) -> Any:
    """Return a dataclass with a field for each option, of which tyro makes a parser."""
    decode = make_dataclass(
        "Decode",
        [
            (option.name, Annotated[tuple[option.type, ...] if several else option.type, arg(help=option.help)])  # type: ignore[name-defined]
            for option in options
        ],
    )
    return make_dataclass("Options", [("decode", decode)])


def _spelt(name: str) -> str:
    """Return an option as it stands on the command line."""
    return PREFIX + name.replace("_", "-")


def _is_option(argument: str) -> bool:
    """Return whether an argument is an option, not a value such as -1 or .5."""
    if not argument.startswith("-"):
        return False
    try:
        float(argument)
    except ValueError:
        return True
    return False


Decode = Annotated[tuple[str, ...], arg(name="decode.NAME", metavar="VALUE", help_behavior_hint="")]
"""Options of the model's post-processing, which ``main`` takes out of a command that has a field ``decode``."""
