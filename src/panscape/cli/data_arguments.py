"""``--data.NAME VALUE`` of evaluations: options of the dataset, whose names depend on the recipe.

A command is parsed in two steps, see :mod:`panscape.cli.prefixed_options`. This module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import make_dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from panscape.cli.parser import parse
from panscape.cli.prefixed_options import separate

if TYPE_CHECKING:
    from panscape.training.config import DataOptions

_PREFIX = "--data."

Data = Annotated[tuple[str, ...], arg(name="data.NAME", metavar="VALUE", help_behavior_hint="")]
"""Options of the dataset; ``main`` separates them from the arguments of a command with a field ``dataset``."""


def split(arguments: Sequence[str], prefix: str = _PREFIX) -> tuple[list[str], tuple[str, ...]]:
    """Separate the options of the dataset, or of another part, and their values from the other arguments of a command.

    An option takes the next word, unless it is ``--data.no-NAME``, and the numbers that follow it, as in
    ``--data.size 64 96``.

    Args:
        arguments: the arguments of the command.
        prefix: with which the options begin.

    Returns:
        The other arguments, and the options with their values.
    """

    def takes(option: str, count: int, word: str) -> bool:
        return "=" not in option and ".no-" not in option and (count == 0 or word.lstrip("-").isdecimal())

    return separate(arguments, prefix, takes)


def with_arguments(data: DataOptions, arguments: Sequence[str], program: str) -> DataOptions:
    """Return the options of a dataset with the given values.

    Args:
        data: the options with their other values.
        arguments: options and values, from :func:`split`; ``--data.help`` prints the options.
        program: name of the command, for error messages.

    Raises:
        InvalidArgumentError: there is no such option, or a value has the wrong type or is out of its range.
        SystemExit: with 0, after the help.
    """
    if not arguments:
        return data
    kind = make_dataclass("Options", [("data", type(data))])
    words = ["--help"] if f"{_PREFIX}help" in arguments else arguments
    result: DataOptions = parse(
        kind, words, program=program, description="Options of the dataset.", default=kind(data)
    ).data
    return result
