"""`panscape predict`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from panscape.cli import decode_arguments
from panscape.cli.decode_arguments import Decode
from panscape.errors import InvalidArgumentError


@dataclass(frozen=True)
class Predict:
    """Find every category and object in photos and videos."""

    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="SOURCE [SOURCE ...]", help_behavior_hint="")] = ()
    """Photos, videos, folders (searched with the folders in them) and patterns such as "shots/**/*.jpg"."""

    model: str = "street"
    """A bundled model (see "panscape weights list"), a .safetensors file, a checkpoint of a paper's authors
    (.pth, .pkl), or the id of a Hugging Face repository."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Predict the images of this recipe's data in place of SOURCE; needs --data."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """With --recipe: folder of the data."""

    split: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """With --recipe: split of the data, such as val, the default, or test. It needs no ground truth."""

    submission: bool = False
    """With --recipe: write files for the server of its benchmark (Cityscapes, COCO) into --out, and nothing else."""

    out: Path = Path("panscape_out")
    """Folder for the results: overlays, and the maps of photos (those of videos with --frame-maps) in COCO panoptic
    form, panoptic.json and panoptic/."""

    save_outputs: bool = False
    """Also write what the network said of each photo, as NAME_panels.png; videos have none."""

    frame_maps: bool = False
    """Also write the map of every frame of videos; photos always have theirs."""

    opacity: float = 0.5
    """Of the overlays' colors, 0 to 1."""

    no_labels: bool = False
    """Leave the names of categories off the overlays."""

    device: str = "auto"
    """"auto" is CUDA where there is a device, else the CPU; or a device that is here, such as "cpu" or "cuda:1"."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numeric precision of the forward pass; fp16 needs a CUDA device."""

    channels_last: bool = False
    """Lay memory out pixel by pixel; faster on some processors."""

    max_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize images so that their longer side has this many pixels; maps keep the image's size. By default only
    images larger than the model was made for are shrunk."""

    decode: Decode = ()
    """Another value for an option of the model's post-processing, such as --decode.stuff-area 500. --decode.help lists
    the options of the model."""

    json: bool = False
    """Print one JSON object for each photo or video in place of text."""

    def run(self) -> int:
        """Predict; return 1 if a source could not be used."""
        import panscape
        from panscape.cli.console import Reporter
        from panscape.inference.output_folder import OutputFolder
        from panscape.inference.pipeline import PredictionRun
        from panscape.inference.predictor import Predictor
        from panscape.inference.sources import find_sources

        split = self.split or "val"
        given: Sequence[str] = self.sources
        if self._takes_split() and not self.submission:
            from panscape.cli.predict_split import images_of_split

            given = images_of_split(self.recipe or "", self.data, split)
        sources = [] if self.submission else find_sources(given, leave_out=self.out)
        model = panscape.load(self.model)
        decode_arguments.apply_arguments(model, self.decode, "panscape predict")
        predictor = Predictor(
            model,
            device=self.device,
            precision=self.precision,
            channels_last=self.channels_last,
            longest_side=self.max_size,
        )
        if self.submission:
            from panscape.cli.predict_split import run_submission

            recipe = self.recipe or ""
            return run_submission(predictor, recipe, data=self.data, split=split, out=self.out, as_json=self.json)
        labels = predictor.model.labels
        with (
            OutputFolder(self.out, labels, opacity=self.opacity, names=not self.no_labels) as outputs,
            Reporter(sources, as_json=self.json) as reporter,
        ):
            run = PredictionRun(predictor, outputs, panels=self.save_outputs, frame_maps=self.frame_maps)
            failures = run.predict_files(sources, reporter)
        if not self.json:
            count = len(sources) - len(failures)
            print(f"{count} of {len(sources)} predicted; results in {self.out}")
        if failures and len(sources) > 1 and not self.json:
            print(f"panscape: {len(failures)} of {len(sources)} could not be used:", file=sys.stderr)
            for failure in failures:
                print(f"  {failure.source}: {failure.error}", file=sys.stderr)
        return 1 if failures else 0

    def _takes_split(self) -> bool:
        """Return whether to predict a recipe's data; refuse options of both ways."""
        if self.recipe is None and (self.data is not None or self.split is not None or self.submission):
            raise InvalidArgumentError(
                "--data, --split and --submission belong to --recipe NAME, whose data they are of"
            )
        if self.recipe is not None and self.sources:
            raise InvalidArgumentError(f"expected SOURCE or --recipe, got both: {self.sources[0]} and {self.recipe}")
        if self.submission and (self.save_outputs or self.frame_maps):
            raise InvalidArgumentError("a submission has no --save-outputs and no --frame-maps; leave them out")
        return self.recipe is not None
