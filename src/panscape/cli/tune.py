"""`panscape tune`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from panscape.cli.decode_arguments import Decode
from panscape.errors import InvalidArgumentError


@dataclass(frozen=True)
class Tune:
    """Choose the options of a model's post-processing by trying values on images with ground truth."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """As in "panscape evaluate"."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Whose data to try them on, at their own size and without augmentation."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the data; drawn data need none."""

    split: str = "train"
    """Which split of the data, as in "panscape evaluate". Numbers on a split that was used for choosing are no fair
    estimate afterwards."""

    limit: Annotated[int, arg(metavar="IMAGES")] = 200
    """Use no more than this many images, spread evenly over the data; 0 for all. The network's outputs for them are
    kept in a temporary folder (TMPDIR), as they are."""

    metric: Annotated[Literal["pq", "things-pq", "stuff-pq", "miou"], arg(name="for")] = "pq"
    """What is to become as high as possible: PQ of all categories, of things or of stuff, or mean IoU of the map."""

    decode: Decode = ()
    """The values to try for an option, such as --decode.stuff-area 100 500 2000; then only the options given are tuned.
    --decode.help lists the options of the model and the values that are tried otherwise."""

    rounds: int = 2
    """How often each option is gone through, one after the other; it ends earlier when nothing changes."""

    out: Annotated[Path | None, arg(metavar="FILE.safetensors")] = None
    """Write the model with the chosen values, and a note on its card of how they were chosen."""

    protocol: Literal["coco", "deeplab2", "torchmetrics", "seamseg"] = "coco"
    """As in "panscape evaluate"."""

    device: str = "auto"
    """As in "panscape predict"."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """As in "panscape predict"."""

    on_error: Literal["raise", "skip"] = "raise"
    """As in "panscape evaluate"."""

    json: bool = False
    """Print one JSON object in place of tables; shares are in 0..1."""

    def run(self) -> int:
        """Tune; return 1 if images were left out."""
        if self.model is None or self.recipe is None:
            raise InvalidArgumentError(
                "expected a MODEL and the recipe whose data to tune it on: panscape tune MODEL --recipe NAME --data DIR"
            )
        from panscape.cli.tune_model import tune_model

        return tune_model(
            self.model,
            self.recipe,
            data=self.data,
            split=self.split,
            limit=self.limit,
            metric=self.metric,
            decode=self.decode,
            rounds=self.rounds,
            out=self.out,
            protocol=self.protocol,
            device=self.device,
            precision=self.precision,
            on_error=self.on_error,
            as_json=self.json,
        )
