"""``panscape weights``: converts published checkpoints to files that panscape loads, and shows the cards of models.

This module imports nothing heavy: the command line reads the fields for its help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from panscape.cli.messages import VERBOSITY_HELP
from panscape.cli.models import print_card
from panscape.cli.printing import print_json, say
from panscape.errors import InvalidArgumentError


@dataclass(frozen=True)
class Convert:
    """Convert a published checkpoint to a .safetensors file that every command accepts as a model."""

    file: Annotated[Positional[Path], arg(metavar="FILE", help_behavior_hint="")]
    """Checkpoint of a whole network as its authors published it: .pth, .pkl of detectron2, .tar of seamseg. No code in
    it is run."""

    out: Annotated[Path, arg(metavar="FILE.safetensors", help_behavior_hint="(required)")]
    """File to write."""

    model: Annotated[str | None, arg(metavar="NAME")] = None
    """Name of the network, one of panscape.list_models(). Detected from the tensor names by default."""

    labels: Annotated[str | None, arg(metavar="NAME|FILE.json")] = None
    """Label space: a bundled one, such as vistas_v1.2, or a .json file. By default Cityscapes, COCO panoptic or Vistas
    1.2, chosen by the number of categories."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Convert the file."""
        if self.out.suffix != ".safetensors":  # before the checkpoint is read
            raise InvalidArgumentError(f"expected --out to end in .safetensors, got {self.out}")
        from panscape import zoo
        from panscape.zoo.published.integrity import checked_digest
        from panscape.zoo.published.load import create_published

        digest = checked_digest(self.file)
        model = create_published(self.file, self.labels, model=self.model)
        card = {"converted from": self.file.name, "sha256 of that file": digest}
        zoo.save(model, self.out, card)
        if self.json:
            print_json({"source": self.file, "model": self.out, "labels": model.labels.name, "card": card})
        else:
            say(f"wrote {self.out}")
        return 0


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
            print_json({"model": self.model, "card": card})
        else:
            say(self.model)
            print_card(card)
        return 0


@dataclass(frozen=True)
class Weights:
    """Convert a published checkpoint, or print the model card of a saved model."""

    action: (
        Annotated[Convert, subcommand("convert", description=f"{Convert.__doc__} {VERBOSITY_HELP}")]
        | Annotated[ShowWeights, subcommand("show", description=f"{ShowWeights.__doc__} {VERBOSITY_HELP}")]
    )

    def run(self) -> int:
        """Run the action."""
        return self.action.run()
