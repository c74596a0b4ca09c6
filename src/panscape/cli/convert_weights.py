"""``panscape weights convert``: from a checkpoint in its authors' layout to a file that panscape loads.

Nothing heavy is imported here: the command line reads the fields for its help.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from panscape.errors import InvalidArgumentError


@dataclass(frozen=True)
class ConvertWeights:
    """Convert a checkpoint of a paper's authors into a .safetensors file that every command takes as a model."""

    file: Annotated[Positional[Path], arg(metavar="FILE", help_behavior_hint="")]
    """A whole network as its authors published it: .pth, or .pkl of detectron2. Nothing in it is run."""

    out: Annotated[Path, arg(metavar="FILE.safetensors", help_behavior_hint="(required)")]
    """The file to write."""

    model: Annotated[str | None, arg(metavar="NAME")] = None
    """Name of the network, as panscape.list_models() has them. By default the names of the tensors decide."""

    labels: Annotated[str | None, arg(metavar="NAME")] = None
    """Label space: a bundled one's name, such as vistas_v1.2, or a .json file. By default that of Cityscapes, COCO
    panoptic or Vistas 1.2, by the number of categories."""

    def run(self) -> int:
        """Convert the file."""
        if self.out.suffix != ".safetensors":  # before the checkpoint is read
            raise InvalidArgumentError(f"expected --out to end in .safetensors, got {self.out}")
        from panscape import zoo
        from panscape.zoo.published.integrity import checked_digest
        from panscape.zoo.published.load import create_published

        digest = checked_digest(self.file)
        lines: list[str] = []
        model = create_published(self.file, self.labels, model=self.model, say=lines.append)
        zoo.save(model, self.out, {"converted from": self.file.name, "sha256 of that file": digest})
        print("\n".join(lines), file=sys.stderr)
        print(f"wrote {self.out}")
        return 0
