"""`panscape predict`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from panscape.cli.default_model import BUNDLED, default_model
from panscape.cli.option_metadata import RARE, shown
from panscape.cli.printing import say
from panscape.errors import InvalidArgumentError
from panscape.optional_parts import left_out
from panscape.runtime_options import PrecisionOption, RuntimeOption, graph_of, on_runtime_of

if TYPE_CHECKING:
    from panscape.inference.graph_predictor import GraphPredictor
    from panscape.inference.image_predictor import ImagePredictor
    from panscape.inference.predictor import Predictor
    from panscape.inference.sources import SourceFile

_logger = logging.getLogger(__name__)
_FEW = 32  # sources; with more, importing torch costs little of the whole


@dataclass(frozen=True)
class Predict:
    """Segment images and videos with a model, and write maps and overlays."""

    sources: tuple[str, ...] = field(
        default=(), metadata=shown("SOURCE [SOURCE ...]", has_default=False, is_positional=True)
    )
    """Images, videos, folders (searched recursively) and patterns such as "shots/**/*.jpg"."""

    model: str | None = field(default=None, metadata=shown("MODEL"))
    """Name (see "panscape models"), .safetensors file, run directory, published checkpoint (.pth, .pkl, .tar), id of a
    Hugging Face repository, or hf:owner/name or folder of transformers. By default maskformer_r50_coco, for everyday
    photos, if it has been fetched or you agree to that, else street."""

    recipe: str | None = field(default=None, metadata=shown("NAME", has_default=False))
    """Predict the images of this recipe's dataset instead of SOURCE; needs --data."""

    data: Path | None = field(default=None, metadata=shown("DIR"))
    """Folder of the dataset of --recipe."""

    split: str | None = field(default=None, metadata=shown("NAME", has_default=False))
    """Split of the dataset of --recipe, such as val (the default) or test; it needs no ground truth."""

    submission: bool = False
    """Write only the files for the benchmark server of --recipe (Cityscapes, COCO) into --out."""

    out: Path = Path("panscape_out")
    """Folder for the results: overlays, and the maps of images (of videos with --frame-maps) in COCO panoptic format,
    panoptic.json and panoptic/. What an earlier run with the same options has written there is kept."""

    overwrite: bool = False
    """Predict again what an earlier run with the same options has written to --out. With another model, maps of other
    sources with other categories are removed from panoptic.json; their files remain."""

    save_outputs: bool = False
    """Also write the network outputs of each image as NAME_panels.jpg; not written for videos."""

    frame_maps: bool = False
    """Also write the map of every video frame; maps of images are always written."""

    names: Literal["none", "category", "segment"] = "category"
    """Names on the overlays: of each category, with the number of objects; of each segment, with the score; or none.
    Names that would hide most of a segment are omitted."""

    min_score: float = 0.0
    """Draw objects with a lower score as void, 0 to 1; maps keep them."""

    opacity: float = 0.5
    """Opacity of the overlays' colors, 0 to 1."""

    palette: Literal["distinct", "published"] = "distinct"
    """Colors of the categories: distinct, also with color vision deficiencies, or those published with the dataset."""

    no_legend: bool = False
    """Omit the legend below the overlays of images."""

    image_format: Literal["jpeg", "png"] = "jpeg"
    """Encoding of overlays and sheets; PNG is lossless, but takes ten times as long. Maps are always PNG, as are
    overlays with a side of more than 65500 pixels."""

    device: str = "auto"
    """Device to run on: "auto" (CUDA if available, else the CPU), "cpu", or a CUDA device such as "cuda:1"."""

    runtime: RuntimeOption = "auto"
    """What runs the network on a CPU. auto is the first of openvino, onnx and torch that is installed and whose maps
    agree with those of torch; a network is converted once and kept in the user's cache."""

    precision: PrecisionOption = "auto"
    """Numeric precision. auto is fp32, or bf16 in OpenVINO on a processor that has it; fp16 needs a CUDA device."""

    channels_last: bool = field(default=False, metadata=RARE)
    """Use the channels-last memory format, which is faster on some processors."""

    max_size: int | None = field(default=None, metadata=shown("PIXELS"))
    """Resize images so that their longer side has this many pixels; maps keep the size of the image. By default only
    images larger than the model's longest side are downsized."""

    bit_depth: int | None = field(default=None, metadata=shown("N", has_default=False))
    """Number of bits of the brightest value in images of 16 bits, 8 to 16. By default the number that the values of a
    few of the images use, the same for all."""

    max_pixels: int = field(default=80_000_000, metadata=shown("N"))
    """Refuse larger images, also in videos. Predicting an image takes about 0.8 GiB of memory, and 1 GiB for each 40
    million pixels of it; of a folder, as many images as there are processors (at most 8) are in memory."""

    decode: tuple[str, ...] = field(default=(), metadata=shown("VALUE", has_default=False, name="decode.NAME"))
    """Set a post-processing option of the model, such as --decode.stuff-area 500. --decode.help lists the options of
    the model."""

    json: bool = False
    """Print one JSON object per image or video instead of text, with its segments and the paths of its results."""

    def run(self) -> int:
        """Predict; return 1 if a source failed."""
        from panscape.image_files import pixel_limit
        from panscape.inference.output_folder import require_folder

        require_folder(self.out, "results")
        self._require_consistent()
        with pixel_limit(self.max_pixels):
            return self._predict() if self.recipe is None or not self.submission else self._submit(self.recipe)

    def _submit(self, recipe: str) -> int:
        from panscape.cli.predict_split import run_submission

        return run_submission(
            self._predictor(self.model or BUNDLED),
            recipe,
            data=self.data,
            split=self.split or "val",
            out=self.out,
            bit_depth=self.bit_depth,
            as_json=self.json,
        )

    def _predict(self) -> int:
        from panscape.cli.console import ResultPrinter
        from panscape.inference.output_folder import OutputFolder
        from panscape.inference.pipeline import PredictionRun

        sources = self._find_sources()
        chosen = default_model(may_ask=not self.json) if self.model is None and self.recipe is None else None
        name = self.model or (BUNDLED if chosen is None else chosen.name)
        predictor: ImagePredictor = self._graph_predictor(name, sources) or self._predictor(name)
        style = {"names": self.names, "min_score": self.min_score, "opacity": self.opacity, "palette": self.palette}
        labels, has_legend = predictor.labels, not self.no_legend
        with (
            OutputFolder(self.out, labels, style=style, legend=has_legend, image_format=self.image_format) as outputs,
            ResultPrinter(sources, as_json=self.json) as reporter,
        ):
            run = PredictionRun(
                predictor,
                outputs,
                panels=self.save_outputs,
                frame_maps=self.frame_maps,
                overwrite=self.overwrite,
                bit_depth=self.bit_depth,
            )
            try:
                failures = run.predict_files(sources, reporter)
            except KeyboardInterrupt:
                count = outputs.num_done(sources)
                _logger.warning("%d of %d done; repeat the command to continue with the others", count, len(sources))
                raise
        if not self.json:
            say(f"{len(sources) - len(failures)} of {len(sources)} predicted; results in {self.out}")
            if reporter.num_earlier:
                say(f"{reporter.num_earlier} of them by an earlier run; --overwrite predicts them again")
            if reporter.times:
                say(f"mean {reporter.times}")
            if chosen is not None and not failures:
                _logger.info("%s", chosen.reason)
        return 1 if failures else 0

    def _find_sources(self) -> list[SourceFile]:
        from panscape.inference.sources import find_sources

        given: Sequence[str] = self.sources
        if self.recipe is not None:
            from panscape.cli.predict_split import images_of_split

            given = images_of_split(self.recipe, self.data, self.split or "val")
        return find_sources(given, leave_out=self.out)

    def _graph_predictor(self, name: str, sources: Sequence[SourceFile]) -> GraphPredictor | None:
        """Return what predicts the sources without torch, which takes seconds to import; None if that is impossible."""
        if self.recipe is not None or self.save_outputs or self.decode or len(sources) > _FEW:
            return None
        # OpenVINO's converter, and linear algebra for numba: together they take longer than the network.
        with left_out("openvino.tools.ovc", "scipy.linalg.cython_blas"):
            model = graph_of(name, self.runtime, self.precision, self.device, channels_last=self.channels_last)
            if model is None:
                return None
            import numba.np.arraymath  # noqa: F401 - what runs the kernels
        from panscape.export.cached_graphs import announce
        from panscape.inference.graph_predictor import GraphPredictor

        predictor = GraphPredictor(model, longest_side=self.max_size)
        if not all(predictor.takes(source) for source in sources):
            return None
        if model.agreement is not None:
            announce(model.runtime, model.agreement)
        return predictor

    def _predictor(self, name: str) -> Predictor:
        import panscape
        from panscape.cli import decode_arguments
        from panscape.inference.predictor import Predictor

        loaded = panscape.load(name)
        model, precision = on_runtime_of(
            loaded, self.runtime, self.precision, self.device, channels_last=self.channels_last
        )
        if model is not loaded:
            from panscape.export.runtime import keep_start

            keep_start(name, model)
        decode_arguments.apply_arguments(model, self.decode, "panscape predict")
        return Predictor(
            model,
            device=self.device,
            precision=precision,
            channels_last=self.channels_last,
            longest_side=self.max_size,
        )

    def _require_consistent(self) -> None:
        """Raise on options that contradict each other."""
        if self.recipe is None and (self.data is not None or self.split is not None or self.submission):
            raise InvalidArgumentError("--data, --split and --submission need --recipe NAME, which defines the dataset")
        if self.recipe is not None and self.sources:
            raise InvalidArgumentError(f"expected SOURCE or --recipe, got both: {self.sources[0]} and {self.recipe}")
        if self.submission and (self.save_outputs or self.frame_maps):
            raise InvalidArgumentError("--submission cannot be combined with --save-outputs or --frame-maps; omit them")
