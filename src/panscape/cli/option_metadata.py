"""Metadata of the options of commands, which are fields of dataclasses; :mod:`panscape.cli.parser` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RARE: Mapping[str, Any] = {"is_rare": True}
"""Metadata of a field whose option only ``--help-all`` shows."""


def shown(
    metavar: str, *, has_default: bool = True, is_positional: bool = False, name: str | None = None
) -> Mapping[str, Any]:
    """Return metadata of a field.

    Args:
        metavar: name of its value in the help.
        has_default: whether the help states the default.
        is_positional: whether it is an argument without a name.
        name: of the option in the help; by default that of the field.
    """
    return {"metavar": metavar, "has_default": has_default, "is_positional": is_positional, "name": name}
