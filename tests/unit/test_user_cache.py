"""The folder of the user for files that can be fetched again, by system and environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from panscape.errors import UnwritableFileError
from panscape.user_cache import user_cache

VARIABLES = ("PANSCAPE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA")


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("linux", {}, "home/.cache/panscape"),
        ("linux", {"XDG_CACHE_HOME": "xdg", "LOCALAPPDATA": "local"}, "xdg/panscape"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/panscape"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/panscape"),
        ("win32", {}, "home/AppData/Local/panscape"),
        ("darwin", {"PANSCAPE_CACHE": "own"}, "own"),
    ],
)
def test_the_folder(system: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    assert user_cache() == Path(expected)


def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(UnwritableFileError, match="the system knows no home folder; set PANSCAPE_CACHE to a folder"):
        user_cache()
