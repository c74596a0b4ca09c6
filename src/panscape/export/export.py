"""Write a model as a graph with everything needed to run it, and compare it with the original."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from panscape.atomic_io import unwritable, write_json
from panscape.errors import InvalidArgumentError, PanscapeError
from panscape.export.centers_graph import CenterMaps
from panscape.export.departure import Departure, first_departure
from panscape.export.floors import FLOORS, floor_on_scenes
from panscape.export.int8 import Quantization, held_out, quantize
from panscape.export.onnx import to_onnx
from panscape.export.openvino import write_ir
from panscape.export.parity import ParityReport, compare, geometry_within, synthetic_scenes
from panscape.export.tensorrt import write_engine
from panscape.export.trace import Traced, in_dtype, layer_outputs, trace, trace_module
from panscape.geometry import Size, size_with_longest_side
from panscape.images import ImageSource, to_image_tensor
from panscape.input_files import to_path
from panscape.models import PanopticModel
from panscape.models.prediction import network_input
from panscape.serialization import to_plain
from panscape.zoo.description import describe_model
from panscape.zoo.exported import MapOutputs, load_exported
from panscape.zoo.graph_model import SideRange, inference_facts
from panscape.zoo.graphs import METADATA_KEY, open_graph, require_runtime

Target = Literal["onnx", "openvino", "tensorrt", "torch"]
GraphPrecision = Literal["fp32", "fp16", "bf16", "int8"]
TARGETS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "onnx": (".onnx", ("fp32", "fp16")),
    "openvino": (".xml", ("fp32", "fp16", "bf16", "int8")),
    "tensorrt": (".engine", ("fp32", "fp16")),
    "torch": (".pt2", ("fp32", "bf16")),
}
"""The ending of the file and the precisions of each target."""
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_SIDES = (32, 16384)  # pixels


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        path: the file; the weights of OpenVINO are in ``.bin`` beside it.
        report: the file of the comparison.
        target: its format.
        precision: its numeric precision.
        size: height and width of its images; None for any.
        parity: the comparison with the original.
        quantization: how an int8 model was quantised; None for other precisions.
    """

    path: Path
    report: Path
    target: Target
    precision: GraphPrecision
    size: tuple[int, int] | None
    parity: ParityReport
    quantization: Quantization | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the export and its comparison as plain JSON values, as ``panscape export --json`` prints them."""
        facts = {"to": self.target, "precision": self.precision, "size": self.size}
        files = {"out": self.path, "report": self.report}
        plain: dict[str, Any] = to_plain({**facts, "quantization": self.quantization, **files})
        return {**plain, **to_plain(self.parity)}


def export_model(
    model: PanopticModel,
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    precision: GraphPrecision = "fp32",
    postprocess: Literal["native", "graph"] = "native",
    images: Sequence[ImageSource] | None = None,
    calibration: Sequence[ImageSource] | None = None,
) -> Exported:
    """Export a model for :func:`panscape.load` and other tools, with a report of the comparison beside it.

    The file contains the forward pass, for one image at a time, and the description of the model. It appears at
    ``path`` only when it has passed the comparison.

    Args:
        model: created by :func:`panscape.create_model` or loaded, on the CPU; it stays unchanged but for eval mode.
        path: of the new file: ``.onnx``, ``.xml`` (OpenVINO's, with its weights in ``.bin``), ``.engine`` (TensorRT's,
            built for the CUDA device of this machine) or ``.pt2`` (torch.export).
        size: height and width of the images; smaller ones are padded. None for images of any size, which not every
            network can take.
        precision: numeric precision; :data:`TARGETS` has those of each format, and :data:`FLOORS` what each must reach.
            ONNX has no "bf16", as ONNX Runtime does not compute in it on CPUs; OpenVINO stores weights in 16 bits with
            "fp16", and computes in 32. "int8" is for OpenVINO.
        postprocess: "native", post-processing of panscape, which on CPUs is much faster; "graph", post-processing in
            the graph, for use without panscape, of networks with centres and for one size.
        images: images for the comparison, each as for :meth:`PanopticModel.predict`; None for the held-out images of
            ``calibration``, or else synthetic scenes.
        calibration: images for "int8", like those that the model was trained for, at least 5. Without ``images``, every
            fifth, at most 16, is held out for the comparison.

    Raises:
        InvalidArgumentError: an argument is invalid, the network cannot be exported in this form, or the exported model
            differs from the original by more than the floor allows.
        MissingExtraError: a package of the target is not installed.
        UnwritableFileError: the file cannot be written.
    """
    path = to_path(path)
    form = _Form(_target(path), None if size is None else Size(*size), precision, postprocess)
    _require_options(model, form, calibration)
    require_runtime(form.target, precision)
    if not path.parent.is_dir():
        raise InvalidArgumentError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    described = describe_model(model)
    model.eval()
    traced = _trace(model, form)
    material = _gather_images(images, calibration, form.size, traced.sides)
    is_on_scenes = images is None and calibration is None
    floor = floor_on_scenes(precision, model.card) if is_on_scenes else FLOORS[precision]
    quantization = None
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            written = Path(folder) / path.name
            modules = _write(traced, described | _facts(model, form, traced), written, precision)
            exported = load_exported(written)
            if precision == "int8":
                calibrated = list(map(to_image_tensor, material.calibration))
                quantization = quantize(written, exported, model, calibrated, modules, floor, form.size)
                exported = load_exported(written)
            scenes = map(to_image_tensor, material.images)
            parity = compare(exported, model, scenes, floor=floor, source=material.source, most=form.size)
            if not parity.is_met:
                where = str(quantization)
                if quantization is None:
                    layer = _find_departure(model, form, to_image_tensor(material.images[0]), Path(folder))
                    where = f"they depart first in {layer}, and of the outputs in {parity.first_departure!r}"
                raise _too_different(parity, where)
            _move(written, path)
    except OSError as error:
        if isinstance(error, PanscapeError):
            raise
        raise unwritable(path, error) from error
    report = path.with_name(f"{path.name}.parity.json")
    result = Exported(path, report, form.target, precision, size, parity, quantization)
    write_json(report, result.to_dict())
    return result


class _Form(NamedTuple):
    """What an export is to be."""

    target: Target
    size: Size | None
    precision: GraphPrecision
    postprocess: Literal["native", "graph"]

    @property
    def dtype(self) -> torch.dtype:
        """Numeric type of the traced network; the precisions of OpenVINO are those of its weights or runtime."""
        return torch.float32 if self.target == "openvino" else _DTYPES.get(self.precision, torch.float32)


class _Images(NamedTuple):
    """Images for the comparison, their origin, and those for calibration."""

    images: Sequence[ImageSource]
    source: str
    calibration: Sequence[ImageSource]


def _target(path: Path) -> Target:
    for target in get_args(Target):
        if path.suffix == TARGETS[target][0]:
            return target  # type: ignore[no-any-return]
    endings = ", ".join(f"{ending} for {target}" for target, (ending, _) in TARGETS.items())
    raise InvalidArgumentError(f"expected a file that ends in one of {endings}, got {path}")


def _require_options(model: PanopticModel, form: _Form, calibration: object) -> None:
    target, size, precision, postprocess = form
    precisions = TARGETS[target][1]
    if precision not in precisions:
        others = [name for name, (_, known) in TARGETS.items() if precision in known]
        remedy = f"; export to {others[0]} for {precision}" if others else ""
        raise InvalidArgumentError(f"expected {' or '.join(precisions)} for {target}, got {precision!r}{remedy}")
    if (precision == "int8") != (calibration is not None):
        raise InvalidArgumentError(
            "expected images for calibration (--calibrate DIR) with int8 and not without it, got "
            + ("none" if calibration is None else f"them with {precision}")
        )
    least, most = _SIDES
    if size is not None and not all(least <= side <= most for side in size):
        raise InvalidArgumentError(
            f"expected a size of {least} to {most} pixels on each side, got {'x'.join(map(str, size))}"
        )
    if size is not None and model.longest_side is not None and max(size) > model.longest_side:
        smaller = size_with_longest_side(size, model.longest_side)
        raise InvalidArgumentError(
            f"expected a size of at most {model.longest_side} pixels on the longer side, to which the model downscales "
            f"larger images, got {size.height}x{size.width}, which no image would fill; give --size "
            f"{smaller.height}x{smaller.width}"
        )
    if size is None and (target == "tensorrt" or postprocess == "graph"):
        what = "tensorrt" if target == "tensorrt" else "post-processing in the graph"
        raise InvalidArgumentError(f"expected one size of images with {what}, got any; give --size HxW")
    if postprocess == "graph" and (target == "tensorrt" or precision == "int8"):
        what = "tensorrt, where it is not verified" if target == "tensorrt" else "int8"
        raise InvalidArgumentError(f"expected native post-processing with {what}, got graph; use --postprocess native")
    if model.mean.device.type != "cpu":
        raise InvalidArgumentError(f"expected a model on the CPU, got it on {model.mean.device}; use model.to('cpu')")


def _gather_images(
    images: Sequence[ImageSource] | None,
    calibration: Sequence[ImageSource] | None,
    size: Size | None,
    sides: tuple[SideRange, SideRange],
) -> _Images:
    """Return the images of an export; no image is for both purposes, unless the caller gives it for both."""
    if images is not None:
        if len(images) == 0:
            raise InvalidArgumentError("expected at least one image for the comparison, got none")
        return _Images(images, "given images", calibration or ())
    if calibration is None:
        return _Images(list(synthetic_scenes(sides, size)), "synthetic scenes", ())
    kept = held_out(len(calibration))
    others = [image for i, image in enumerate(calibration) if i not in kept]
    return _Images([calibration[i] for i in kept], "held-out images of the calibration set", others)


def _trace(model: PanopticModel, form: _Form) -> Traced:
    if form.size is None or form.postprocess == "native":
        return trace(model, form.size, dtype=form.dtype)
    whole = CenterMaps(in_dtype(model, form.dtype), form.size)
    return trace_module(whole, list(MapOutputs._fields), form.size, type(model).__name__)


def _too_different(parity: ParityReport, where: str) -> InvalidArgumentError:
    floor = parity.floor
    return InvalidArgumentError(
        f"expected at least {100 * floor.equal_pixels:g} % equal pixels and PQ {100 * floor.pq:g} between the exported "
        f"model and the original, got {100 * parity.equal_pixels:.3f} % and {100 * parity.pq:.2f}; {where}; nothing is "
        "written; use --precision fp32, or images that the model was trained for (--images)"
    )


def _find_departure(model: PanopticModel, form: _Form, image: Tensor, folder: Path) -> Departure:
    """Export the network once more with the outputs of all layers; return the first one that differs on an image."""
    traced = trace(model, form.size, dtype=form.dtype, with_layers=True)
    path = folder / f"layers{TARGETS[form.target][0]}"
    _write(traced, _facts(model, form._replace(postprocess="native"), traced), path, form.precision)
    graph = open_graph(path)
    graph.compile(form.precision)

    batch = network_input([image], [geometry_within(model, image, form.size)], torch.device("cpu"))
    if form.size is not None:
        whole = model.mean.expand(1, 3, *form.size).clone()
        whole[..., : batch.shape[-2], : batch.shape[-1]] = batch
        batch = whole
    with torch.inference_mode(), layer_outputs(model) as layers:
        model(batch)
        expected = {name: x.float().numpy() for name, x in layers.items()}
    found = dict(zip(traced.names, graph.run(batch.numpy()), strict=True))
    return first_departure(list(expected), [found[name] for name in expected], expected, form.precision)


def _facts(model: PanopticModel, form: _Form, traced: Traced) -> dict[str, Any]:
    """Return what the description has beside that of a saved model: facts about the graph and its origin."""
    return {
        "provenance": model.provenance,
        "inference": inference_facts(model),
        "export": {
            **form._asdict(),
            "sides": traced.sides,
            "outputs": traced.names,
            "stride": model.stride,
            "normalization": model.normalization,
            "panscape": version("panscape"),
        },
    }


def _write(traced: Traced, description: dict[str, Any], path: Path, precision: str) -> dict[str, str]:
    """Write a traced network; return the module of each value of its ONNX graph by name."""
    text = json.dumps(description)
    if path.suffix == ".pt2":
        traced.program.example_inputs = None  # an image, which nobody needs
        torch.export.save(traced.program, path, extra_files={METADATA_KEY: text})
        return {}
    plain = path.with_suffix(".onnx")
    graph = to_onnx(traced)
    graph.save(plain, text)
    if path.suffix == ".xml":
        write_ir(plain, path, text, half_weights=precision == "fp16")
    if path.suffix == ".engine":
        write_engine(plain, path, text)
    return graph.modules()


def _move(written: Path, path: Path) -> None:
    """Move a file to its place; of two files, no reader sees a new one with an old one."""
    if path.suffix == ".xml":
        weights = path.with_suffix(".bin")
        if weights.is_dir():
            raise unwritable(weights, IsADirectoryError(errno.EISDIR, "a folder"))
        path.unlink(missing_ok=True)
        os.replace(written.with_suffix(".bin"), weights)  # noqa: PTH105 - as below
    os.replace(written, path)  # noqa: PTH105 - Path.replace reads like str.replace here
