"""What is measured: a model of panscape from image files to results on disk, or a peer on the same files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from panscape.errors import InvalidArgumentError, MissingExtraError, UnknownNameError, UnreadableFileError, in_one_line
from panscape.export.floors import FLOORS
from panscape.images import load_image
from panscape.inference.device import choose_device
from panscape.inference.output_folder import OutputFolder
from panscape.inference.predictor import Predictor
from panscape.models import PanopticModel, create_model, list_models
from panscape.models.prediction import NETWORK, POST_PROCESS, PREPROCESS
from panscape.precision import Precision, autocast, require_precision
from panscape.runtime_options import PrecisionOption, RuntimeOption, on_runtime_of
from panscape.stopwatch import Stopwatch
from panscape.zoo import load
from panscape.zoo.transformers.load import quiet_transformers

_logger = logging.getLogger(__name__)

READ, DRAW, WRITE = "read", "draw", "write"
STAGES = (READ, PREPROCESS, NETWORK, POST_PROCESS, DRAW, WRITE)
"""All stages, in their order. Those of :data:`PREDICT` are from an image in memory to its segments."""
PREDICT = (PREPROCESS, NETWORK, POST_PROCESS)
PEER_PREFIX = "transformers:"


@dataclass(frozen=True, slots=True)
class Setting:
    """What distinguishes a row from the others of the same images, batch size and threads.

    Attributes:
        name: of the model as for :func:`panscape.load`, of a network of :func:`panscape.list_models` for random
            weights, or of a peer with :data:`PEER_PREFIX`.
        runtime: as for :func:`panscape.runtime_options.on_runtime_of`; torch for peers.
        precision: as there.
        memory_format: "contiguous" or "channels-last", in torch.
        device: as for :class:`~panscape.inference.predictor.Predictor`.
        max_size: as ``longest_side`` there; not for peers.
    """

    name: str
    runtime: RuntimeOption
    precision: PrecisionOption
    memory_format: str
    device: str
    max_size: int | None

    @property
    def is_peer(self) -> bool:
        """Whether it is a peer."""
        return self.name.startswith(PEER_PREFIX)

    @property
    def is_channels_last(self) -> bool:
        """Whether the memory format is channels-last."""
        return self.memory_format == "channels-last"


class Runner(Protocol):
    """Something that is measured.

    Attributes:
        scope: where its time starts and ends.
        device: that it runs on.
        runtime: what runs the network, as :attr:`PanopticModel.runtime`.
        precision: numeric precision of the network.
    """

    scope: str
    device: torch.device
    runtime: str
    precision: str

    def run(self, paths: Sequence[Path], watch: Stopwatch) -> None:
        """Process a batch of image files of one size, and report each stage to the watch."""


def create_runner(setting: Setting, out: Path) -> Runner:
    """Load a model or a peer.

    Args:
        setting: the model and how it runs.
        out: folder for results.

    Raises:
        PanscapeError: it cannot be loaded, or an option is not supported.
    """
    if setting.is_peer:
        return TransformersPeer(setting)
    return ModelRunner(setting, out)


class ModelRunner:
    """A model of panscape: from files to overlays and maps on disk, as ``panscape predict`` does it.

    Args:
        setting: the model and how it runs.
        out: folder for the results.

    Raises:
        PanscapeError: it cannot be loaded, or an option is not supported.
    """

    def __init__(self, setting: Setting, out: Path) -> None:
        model, is_random = _load(setting.name)
        model, precision = on_runtime_of(
            model, setting.runtime, setting.precision, setting.device, channels_last=setting.is_channels_last
        )
        self.runtime = model.runtime
        self.precision = _precision_of(model.runtime, precision if model.runtime == "torch" else setting.precision)
        self.scope = "image file to overlay and map on disk" + (", random weights" if is_random else "")
        self.predictor = Predictor(
            model,
            device=setting.device,
            precision=precision,
            channels_last=setting.is_channels_last,
            longest_side=setting.max_size,
        )
        self.device = self.predictor.device
        self._outputs = OutputFolder(out, model.labels)

    def run(self, paths: Sequence[Path], watch: Stopwatch) -> None:
        """See :meth:`Runner.run`."""
        images = [load_image(path) for path in paths]
        watch.lap(READ)
        maps = self.predictor.predict_batch(images, watch).maps
        arrays = [each.arrays() for each in maps]
        pairs = zip(images, arrays, strict=True)
        overlays = [self._outputs.overlay(image.numpy(), result, legend=True) for image, result in pairs]
        watch.lap(DRAW)
        for path, overlay, result in zip(paths, overlays, arrays, strict=True):
            self._outputs.save_overlay(path.stem, overlay)
            self._outputs.write_map(path.stem, result)
        watch.lap(WRITE)


def _load(name: str) -> tuple[PanopticModel, bool]:
    """Return a model, and whether its weights are random."""
    try:
        return load(name), False
    except UnknownNameError:
        network = name.replace("-", "_")
        if network not in list_models():
            raise
    _warn_of_random_weights(name)
    torch.manual_seed(0)
    return create_model(network, "cityscapes").eval(), True


@cache
def _warn_of_random_weights(name: str) -> None:
    _logger.warning("%s is a network without weights; random ones tell only its own time", name)


def _precision_of(runtime: str, otherwise: str) -> str:
    """Return the precision that a runtime names; those with a graph for each size name none."""
    named = runtime.rpartition(" ")[2]
    return named if named in FLOORS else otherwise


class TransformersPeer:
    """A network of transformers with its own image processor: from files to what its post-processing returns.

    Args:
        setting: the network, by its id on the hub or a folder, and how it runs.

    Raises:
        MissingExtraError: transformers is not installed.
        UnreadableFileError: network or image processor cannot be loaded.
        InvalidArgumentError: the network is not one of panoptic segmentation, or an option is not supported.
    """

    scope = "image file to segments in memory, by transformers"
    runtime = "torch"

    def __init__(self, setting: Setting) -> None:
        name = setting.name.removeprefix(PEER_PREFIX)
        self.device = choose_device(setting.device)
        self._precision: Precision = "fp32" if setting.precision == "auto" else setting.precision
        self.precision: str = self._precision
        require_precision(self._precision, self.device)
        self._layout = torch.channels_last if setting.is_channels_last else torch.contiguous_format
        try:
            import transformers
        except ImportError as error:
            raise MissingExtraError("transformers", "transformers", f"--peer {setting.name}") from error
        try:
            with quiet_transformers():
                network = transformers.AutoModelForUniversalSegmentation.from_pretrained(name, dtype=torch.float32)
                self._has_task = network.config.model_type == "oneformer"
                kind: Any = transformers.AutoProcessor if self._has_task else transformers.AutoImageProcessor
                self._processor = kind.from_pretrained(name)
        except (ImportError, LookupError, OSError, RuntimeError, ValueError) as error:
            raise UnreadableFileError(
                name,
                "expected a panoptic network of transformers with its image processor, an id on the hub or a folder, "
                f"but {in_one_line(error)}",
            ) from error
        if not hasattr(self._processor, "post_process_panoptic_segmentation"):
            raise InvalidArgumentError(
                f"expected a network whose image processor makes panoptic maps as --peer, got {name}, whose "
                f"{type(self._processor).__name__} does not"
            )
        self._network = network.eval().to(self.device, memory_format=self._layout)

    @torch.inference_mode()
    def run(self, paths: Sequence[Path], watch: Stopwatch) -> None:
        """See :meth:`Runner.run`; nothing is drawn or written."""
        images = []
        for path in paths:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        watch.lap(READ)
        task = {"task_inputs": ["panoptic"] * len(images)} if self._has_task else {}
        inputs = self._processor(images=images, return_tensors="pt", **task)
        given = {key: value.to(self.device) for key, value in inputs.items() if isinstance(value, torch.Tensor)}
        given.pop("patch_offsets", None)  # of semantic segmentation
        given["pixel_values"] = given["pixel_values"].contiguous(memory_format=self._layout)
        watch.lap(PREPROCESS)
        with autocast(self._precision, self.device):
            found = self._network(**given)
        watch.lap(NETWORK)
        sizes = [(image.height, image.width) for image in images]
        with quiet_transformers():  # it warns of its own defaults
            self._processor.post_process_panoptic_segmentation(found, target_sizes=sizes)
        watch.lap(POST_PROCESS)
