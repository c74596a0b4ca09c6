"""Where saved models are, and what the maps of a model state about it; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panscape.zoo.published.catalogue import find_entry

BUNDLED = Path(__file__).parents[1] / "weights"
"""Folder of the bundled models."""
# Facts of a model card that its maps state, and their names there.
_FACTS = {"data": "data", "licence": "licence", "source": "source", "sha256 of that file": "source_sha256"}


def saved_file(name: str) -> Path | None:
    """Return the file of a bundled model by its name, or a path of a ``.safetensors`` file; None for anything else."""
    path = Path(name)
    if path.suffix == ".safetensors":
        return path
    bundled = BUNDLED / f"{name.replace('-', '_')}.safetensors"
    return bundled if path.name == name and bundled.is_file() else None


def provenance_of(name: str, network: str | None, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the maps of a model state: the weights, and facts of its card.

    Args:
        name: name or path by which the model was loaded.
        network: name of its network; None if it has none.
        card: its card.
    """
    entry = find_entry(name)
    facts = {"weights": name if entry is None else entry.name} | ({} if network is None else {"network": network})
    return facts | {new: card[fact] for fact, new in _FACTS.items() if fact in card}
