"""`panscape models`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from panscape.cli.printing import print_json, say, wrapped


@dataclass(frozen=True)
class Models:
    """List the bundled models with their model cards."""

    json: bool = False
    """Print one JSON object per model."""

    def run(self) -> int:
        """List the bundled models."""
        import panscape

        for weights in panscape.list_weights():
            if self.json:
                print_json({"model": weights.name, "path": weights.path, "card": weights.card})
                continue
            say(f"{weights.name}  ({weights.path.stat().st_size / 1e6:.1f} MB)")
            print_card(weights.card)
        return 0


def print_card(card: Mapping[str, Any]) -> None:
    """Print the facts of a model card, one below the other."""
    for fact, value in card.items():
        text = _fact_text(value)
        # A table begins on a line of its own.
        say(f"  {fact}:{text}" if text.startswith("\n") else wrapped(f"  {fact}: {text}", hanging=4))


def _fact_text(value: Any) -> str:
    """Return a fact of a model card as a line, or as a table if it has a row for each of several names."""
    if isinstance(value, list):
        return "; then ".join(str(part) for part in value)
    if not isinstance(value, dict):
        return str(value)
    if not all(isinstance(part, dict) for part in value.values()):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    from panscape.metrics.tables import format_table

    header = ["", *next(iter(value.values()))]
    rows = [[name, *("-" if n is None else str(n) for n in part.values())] for name, part in value.items()]
    return "\n" + "\n".join(f"    {line}" for line in format_table([header, *rows]).splitlines())
