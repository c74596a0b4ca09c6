"""`panscape evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from panscape.cli.decode_arguments import Decode
from panscape.cli.parser import RARE
from panscape.evaluation.files_command import FileOptions, is_files_mode, run_on_files
from panscape.evaluation.options import EvaluationOptions

_OPTIONS_OF_BOTH_MODES = ("json", "out", "report")
"""Options of "panscape evaluate" that apply to models and to files, besides those of what is measured."""


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a model on a dataset (MODEL, --recipe), or predictions of any tool in files (--predictions, --gt)."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """Bundled model (see "panscape models"), .safetensors file, published checkpoint (.pth, .pkl), run directory, or
    id of a Hugging Face repository."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Recipe that defines the dataset (see "panscape recipes")."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the dataset; synthetic datasets need none."""

    split: str = "val"
    """Split of the dataset: train, val, or another one, such as test."""

    oracle: Annotated[str, arg(metavar="PARTS")] = field(default="", metadata=RARE)
    """Network outputs to replace by the ground truth, separated by commas, to measure the cost of each: semantic,
    centers, offsets (Panoptic SwiftNet, Table 7); semantic, boxes (dense detections)."""

    limit: Annotated[int, arg(metavar="IMAGES")] = 0
    """Maximum number of images, spread evenly over the split; 0 for all."""

    decode: Decode = ()
    """Set a post-processing option of the model, as in "panscape predict"."""

    measured: EvaluationOptions = field(default_factory=EvaluationOptions)
    """Metrics and evaluation protocol."""

    device: str = "auto"
    """Device to run on, as in "panscape predict"."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numeric precision of the forward pass; fp16 needs a CUDA device."""

    speed: bool = field(default=False, metadata=RARE)
    """Also measure images per second of the network and of post-processing, at batch size 1, without loading. Each
    image is predicted two more times: once to warm up, once to measure."""

    workers: Annotated[int, arg(metavar="NUMBER")] = field(default=1, metadata=RARE)
    """Processes that prefetch images; 0 loads them in the main process."""

    on_error: Literal["raise", "skip"] = field(default="raise", metadata=RARE)
    """On an image that cannot be used: raise an error, or skip the image, count it and list it."""

    json: bool = False
    """Print one JSON object instead of tables; shares are in 0..1."""

    out: Annotated[Path | None, arg(metavar="FILE.json")] = None
    """Also write that JSON object to a file, with the data that --compare needs."""

    report: Annotated[Path | None, arg(metavar="FILE.html")] = None
    """Also write an HTML report: confidence intervals, error breakdown, worst images."""

    files: FileOptions = field(default_factory=FileOptions)
    """Predictions of any tool, in files."""

    def run(self) -> int:
        """Evaluate; return 1 if images were skipped or files had problems."""
        if is_files_mode(self, self.files, self.measured, shared=_OPTIONS_OF_BOTH_MODES):
            return run_on_files(
                self.files,
                options=self.measured,
                as_json=self.json,
                out=self.out,
                report=self.report,
            )
        from panscape.cli.evaluate_model import run_on_model

        return run_on_model(
            self.model or "",
            self.recipe or "",
            data=self.data,
            split=self.split,
            oracle=tuple(part.strip() for part in self.oracle.split(",") if part.strip()),
            limit=self.limit,
            decode=self.decode,
            options=self.measured,
            device=self.device,
            precision=self.precision,
            speed=self.speed,
            workers=self.workers,
            on_error=self.on_error,
            as_json=self.json,
            out=self.out,
            report=self.report,
        )
