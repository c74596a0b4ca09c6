"""Add the files of ``files.txt`` to the wheel, from the sources of panscape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ListedFiles(BuildHookInterface):  # type: ignore[misc]  # hatchling is there only while building
    """See the top of this module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; called before the wheel is written."""
        root = Path(self.root)
        names = (root / "files.txt").read_text(encoding="utf-8").split()
        build_data["force_include"].update({str(root.parents[1] / "src" / name): name for name in names})
