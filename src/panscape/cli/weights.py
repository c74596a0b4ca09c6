"""``panscape weights``: published models in the cache, conversion of other checkpoints, and the cards of models.

This module imports nothing heavy: the command line reads the fields for its help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from panscape.cli.licences import ACCEPT_HELP
from panscape.cli.messages import VERBOSITY_HELP
from panscape.cli.models import print_card
from panscape.cli.printing import print_json, say
from panscape.errors import InvalidArgumentError, UnreadableFileError


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
        from panscape.zoo.published.integrity import checked_digest, entry_of
        from panscape.zoo.published.load import create_published

        digest = checked_digest(self.file)
        model = create_published(self.file, self.labels, model=self.model)
        entry = entry_of(self.file)
        facts = {} if entry is None else {"name": entry.name, **entry.facts()}
        card = {**facts, "converted from": self.file.name, "sha256 of that file": digest}
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
    """A bundled or published model, a .safetensors file, a run directory, or a Hugging Face repository id."""

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
            print_card({name: fact for name, fact in card.items() if name != "name"})
        return 0


@dataclass(frozen=True)
class Fetch:
    """Fetch a published model into the cache, or take a file of it that you have downloaded; see "panscape models"."""

    name: Annotated[Positional[str], arg(metavar="NAME", help_behavior_hint="")]
    """Name of the model. It is verified, converted, and from then on works without network access."""

    file: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """The file as its authors published it, for models that can only be downloaded by hand. A model that is in the
    cache is replaced."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Fetch the model."""
        from panscape import zoo

        path = zoo.fetch_weights(self.name, self.file)
        if self.json:
            print_json({"model": self.name, "path": path, "megabytes": round(path.stat().st_size / 1e6, 1)})
        else:
            say(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")
        return 0


@dataclass(frozen=True)
class Verify:
    """Check that models in the cache are as they were written, and published files as their names promise."""

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME|FILE ...]", help_behavior_hint="")] = ()
    """Models, by default all in the cache; or published files whose names contain the beginning of a digest."""

    json: bool = False
    """Print one JSON object for each of them."""

    def run(self) -> int:
        """Verify the models; return 1 if one has changed."""
        from panscape import zoo
        from panscape.zoo.published.catalogue import find_entry
        from panscape.zoo.published.integrity import checked_digest

        num_wrong = 0
        for name in self.names or zoo.WeightsCache().models():
            digest = problem = None
            try:
                is_file = find_entry(name) is None and Path(name).exists()
                digest = checked_digest(Path(name)) if is_file else zoo.verify_weights(name)
            except UnreadableFileError as error:
                problem = str(error)
                num_wrong += 1
            if self.json:
                print_json({"model": name, "sha256": digest, "error": problem})
            else:
                say(f"{name}: sha256 {digest}" if problem is None else f"{name}: {problem}")
        return min(num_wrong, 1)


@dataclass(frozen=True)
class Remove:
    """Remove models from the cache; accepted licences stay accepted."""

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME ...]", help_behavior_hint="")] = ()
    """Models to remove, with what an interrupted download has left of them."""

    all: bool = False
    """Remove all models of the cache."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Remove the models."""
        from panscape import zoo
        from panscape.zoo.published.fetch import published_entry

        if bool(self.names) == self.all:
            raise InvalidArgumentError("expected the names of models or --all; panscape models lists what is cached")
        cache = zoo.WeightsCache()
        entries = zoo.list_published() if self.all else [published_entry(name) for name in self.names]
        freed = {entry.name: cache.remove(entry) for entry in entries}
        removed = [name for name, megabytes in freed.items() if megabytes]
        if self.json:
            print_json({"removed": removed, "megabytes": round(sum(freed.values()), 1)})
        else:
            say(f"removed {', '.join(removed) or 'nothing'}, {sum(freed.values()):.1f} MB")
        return 0


@dataclass(frozen=True)
class Weights:
    """Fetch, verify and remove published models, convert checkpoints, and show model cards."""

    action: (
        Annotated[Fetch, subcommand("fetch", description=f"{Fetch.__doc__} {ACCEPT_HELP} {VERBOSITY_HELP}")]
        | Annotated[Verify, subcommand("verify", description=f"{Verify.__doc__} {VERBOSITY_HELP}")]
        | Annotated[Remove, subcommand("remove", description=f"{Remove.__doc__} {VERBOSITY_HELP}")]
        | Annotated[Convert, subcommand("convert", description=f"{Convert.__doc__} {VERBOSITY_HELP}")]
        | Annotated[ShowWeights, subcommand("show", description=f"{ShowWeights.__doc__} {VERBOSITY_HELP}")]
    )

    def run(self) -> int:
        """Run the action."""
        return self.action.run()
