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
    """Choose the post-processing options of a model by trying values on images with ground truth."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """Model to tune, as in "panscape evaluate"."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Recipe that defines the dataset; images are used at their own size and without augmentation."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the dataset; synthetic datasets need none."""

    split: str = "train"
    """Split of the dataset, as in "panscape evaluate". Scores on this split are biased afterwards."""

    limit: Annotated[int, arg(metavar="IMAGES")] = 200
    """Maximum number of images, spread evenly over the split; 0 for all. Their network outputs are stored uncompressed
    in a temporary folder (TMPDIR)."""

    metric: Annotated[Literal["pq", "things-pq", "stuff-pq", "miou"], arg(name="for")] = "pq"
    """Metric to maximise: PQ of all categories, of things or of stuff, or mean IoU of the map."""

    decode: Decode = ()
    """Set the values to try for an option, such as --decode.stuff-area 100 500 2000; only the given options are tuned.
    --decode.help lists the options of the model and the values tried by default."""

    rounds: int = 2
    """Maximum number of passes over the options, one option at a time; stops earlier when nothing changes."""

    out: Annotated[Path | None, arg(metavar="FILE.safetensors")] = None
    """Write the model with the chosen values, and a note in its model card."""

    protocol: Literal["coco", "deeplab2", "torchmetrics", "seamseg"] = "coco"
    """Evaluation protocol, as in "panscape evaluate"."""

    device: str = "auto"
    """Device to run on, as in "panscape predict"."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numeric precision of the forward pass; fp16 needs a CUDA device."""

    on_error: Literal["raise", "skip"] = "raise"
    """On an image that cannot be used: raise an error, or skip the image, count it and list it."""

    json: bool = False
    """Print one JSON object instead of tables; shares are in 0..1."""

    def run(self) -> int:
        """Tune; return 1 if images were skipped."""
        if self.model is None or self.recipe is None:
            raise InvalidArgumentError(
                "expected a MODEL and the recipe of its dataset: panscape tune MODEL --recipe NAME --data DIR"
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
