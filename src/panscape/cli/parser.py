"""Parses the options of every command: help in two lengths, and errors in one line.

A command is a dataclass, and each field is an option. ``--help`` hides fields that are marked as :data:`RARE`;
``--help-all`` shows all. This module imports nothing heavy.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass, make_dataclass
from functools import partial
from io import BytesIO, TextIOWrapper
from typing import Annotated, Any, get_args, get_type_hints

import tyro
from tyro.conf import Positional, Suppress, arg

from panscape.cli.habits import option_hint
from panscape.cli.messages import VERBOSITY_HELP
from panscape.cli.option_metadata import RARE as RARE
from panscape.errors import InvalidArgumentError

HELP_ALL = "--help-all"
_SHORT_HELP = ("-h", "--help")
HELP = (*_SHORT_HELP, HELP_ALL)
"""The options that print the help."""
_UNKNOWN = "Unrecognized options: "
# tyro's sentences and ours; a sentence that is not here stays as it is.
_SENTENCES = (
    (r"invalid choice ('.*') for argument '(.*)'\. Expected one of \((.*)\)", r"expected \2 as one of \3, got \1"),
    (r"missing value for argument '(.*)'\. Expected 1 values", r"expected a value after \1, got none"),
    (r"missing value for argument '(.*)'\. Expected (\d+) values", r"expected \2 values after \1, got fewer"),
    (
        r"error parsing (\S+): Could not find valid parse for arguments: \[(.*)\]",
        r"expected valid values for \1, got \2",
    ),
    (r"error parsing (\S+): invalid literal for int\(\) with base 10: (.*)", r"expected a whole number for \1, got \2"),
    (r"error parsing (\S+): could not convert string to float: (.*)", r"expected a number for \1, got \2"),
    (
        r"error parsing (\S+): no type matching \{None\}\|INT .* from \[(.*?)\]\..*",
        r"expected a whole number for \1, got \2",
    ),
    (r"error parsing (\S+): no type matching (\S+) could .* from \[(.*?)\]\..*", r"expected \2 for \1, got \3"),
)


def parse(
    kind: Any,
    arguments: Sequence[str],
    *,
    program: str,
    description: str | None = None,
    default: Any = None,
    config: tuple[Any, ...] = (),
    is_rare: Callable[[Any, Field[Any]], bool] = lambda kind, field: field.metadata.get("is_rare", False),
) -> Any:
    """Return the options of a command.

    Args:
        kind: dataclass of the options.
        arguments: options and their values.
        program: name of the program and the command.
        description: text at the top of the help; by default the docstring of ``kind``.
        default: instance of ``kind`` with the default values; by default those of its fields.
        config: tyro's markers for all options.
        is_rare: whether ``--help`` hides a field of a dataclass, by default those marked as :data:`RARE`.

    Raises:
        InvalidArgumentError: an option is unknown or missing, or has an invalid value.
        SystemExit: with 0, after the help.
    """
    is_short = not set(_SHORT_HELP).isdisjoint(arguments) and HELP_ALL not in arguments
    arguments = ["--help" if argument == HELP_ALL else argument for argument in arguments]
    if is_short and is_dataclass(kind):
        shown = _without_rare(kind, is_rare)
        description = kind.__doc__ if description is None else description
        if shown is not kind:
            description = f"{description} {HELP_ALL} lists all options."
            default = None if default is None else _as(shown, default)
        kind = shown
    description = f"{kind.__doc__ if description is None else description} {VERBOSITY_HELP}"
    kind = _with_markers(kind)
    settings: dict[str, Any] = {} if default is None else {"default": default}
    run = partial(tyro.cli, kind, prog=program, description=description, args=arguments, config=config, **settings)
    if not set(_SHORT_HELP).isdisjoint(arguments):
        return _without_color(run) if os.environ.get("NO_COLOR") else run()
    printed = TextIOWrapper(BytesIO(), encoding="utf-8")  # tyro frames errors according to the encoding of stdout
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            return run()
    except SystemExit:
        printed.seek(0)
        raise InvalidArgumentError(_in_one_line(printed.read(), program)) from None


def _without_color(run: Callable[[], Any]) -> Any:
    """Print the help without color, which tyro omits only where the output is no terminal."""
    printed = TextIOWrapper(BytesIO(), encoding=sys.stdout.encoding or "utf-8")
    try:
        with redirect_stdout(printed):
            return run()
    finally:
        printed.seek(0)
        sys.stdout.write(printed.read())


def _without_rare(kind: Any, is_rare: Callable[[Any, Field[Any]], bool]) -> Any:
    """Return a dataclass for the help whose rare fields are hidden, also those of its parts."""
    hints = get_type_hints(kind, include_extras=True)
    changed: list[tuple[str, Any, Any]] = []
    for option in fields(kind):
        hint, option = hints[option.name], copy(option)  # a class changes the fields that it is made of
        part, *notes = get_args(hint) if hasattr(hint, "__metadata__") else [hint]
        if is_rare(kind, option):
            changed.append((option.name, Annotated[(hint, Suppress)], option))
        elif is_dataclass(part) and (shown := _without_rare(part, is_rare)) is not part:
            if option.default_factory is not MISSING:
                option.default_factory = partial(_as, shown, option.default_factory())
            changed.append((option.name, Annotated[(shown, *notes)] if notes else shown, option))
    return make_dataclass(kind.__name__, changed, bases=(kind,), frozen=True) if changed else kind


def _with_markers(kind: Any) -> Any:
    """Return a dataclass with tyro's markers for the fields that have metadata of :func:`shown`."""
    has_any = is_dataclass(kind) and any("metavar" in option.metadata for option in fields(kind))
    if not has_any:
        return kind
    hints, changed = get_type_hints(kind, include_extras=True), list[tuple[str, Any, Any]]()
    for option in fields(kind):
        if "metavar" in option.metadata:
            hint: Any = hints[option.name]
            hint = Positional[hint] if option.metadata["is_positional"] else hint  # type: ignore[misc]
            behavior = None if option.metadata["has_default"] else ""
            marker = arg(name=option.metadata["name"], metavar=option.metadata["metavar"], help_behavior_hint=behavior)
            hint = Annotated[hint, marker]
            changed.append((option.name, hint, copy(option)))
    return make_dataclass(kind.__name__, changed, bases=(kind,), frozen=True)


