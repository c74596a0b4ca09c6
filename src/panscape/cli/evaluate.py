"""`panscape evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import Positional, arg

from panscape.cli.decode_arguments import Decode
from panscape.cli.evaluate_files import FileOptions, compare_files, is_files_mode, run_on_files
from panscape.cli.options import DatasetOptions, ExecutionOptions, ResultOptions
from panscape.cli.parser import RARE
from panscape.evaluation.options import EvaluationOptions, ReadingOptions


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a model on a dataset (MODEL, --recipe), or predictions of any tool in files (--predictions, --gt)."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """Bundled or published model (see "panscape models"), .safetensors file, published checkpoint (.pth, .pkl, .tar),
    run directory, or id of a Hugging Face repository."""

    decode: Decode = ()
    """Set a post-processing option of the model, as in "panscape predict"."""

    oracle: Annotated[str, arg(metavar="PARTS", help_behavior_hint="")] = field(default="", metadata=RARE)
    """Network outputs to replace by the ground truth, separated by commas, to measure the cost of each: semantic,
    centers, offsets (Panoptic SwiftNet, Table 7); semantic, boxes (dense detections); semantic, regions (Seamless,
    Panoptic FPN)."""

    speed: bool = field(default=False, metadata=RARE)
    """Also measure images per second of the network and of post-processing, at batch size 1, without loading. Each
    image is predicted two more times: once to warm up, once to measure."""

    workers: Annotated[int, arg(metavar="NUMBER")] = field(default=1, metadata=RARE)
    """Processes that prefetch images; 0 loads them in the main process."""

    dataset: DatasetOptions = field(default_factory=DatasetOptions)
    """The images of a MODEL and their ground truth."""

    execution: ExecutionOptions = field(default_factory=ExecutionOptions)
    """How a MODEL predicts."""

    files: FileOptions = field(default_factory=FileOptions)
    """Predictions of any tool, instead of a MODEL."""

    reading: ReadingOptions = field(default_factory=ReadingOptions)
    """How --predictions and --gt are read."""

    metric: EvaluationOptions = field(default_factory=EvaluationOptions)
    """Metrics and evaluation protocol."""

    result: ResultOptions = field(default_factory=ResultOptions)
    """Output besides tables."""

    def run(self) -> int:
        """Evaluate; return 1 if images were skipped or files had issues."""
        is_on_files = is_files_mode(self)
        if self.files.compare:
            return compare_files(self.files.compare, self.result)
        if is_on_files:
            return run_on_files(self)
        from panscape.cli.evaluate_model import run_on_model

        return run_on_model(self)

    @property
    def oracles(self) -> tuple[str, ...]:
        """The parts of ``oracle``."""
        return tuple(part.strip() for part in self.oracle.split(",") if part.strip())
