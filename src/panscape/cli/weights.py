"""`panscape weights`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import subcommand

from panscape.cli.convert_weights import ConvertWeights


@dataclass(frozen=True)
class ListWeights:
    """Show the models that come with panscape, with what is known about them."""

    json: bool = False
    """Print one JSON object for each."""

    def run(self) -> int:
        """List the bundled models."""
        import panscape

        for weights in panscape.list_weights():
            if self.json:
                print(json.dumps({"name": weights.name, "path": str(weights.path), "card": dict(weights.card)}))
                continue
            print(f"{weights.name}  ({weights.path.stat().st_size / 1e6:.1f} MB)")
            for fact, value in weights.card.items():
                print(f"  {fact}: {_in_words(value)}")
        return 0


def _in_words(value: Any) -> str:
    """Return a fact of a card as a line, or as a table if it holds a row for each of several names."""
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


@dataclass(frozen=True)
class Weights:
    """Show the models that come with panscape, or convert a published checkpoint."""

    action: Annotated[ListWeights, subcommand("list")] | Annotated[ConvertWeights, subcommand("convert")]

    def run(self) -> int:
        """Do what was asked for."""
        return self.action.run()
