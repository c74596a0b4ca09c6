"""Write a model as a graph with everything needed to run it, and compare it with the original."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from panscape.atomic_io import unwritable, write_json
from panscape.errors import InvalidArgumentError, PanscapeError
from panscape.export.onnx import OnnxGraph, to_onnx
from panscape.export.parity import FLOORS, ParityReport, compare, synthetic_scenes
from panscape.geometry import Size
from panscape.images import ImageSource, to_image_tensor
from panscape.input_files import to_path
from panscape.models import PanopticModel
from panscape.serialization import to_plain
from panscape.zoo.description import describe_model
from panscape.zoo.exported import SideRange, load_exported
from panscape.zoo.graphs import METADATA_KEY, require_runtime

Target = Literal["onnx", "openvino"]
GraphPrecision = Literal["fp32", "fp16", "bf16"]
_SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml"}
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
    """

    path: Path
    report: Path
    target: Target
    precision: GraphPrecision
    size: tuple[int, int] | None
    parity: ParityReport

    def to_dict(self) -> dict[str, Any]:
        """Return the export and its comparison as plain JSON values, as ``panscape export --json`` prints them."""
        facts = {"to": self.target, "precision": self.precision, "size": self.size}
        plain: dict[str, Any] = to_plain({**facts, "out": self.path, "report": self.report})
        return {**plain, **to_plain(self.parity)}


def export_model(
    model: PanopticModel,
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    precision: GraphPrecision = "fp32",
    images: Sequence[ImageSource] | None = None,
) -> Exported:
    """Export a model to ONNX or OpenVINO for :func:`panscape.load`, with a report of the comparison beside it.

    The file contains the forward pass, for one image at a time, and the description of the model; post-processing stays
    that of panscape. It appears at ``path`` only when it has passed the comparison.

    Args:
        model: created by :func:`panscape.create_model` or loaded, on the CPU; it stays unchanged but for eval mode.
        path: of the new file, ``.onnx`` or ``.xml`` (OpenVINO's, with its weights in ``.bin``).
        size: height and width of the images; smaller ones are padded. None for images of any size, which not every
            network can take.
        precision: numeric precision. "fp16" and "bf16" need more care than "fp32": see :data:`FLOORS`. ONNX has no
            "bf16", as ONNX Runtime does not compute in it on CPUs; OpenVINO stores weights in 16 bits with "fp16", and
            computes in 32.
        images: images for the comparison, each as for :meth:`PanopticModel.predict`; None for synthetic scenes.

    Raises:
        InvalidArgumentError: an argument is invalid, the network cannot be exported in this form, or the exported model
            differs from the original by more than the floor allows.
        MissingExtraError: a package of the target is not installed.
        UnwritableFileError: the file cannot be written.
    """
    path = to_path(path)
    target = _target(path)
    _require_options(model, target, size, precision)
    require_runtime(target)
    if not path.parent.is_dir():
        raise InvalidArgumentError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    if images is not None and len(images) == 0:
        raise InvalidArgumentError("expected at least one image for the comparison, got none")
    described = describe_model(model)
    model.eval()
    fixed = None if size is None else Size(*size)
    graph = to_onnx(model, fixed, half=precision == "fp16" and target == "onnx")
    description = described | _facts(model, target, size, precision, graph.sides)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            written = Path(folder) / path.name
            _write(graph, description, written, precision)
            exported = load_exported(written)
            parity = compare(
                exported,
                model,
                synthetic_scenes(graph.sides, fixed) if images is None else map(to_image_tensor, images),
                floor=FLOORS[precision],
                source="synthetic scenes" if images is None else "given images",
                most=fixed,
            )
            if not parity.is_met:
                raise InvalidArgumentError(
                    f"expected at least {100 * parity.floor.equal_pixels:g} % equal pixels and PQ "
                    f"{100 * parity.floor.pq:g} between the exported model and the original, got "
                    f"{100 * parity.equal_pixels:.3f} % and {100 * parity.pq:.2f}; they depart first in the output "
                    f"{parity.first_departure!r}; nothing is written; use --precision fp32, or images that the model "
                    "was trained for (--images)"
                )
            _move(written, path)
    except OSError as error:
        if isinstance(error, PanscapeError):
            raise
        raise unwritable(path, error) from error
    report = path.with_name(f"{path.name}.parity.json")
    result = Exported(path, report, target, precision, size, parity)
    write_json(report, result.to_dict())
    return result


def _target(path: Path) -> Target:
    for target in get_args(Target):
        if path.suffix == _SUFFIXES[target]:
            return target  # type: ignore[no-any-return]
    raise InvalidArgumentError(f"expected a file that ends in .onnx, or .xml for OpenVINO, got {path}")


def _require_options(model: PanopticModel, target: Target, size: tuple[int, int] | None, precision: str) -> None:
    if precision not in FLOORS:
        raise InvalidArgumentError(f"expected fp32, fp16 or bf16 as the precision, got {precision!r}")
    if target == "onnx" and precision == "bf16":
        raise InvalidArgumentError(
            "expected fp32 or fp16 for ONNX, got bf16, which ONNX Runtime has not on CPUs; export to openvino"
        )
    least, most = _SIDES
    if size is not None and not all(least <= side <= most for side in size):
        raise InvalidArgumentError(
            f"expected a size of {least} to {most} pixels on each side, got {'x'.join(map(str, size))}"
        )
    if model.mean.device.type != "cpu":
        raise InvalidArgumentError(f"expected a model on the CPU, got it on {model.mean.device}; use model.to('cpu')")


def _facts(
    model: PanopticModel,
    target: Target,
    size: tuple[int, int] | None,
    precision: str,
    sides: tuple[SideRange, SideRange],
) -> dict[str, Any]:
    """Return what the description has beside that of a saved model: facts about the graph and its origin."""
    return {
        "provenance": model.provenance,
        "export": {
            "target": target,
            "size": size,
            "sides": sides,
            "precision": precision,
            "stride": model.stride,
            "normalization": model.normalization,
            "postprocess": "native",
            "panscape": version("panscape"),
        },
    }


def _write(graph: OnnxGraph, description: dict[str, Any], path: Path, precision: str) -> None:
    text = json.dumps(description)
    if path.suffix == ".onnx":
        graph.program.model.metadata_props[METADATA_KEY] = text
        graph.program.save(path, external_data=False)
        return
    from panscape.export.openvino import write_ir

    plain = path.with_suffix(".onnx")
    graph.program.save(plain, external_data=False)
    write_ir(plain, path, text, half_weights=precision == "fp16")


def _move(written: Path, path: Path) -> None:
    """Move a file to its place; of two files, no reader sees a new one with an old one."""
    if path.suffix == ".xml":
        path.unlink(missing_ok=True)
        shutil.move(written.with_suffix(".bin"), path.with_suffix(".bin"))
    os.replace(written, path)  # noqa: PTH105 - Path.replace reads like str.replace here
