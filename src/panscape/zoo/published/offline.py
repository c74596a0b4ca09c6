"""Whether downloads are allowed."""

from __future__ import annotations

import os

_OFFLINE = ("PANSCAPE_OFFLINE", "HF_HUB_OFFLINE")
_TRUE = ("1", "ON", "TRUE", "YES")


def forbidding_variable() -> str | None:
    """Return the environment variable that forbids downloads; None if they are allowed."""
    return next((variable for variable in _OFFLINE if os.environ.get(variable, "").upper() in _TRUE), None)
