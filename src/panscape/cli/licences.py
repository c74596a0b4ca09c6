"""The option with which a licence is accepted, which every command takes; this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from panscape.errors import InvalidArgumentError

_OPTION, _AMERICAN = "--accept-licence", "--accept-license"
ACCEPT_HELP = f"{_OPTION} NAME accepts, once, the licence of a published model for non-commercial use."


def split_accepted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate ``--accept-licence NAME``, which all commands accept anywhere, from the other arguments.

    Returns:
        The other arguments, and the names.

    Raises:
        InvalidArgumentError: no name follows.
    """
    others, names = list[str](), list[str]()
    for argument in arguments:
        option, equals, value = argument.partition("=")
        is_this = option in (_OPTION, _AMERICAN)
        others += [_OPTION, *([value] if equals else [])] if is_this else [argument]
    while _OPTION in others:
        position = others.index(_OPTION)
        name = "".join(others[position + 1 : position + 2])
        if not name or name.startswith("-"):
            raise InvalidArgumentError(f"expected the name of a model after {_OPTION}, got {name or 'none'}")
        names.append(name)
        del others[position : position + 2]
    return others, names