def _as(kind: Any, value: Any) -> Any:
    """Return a value as an instance of a class of :func:`_without_rare`, and its parts likewise."""
    if (
        not isinstance(kind, type)
        or not is_dataclass(kind)
        or isinstance(value, kind)
        or not issubclass(kind, type(value))
    ):
        return value
    hints = get_type_hints(kind)
    return kind(**{option.name: _as(hints[option.name], getattr(value, option.name)) for option in fields(kind)})


def _in_one_line(box: str, program: str) -> str:
    """Return what tyro prints about an error, without its frame, the help of the options and the list of commands."""
    lines = [line[1:-1] for line in box.splitlines() if line.startswith("│")]
    text = " ".join(" ".join(line for line in lines if not line.startswith(" " * 9)).split())  # help is indented by 8
    text = re.sub("For full helptext.*|Argument helptext:.*|─+", "", text)
    text, _, suggestions = text.partition("Perhaps you meant:")
    problem, _, commands = text.partition("Available subcommands: ")
    problem, _, unknown = (problem.strip().removesuffix(".") or " ".join(box.split())).partition(_UNKNOWN)
    problem = problem[:1].lower() + problem[1:]
    if unknown:  # maybe beside a missing option, whose name it misspells
        words = re.split(",? ", unknown.strip())
        options = [word for word in words if word.startswith("-")]  # without their values
        problem = f"unknown option {' '.join(options)}" if options else f"unexpected argument {' '.join(words)}"
        hint = next(filter(None, (option_hint(word, program) for word in options)), None)
        if hint is not None:
            return f"{problem}; use {hint}"
        if not options and any("=" in word for word in words):
            return f'{problem}; options begin with "--" here: --NAME VALUE'
    for pattern, sentence in _SENTENCES:
        problem = re.sub(f"^{pattern}$", sentence, problem)
    names = list(dict.fromkeys(re.findall(r"--[\w.-]+", suggestions)))[:3]
    if commands and not (unknown and names):
        return f"{problem}; expected one of {commands.strip()}"
    return f"{problem}; " + (f"did you mean {' or '.join(names)}?" if names else f"see {program} --help")
