"""A network with centres as a graph, with all that surrounds it in inference, and without torch.

Its maps are those of the model that :func:`panscape.load` returns for the same file: the same compiled kernels decode
the same outputs, and resize images for the network.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError, PanscapeError
from panscape.geometry import ImageGeometry, Size, inference_geometry
from panscape.input_files import parse_json
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.ops.resize_cpu import resized_pixels
from panscape.representations.centers.decode_config import CenterDecoding
from panscape.representations.centers.postprocess_cpu import postprocess_centers_cpu
from panscape.serialization import to_plain
from panscape.zoo.graphs import METADATA_KEY, Graph, file_digest, open_graph
from panscape.zoo.saved_files import provenance_of

if TYPE_CHECKING:
    from panscape.models import PanopticModel

_OUTPUTS = ("semantic", "center", "offset")
_FORMATS = (".onnx", ".xml")  # the others need torch


class SideRange(NamedTuple):
    """Smallest and largest length of a side in pixels that a graph takes; None for no limit."""

    least: int
    most: int | None

    def has(self, length: int) -> bool:
        """Return whether the graph takes this length."""
        return self.least <= length and (self.most is None or length <= self.most)

    @property
    def text(self) -> str:
        """The range in words."""
        if self.least == self.most:
            return str(self.least)
        return f"at least {self.least}" if self.most is None else f"{self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class GraphModel:
    """See the top of this module.

    Attributes:
        graph: compiled; its outputs are those of :class:`~panscape.representations.centers.CenterOutputs`.
        runtime: what runs it, with its precision.
        labels: label space of the maps.
        decoding: post-processing options.
        output_stride: input pixels per output cell.
        longest_side: see :class:`~panscape.models.PanopticModel`.
        test_scale: likewise.
        sides: range of the heights and widths that the graph takes.
        digest: of the network, see :func:`panscape.models.digest.network_digest`.
        card: facts that are saved with the weights.
        provenance: what the maps state about the weights.
        agreement: share of the pixels of its maps that are as in torch, if it was converted for this start.
    """

    graph: Graph
    runtime: str
    labels: LabelSpace
    decoding: CenterDecoding
    output_stride: int
    longest_side: int | None
    test_scale: float
    sides: tuple[SideRange, SideRange]
    digest: str
    card: Mapping[str, Any]
    provenance: Mapping[str, Any] | None
    agreement: float | None = None

    @classmethod
    def of(
        cls,
        graph: Graph,
        precision: str,
        description: Mapping[str, Any],
        sides: tuple[SideRange, SideRange],
        digest: str,
        name: str,
    ) -> Self:
        """Return the model of a graph.

        Args:
            graph: compiled.
            precision: of the graph.
            description: has ``inference``, see :func:`inference_facts`, ``labels``, ``model`` and ``card``.
            sides: range of the heights and widths that the graph takes.
            digest: of the network.
            name: name or path by which the model was loaded.

        Raises:
            KeyError: a part of the description is missing.
            TypeError: a part of it is of another kind.
            PanscapeError: a value is invalid.
        """
        facts = description["inference"]
        return cls(
            graph,
            f"{graph.runtime}, {precision}",
            LabelSpace.from_dict(description["labels"]),
            CenterDecoding(**facts["decoding"]),
            facts["output_stride"],
            facts["longest_side"],
            facts["test_scale"],
            sides,
            digest,
            description["card"],
            provenance_of(name, description["model"], description["card"]),
        )

    def geometry(self, size: Size, longest_side: int | None = None) -> ImageGeometry:
        """Return the sizes of an image; see :meth:`panscape.PanopticModel.geometry`."""
        return inference_geometry(size, self.longest_side, self.test_scale, longest_side)

    def takes(self, geometry: ImageGeometry) -> bool:
        """Return whether the graph takes an image of these sizes; with torch, smaller ones may be padded."""
        return all(side.has(length) for side, length in zip(self.sides, geometry.inference_size, strict=True))

    def run(self, image: NDArray[np.uint8], geometry: ImageGeometry) -> dict[str, NDArray[Any]]:
        """Return the outputs of the network for an image, uint8 [3, H, W], by name.

        Raises:
            InvalidArgumentError: see :meth:`takes`.
        """
        if not self.takes(geometry):
            height, width = self.sides
            raise InvalidArgumentError(
                f"without torch, the graph takes images {height.text} pixels high and {width.text} wide, and this one "
                f"of {geometry.size.height}x{geometry.size.width} would enter it at "
                f"{geometry.inference_size.height}x{geometry.inference_size.width}; give another longest side, or "
                "install panscape"
            )
        outputs = self.graph.run(resized_pixels(image, geometry.inference_size)[None])
        return dict(zip(self.graph.outputs, outputs, strict=True))

    def warm_up(self, geometry: ImageGeometry | None = None) -> None:
        """Prepare the graph for images of these sizes, and load the kernels that they need."""
        seen = Size(2 * self.output_stride, 2 * self.output_stride)
        tiny = ImageGeometry.of(seen)
        if geometry is not None:
            self.graph.prepare(geometry.inference_size)
            if geometry.is_resized:
                tiny = ImageGeometry.of((2 * seen.height, 2 * seen.width), seen)
        resized_pixels(np.zeros((3, *tiny.size), np.uint8), tiny.inference_size)
        nothing = {"semantic": len(self.labels), "center": 1, "offset": 2}
        outputs = {name: np.zeros((1, channels, 2, 2), np.float32) for name, channels in nothing.items()}
        self.decode(outputs, tiny)

    def decode(self, outputs: Mapping[str, NDArray[Any]], geometry: ImageGeometry) -> MapArrays:
        """Return the map of the outputs of :meth:`run`, at the size of the image."""
        semantic, center, offset = (np.asarray(outputs[name][0], np.float32) for name in _OUTPUTS)
        height, width = semantic.shape[-2:]
        padded = geometry.padded_to((height * self.output_stride, width * self.output_stride))
        found = postprocess_centers_cpu(semantic, center[0], offset, padded, self.labels.thing_ids, self.decoding)
        return replace(found, labels=self.labels, provenance=self.provenance)


def inference_facts(model: PanopticModel) -> dict[str, Any] | None:
    """Return what :class:`GraphModel` needs of a model beside its graph; None if it has other outputs than centres."""
    center_model = importlib.import_module("panscape.models.center_model")  # needs torch, as the model does
    if not isinstance(model, center_model.CenterModel):
        return None
    return {
        "decoding": to_plain(model.decoding),
        "output_stride": model.output_stride,
        "longest_side": model.longest_side,
        "test_scale": model.test_scale,
    }


def open_exported(path: Path) -> GraphModel | None:
    """Open an exported model without torch; None if it needs torch, or for files with which something is wrong.

    :func:`panscape.zoo.load` takes all of them, and has the errors.
    """
    if path.suffix not in _FORMATS or not path.is_file():
        return None
    try:
        graph = open_graph(path)
        description = parse_json(path, graph.metadata[METADATA_KEY].encode())
        export = description["export"]
        if description.get("inference") is None or set(graph.outputs) != set(_OUTPUTS):
            return None
        size, (height, width) = export["size"], export["sides"]
        if size is not None:  # smaller images are padded
            height, width = [size[0], size[0]], [size[1], size[1]]
        graph.compile(export["precision"])
        sides = SideRange(*height), SideRange(*width)
        return GraphModel.of(graph, export["precision"], description, sides, file_digest(path)[:16], str(path))
    except (AttributeError, LookupError, TypeError, ValueError, PanscapeError):
        return None
