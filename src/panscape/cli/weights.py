"""``panscape weights``: files of weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from panscape.cli.convert import Convert
from panscape.cli.models import print_card


@dataclass(frozen=True)
class ShowWeights:
    """Print the model card of a saved model."""

    model: Annotated[Positional[str], arg(metavar="MODEL", help_behavior_hint="")]
    """A bundled model, a .safetensors file, a run directory, or a Hugging Face repository id."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Print the card."""
        from panscape import zoo

        card = zoo.read_card(self.model)
        if self.json:
            print(json.dumps({"name": self.model, "card": card}))
        else:
            print(self.model)
            print_card(card)
        return 0


@dataclass(frozen=True)
class Weights:
    """Convert a published checkpoint, or print the model card of a saved model."""

    action: Annotated[Convert, subcommand("convert")] | Annotated[ShowWeights, subcommand("show")]

    def run(self) -> int:
        """Run the action."""
        return self.action.run()
