"""`panscape evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from panscape.cli.decode_arguments import Decode
from panscape.evaluation.files_command import FileOptions, is_files_mode, run_on_files
from panscape.evaluation.options import EvaluationOptions

_OF_BOTH = ("workers", "json", "out", "report")
"""Options of "panscape evaluate" that hold for a model and for files, besides what is measured."""


@dataclass(frozen=True)
class Evaluate:
    """Compare predictions with the truth, of a model (MODEL, --recipe) or of any tool (--predictions, --truth)."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """A bundled model (see "panscape weights list"), a .safetensors file, a checkpoint of a paper's authors
    (.pth, .pkl), the folder of a training, or the id of a Hugging Face repository."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Whose data to evaluate the model on."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the data; drawn data need none."""

    split: str = "val"
    """Split of the data: train, val, or another one that it has, such as test."""

    oracle: Annotated[str, arg(metavar="PARTS")] = ""
    """Parts of the network's outputs to replace by the truth's, with commas between them, to see what each costs:
    semantic, centers, offsets of Panoptic SwiftNet (Table 7); semantic, boxes of dense detections."""

    limit: Annotated[int, arg(metavar="IMAGES")] = 0
    """Take no more than this many images, spread evenly over the data; 0 for all."""

    decode: Decode = ()
    """As in "panscape predict"."""

    measured: EvaluationOptions = field(default_factory=EvaluationOptions)
    """What is measured, and by whose rules."""

    device: str = "auto"
    """As in "panscape predict"."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numeric precision of the forward pass; fp16 needs a CUDA device."""

    speed: bool = False
    """Also measure images per second of a model, network and post-processing apart, each image alone and without
    reading it; every image is predicted once more for this and once to warm up."""

    workers: Annotated[int | None, arg(metavar="NUMBER", help_behavior_hint="")] = None
    """Of a model: processes that read ahead (1; 0 reads in between). Of files: threads (one each processor)."""

    on_error: Literal["raise", "skip"] = "raise"
    """What to do at an image that cannot be used: stop, or leave it out, count it and list it."""

    json: bool = False
    """Print one JSON object in place of tables; shares are in 0..1."""

    out: Annotated[Path | None, arg(metavar="FILE.json")] = None
    """Also write that JSON object to a file, with what --compare needs."""

    report: Annotated[Path | None, arg(metavar="FILE.html")] = None
    """Also write a page to look at: intervals, what each kind of error costs, the worst images."""

    files: FileOptions = field(default_factory=FileOptions)
    """Predictions of any tool in files."""

    def run(self) -> int:
        """Evaluate; return 1 if images were left out or files were wrong."""
        if is_files_mode(self, self.files, self.measured, shared=_OF_BOTH):
            from panscape.cli.console import progress_bar

            return run_on_files(
                self.files,
                progress_bar("images"),
                workers=self.workers,
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
            workers=1 if self.workers is None else self.workers,
            on_error=self.on_error,
            as_json=self.json,
            out=self.out,
            report=self.report,
        )
