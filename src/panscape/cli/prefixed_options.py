"""Separates the options of one part, which begin with a prefix, from the other arguments of a command.

A command with options whose names depend on other arguments is parsed in two steps: these options are set aside, and
parsed when their names are known. This module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def separate(
    arguments: Sequence[str], prefix: str, takes: Callable[[str, int, str], bool]
) -> tuple[list[str], tuple[str, ...]]:
    """Separate the options of a part and their values from the other arguments.

    Args:
        arguments: the arguments of the command.
        prefix: with which the options begin, such as ``--data.``; ``help`` after it has no value.
        takes: whether an option, with this number of values so far, takes this word, which is no option, as a value.

    Returns:
        The other arguments, and the options with their values.
    """
    others: list[str] = []
    taken: list[str] = []
    option, count = "", 0  # the last option while it may take words, and the number of those it has
    for argument in arguments:
        if argument.startswith(prefix):
            taken.append(argument)
            option, count = argument if argument != f"{prefix}help" else "", 0
        elif option and not is_option(argument) and takes(option, count, argument):
            taken.append(argument)
            count += 1
        else:
            others.append(argument)
            option = ""
    return others, tuple(taken)


def is_option(argument: str) -> bool:
    """Return whether an argument is an option rather than a value such as -1 or .5."""
    if not argument.startswith("-"):
        return False
    try:
        float(argument)
    except ValueError:
        return True
    return False
