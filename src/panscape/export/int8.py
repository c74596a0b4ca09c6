"""Post-training quantisation of OpenVINO's graphs to 8 bits, by nncf.

All layers are quantised first. If maps then differ from the original by more than the floor allows, nncf ranks the
layers by the equal pixels that each one costs, and the worst are kept in floating point until the floor holds. Images
of this search are some of those for calibration, so that others can judge the result.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.export.floors import ParityFloor
from panscape.export.openvino import read_ir, save_ir
from panscape.export.parity import count_equal_pixels, geometry_within
from panscape.geometry import ImageGeometry, Size
from panscape.models import PanopticModel
from panscape.models.prediction import network_input, run_network
from panscape.panoptic import PanopticMap
from panscape.spread import evenly_spread
from panscape.zoo.exported import replace_graph
from panscape.zoo.graphs import OpenVinoRequests, openvino_core

HELD_OUT = 16
"""Maximum number of images that :func:`held_out` takes."""
_JUDGED = 8  # images of the search
_MOST_FLOAT_LAYERS = 20
# The search aims at less than the floor allows, as other images than its own decide.
_SHARE_OF_LOSS = 0.8
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Quantization:
    """How a graph was quantised.

    Attributes:
        images: number of images that it was calibrated with.
        float_layers: layers that stayed in floating point, as 8 bits would have cost too many equal pixels.
    """

    images: int
    float_layers: tuple[str, ...]

    def __str__(self) -> str:
        layers = ", ".join(self.float_layers) or "none"
        return f"int8: calibrated with {self.images} images; layers in floating point: {layers}"


def held_out(number: int) -> list[int]:
    """Return the indices of those images of a calibration set that judge its result: every fifth, at most 16.

    Raises:
        InvalidArgumentError: there are fewer than 5 images.
    """
    if number < 5:
        raise InvalidArgumentError(
            f"expected at least 5 images for calibration, of which some are held out for the comparison, got {number}"
        )
    return evenly_spread(number, min(number // 5, HELD_OUT))


class _Judge(NamedTuple):
    """An image and the map of the original."""

    image: Tensor
    geometry: ImageGeometry
    expected: PanopticMap


def quantize(
    path: Path,
    exported: PanopticModel,
    original: PanopticModel,
    images: Sequence[Tensor],
    modules: Mapping[str, str],
    floor: ParityFloor,
    size: Size | None,
) -> Quantization:
    """Quantise a graph in its file.

    Args:
        path: OpenVINO's IR in single precision.
        exported: the model of this file. It is of no use afterwards.
        original: the model that it was exported from.
        images: for calibration, uint8 [3, H, W].
        modules: the module of each node of the graph.
        floor: the share of equal pixels to reach.
        size: of the graph; None for any.

    Raises:
        MissingExtraError: nncf is not installed.
    """
    nncf = import_nncf()
    model = read_ir(path)
    outputs = tuple(output.any_name for output in model.outputs)
    judges = [_judge(original, images[i], size) for i in evenly_spread(len(images), _JUDGED)]

    def graph_input(image: Tensor) -> Any:
        batch = network_input([image], [geometry_within(original, image, size)], _CPU)
        to_graph: Any = exported.graph_input
        return to_graph(batch)

    def validate(compiled: Any, numbers: Iterable[int]) -> tuple[float, list[float]]:
        replace_graph(exported, OpenVinoRequests(compiled, outputs))
        shares = [_equal_share(exported, judges[number]) for number in numbers]
        return sum(shares) / len(shares), shares

    with torch.inference_mode(), _without_messages(), _one_core():
        quantized = nncf.quantize_with_accuracy_control(
            model,
            nncf.Dataset(images, graph_input),
            nncf.Dataset(range(len(judges))),
            validate,
            max_drop=_SHARE_OF_LOSS * (1 - floor.equal_pixels),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(images),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                max_num_iterations=_MOST_FLOAT_LAYERS, ranking_subset_size=len(judges)
            ),
        )
    save_ir(quantized, path)
    return Quantization(len(images), _float_layers(quantized, modules))


def import_nncf() -> Any:
    """Import nncf, without its reports of use to the vendor, its class of all loggers, and its messages."""
    kind, known = logging.getLoggerClass(), os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"  # no reports; read during its import
    try:
        nncf: Any = importlib.import_module("nncf")
    finally:
        logging.setLoggerClass(kind)
        os.environ.pop("NNCF_CI")
        if known is not None:
            os.environ["NNCF_CI"] = known
    nncf.set_log_level(logging.ERROR)
    return nncf


@contextlib.contextmanager
def _without_messages() -> Iterator[None]:
    """Hide nncf's progress bars, and a warning of no CUDA from torch's compiler of extensions, which nncf imports."""
    extensions = logging.getLogger("torch.utils.cpp_extension")
    is_disabled, extensions.disabled = extensions.disabled, True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        extensions.disabled = is_disabled


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Let nncf use the core of the process; :func:`panscape.zoo.graphs.openvino_core` says why there must be one."""
    openvino: Any = importlib.import_module("openvino")
    core, own = openvino_core(), (openvino.Core, openvino.compile_model)
    openvino.Core, openvino.compile_model = openvino_core, core.compile_model
    try:
        yield
    finally:
        openvino.Core, openvino.compile_model = own


def _judge(original: PanopticModel, image: Tensor, size: Size | None) -> _Judge:
    geometry = geometry_within(original, image, size)
    with torch.inference_mode():
        outputs = run_network(original, [image], [geometry], _CPU).outputs
        return _Judge(image, geometry, original.postprocess(outputs, [geometry])[0])


def _equal_share(exported: PanopticModel, judge: _Judge) -> float:
    outputs = run_network(exported, [judge.image], [judge.geometry], _CPU).outputs
    found = exported.postprocess(outputs, [judge.geometry])[0]
    return count_equal_pixels(found, judge.expected) / judge.expected.ids.numel()


def _float_layers(model: Any, modules: Mapping[str, str]) -> tuple[str, ...]:
    """Return the modules of those layers of a quantised graph whose weights are not of 8 bits."""
    found: dict[str, None] = {}
    for layer in model.get_ordered_ops():
        if layer.get_type_name() not in ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"):
            continue
        weights = layer.input_value(1).get_node()
        while weights.get_type_name() in ("Convert", "Multiply", "Reshape", "Subtract", "Transpose"):
            weights = weights.input_value(0).get_node()
        if weights.get_type_name() == "Constant" and weights.get_element_type().size > 1:
            name = layer.get_friendly_name().partition("/")[0]  # without what OpenVINO adds to nodes of ONNX
            found[modules.get(name, name)] = None
    return tuple(found)
