"""The folder in which fetched models are kept, with what is known of their origin and the accepted licences."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from panscape.atomic_io import is_leftover, write_json
from panscape.errors import UnwritableFileError
from panscape.user_cache import CACHE_VARIABLE, user_cache
from panscape.zoo.published.catalogue import CatalogueEntry, catalogue

REMEDY = f"set {CACHE_VARIABLE} to a folder that can be written"
"""What to do if the cache cannot be written."""


class WeightsCache:
    """The models that were fetched by name.

    ``NAME.safetensors`` is the model, or ``NAME.weights`` and the like for a part of one; ``NAME.source.json`` states
    where it came from, and stays when the model is removed, so that another file under the same address is noticed;
    ``NAME.licence.json`` records that the user has accepted its licence.

    Attributes:
        folder: the folder; it is created when something is written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = user_cache() / "weights" if folder is None else folder

    def path(self, entry: CatalogueEntry) -> Path:
        """Return the path of a model, whether it is there or not."""
        return self.folder / f"{entry.name}{entry.file_suffix if entry.is_part else '.safetensors'}"

    def find(self, entry: CatalogueEntry) -> Path | None:
        """Return the path of a model that is there; None if it is not, or is kept elsewhere."""
        if entry.access in ("bundled", "hub"):
            return None
        path = self.path(entry)
        return path if path.is_file() else None

    def models(self) -> dict[str, float]:
        """Return name and size in megabytes of each model that is there."""
        found = ((entry.name, self.find(entry)) for entry in catalogue().values())
        return {name: path.stat().st_size / 1e6 for name, path in found if path is not None}

    def source(self, entry: CatalogueEntry) -> dict[str, Any]:
        """Return what is recorded of the file that was fetched; empty if none was."""
        return _read(self._record(entry, "source"))

    def record_source(self, entry: CatalogueEntry, facts: dict[str, Any]) -> None:
        """Record facts about the file that was fetched."""
        write_json(self._record(entry, "source"), facts)

    def has_accepted(self, entry: CatalogueEntry) -> bool:
        """Return whether the licence of a model needs no acceptance, or has been accepted."""
        publisher = entry.publisher
        if not publisher.is_non_commercial:
            return True
        return bool(_read(self._record(entry, "licence")).get("licence") == publisher.licence)

    def accept(self, entry: CatalogueEntry) -> None:
        """Record that the user accepts the licence of a model.

        Raises:
            UnwritableFileError: the folder cannot be written.
        """
        self.create()
        write_json(
            self._record(entry, "licence"),
            {"licence": entry.publisher.licence, "accepted": date.today().isoformat()},
        )

    def create(self) -> None:
        """Create the folder.

        Raises:
            UnwritableFileError: it cannot be created.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableFileError(self.folder, f"{error.strerror or error}; {REMEDY}", error) from error

    def remove(self, entry: CatalogueEntry) -> float:
        """Remove a model and what an interrupted download of it has left; return the megabytes freed.

        Models of the hub are not in this cache.

        Raises:
            UnwritableFileError: a file cannot be removed.
        """
        if entry.access == "hub":
            return 0.0
        return _removed([self.path(entry), *self.folder.glob(f"{entry.name}.fetched*")]) + self.remove_leftovers(entry)

    def remove_leftovers(self, entry: CatalogueEntry) -> float:
        """Remove what a killed process has left of writing a model, which no other process writes; return megabytes.

        Raises:
            UnwritableFileError: a file cannot be removed.
        """
        return _removed([path for path in self.folder.glob(f".{entry.name}.*") if is_leftover(path)])

    def _record(self, entry: CatalogueEntry, kind: str) -> Path:
        return self.folder / f"{entry.name.replace(':', '-').replace('/', '-')}.{kind}.json"


def _removed(paths: Iterable[Path]) -> float:
    freed = 0
    for path in paths:
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UnwritableFileError(path, f"{error.strerror or error}; change its permissions", error) from error
        freed += size
    return freed / 1e6


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
    return {}
