"""The folder of the user for files that can be made or fetched again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from panscape.errors import UnwritableFileError

CACHE_VARIABLE = "PANSCAPE_CACHE"
"""Environment variable with another folder."""


def user_cache() -> Path:
    """Return the folder: that of ``PANSCAPE_CACHE``, or ``panscape`` where the system keeps such files.

    Raises:
        UnwritableFileError: the system knows no home folder of the user.
    """
    try:
        return _user_cache()
    except RuntimeError as error:
        raise UnwritableFileError(
            "the user's cache", f"the system knows no home folder; set {CACHE_VARIABLE} to a folder"
        ) from error


def _user_cache() -> Path:
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "panscape"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "panscape"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "panscape"
