"""`panscape tune`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from panscape.cli.decode_arguments import Decode
from panscape.cli.options import DatasetOptions, ExecutionOptions
from panscape.errors import InvalidArgumentError


@dataclass(frozen=True)
class Tune:
    """Choose the post-processing options of a model by trying values on images with ground truth."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """Model to tune, as in "panscape evaluate"."""

    metric: Annotated[Literal["pq", "things-pq", "stuff-pq", "miou"], arg(name="for")] = "pq"
    """Metric to maximise: PQ of all categories, of things or of stuff, or mean IoU of the map."""

    decode: Decode = ()
    """Set the values to try for an option, such as --decode.stuff-area 100 500 2000; only the given options are tuned.
    --decode.help lists the options of the model and the values tried by default."""

    rounds: int = 2
    """Maximum number of passes over the options, one option at a time; stops earlier when nothing changes."""

    out: Annotated[Path | None, arg(metavar="FILE.safetensors", help_behavior_hint="")] = None
    """Write the model with the chosen values, and a note in its model card."""

    protocol: Literal["coco", "deeplab2", "torchmetrics", "seamseg", "yolo_panoptic"] = "coco"
    """Evaluation protocol, as in "panscape evaluate"."""

    json: bool = False
    """Print one JSON object instead of tables; shares are in 0..1."""

    dataset: DatasetOptions = field(default_factory=partial(DatasetOptions, split="train"))
    """Images at their own size, without augmentation; scores on them are biased afterwards."""

    execution: ExecutionOptions = field(default_factory=partial(ExecutionOptions, limit=200))
    """How the model predicts. The network outputs of all images are stored uncompressed in TMPDIR."""

    def run(self) -> int:
        """Tune; return 1 if images were skipped."""
        if self.model is None or not self.dataset.is_known(self.model):
            raise InvalidArgumentError(
                "expected a MODEL and the recipe of its dataset: panscape tune MODEL --recipe NAME --data DIR"
            )
        from panscape.cli.tune_model import tune_model

        return tune_model(self)
