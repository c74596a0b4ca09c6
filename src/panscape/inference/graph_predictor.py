"""Prediction of single images by a graph, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.geometry import ImageGeometry, Size, require_longest_side
from panscape.image_io import upright_size
from panscape.inference.image_predictor import enough_memory, prediction_options
from panscape.inference.sources import SourceFile
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.zoo.graph_model import GraphModel


@dataclass(frozen=True, slots=True)
class GraphPrediction:
    """See :class:`panscape.inference.image_predictor.ImagePrediction`."""

    arrays: MapArrays
    semantic: NDArray[Any]
    network_ms: float
    postprocess_ms: float


class GraphPredictor:
    """See :class:`panscape.inference.image_predictor.ImagePredictor`.

    Its maps are those of :class:`panscape.Predictor`.

    Args:
        model: the graph with all that surrounds it.
        longest_side: see :class:`panscape.Predictor`.

    Raises:
        InvalidArgumentError: the longest side is below 1.
    """

    def __init__(self, model: GraphModel, *, longest_side: int | None = None) -> None:
        require_longest_side(longest_side)
        self.model = model
        self.longest_side = longest_side

    @property
    def labels(self) -> LabelSpace:
        """Label space of the maps."""
        return self.model.labels

    @property
    def card(self) -> Mapping[str, Any]:
        """Facts that are saved with the weights."""
        return self.model.card

    @property
    def provenance(self) -> Mapping[str, Any] | None:
        """What the maps state about the weights."""
        return self.model.provenance

    @property
    def options(self) -> dict[str, Any]:
        """What determines the maps of an image, by name, as plain JSON values."""
        return prediction_options(
            self.model.digest, self.model.decoding, "fp32", self.model.runtime, longest_side=self.longest_side
        )

    def geometry(self, size: Size) -> ImageGeometry:
        """Return the sizes of an image of this size."""
        return self.model.geometry(size, self.longest_side)

    def takes(self, source: SourceFile) -> bool:
        """Return whether a source is no video, and fits the graph; true for files that cannot be read."""
        if source.is_video:
            return False
        if source.fault is not None:
            return True
        try:
            return self.model.takes(self.geometry(upright_size(source.path)))
        except UnreadableFileError:  # reported when it is predicted
            return True

    def warm_up(self, size: Size | None = None) -> None:
        """Prepare the graph for images of a size, and load the kernels that they need.

        Raises:
            InvalidArgumentError: such an image does not fit into memory.
        """
        if size is None:
            self.model.warm_up()
            return
        with enough_memory(size, "cpu"):
            self.model.warm_up(self.geometry(size))

    def predict_array(self, image: NDArray[np.uint8]) -> GraphPrediction:
        """Predict one image, uint8 [3, H, W], red, green, blue.

        Raises:
            InvalidArgumentError: the graph does not take it at its inference size, or it does not fit into memory.
        """
        size = Size(*image.shape[-2:])
        geometry = self.geometry(size)
        started = perf_counter()
        with enough_memory(size, "cpu"):
            outputs = self.model.run(image, geometry)
            decoding = perf_counter()
            found = self.model.decode(outputs, geometry)
        network_ms, postprocess_ms = 1000 * (decoding - started), 1000 * (perf_counter() - decoding)
        return GraphPrediction(found, outputs["semantic"][0], network_ms, postprocess_ms)

    def visualize(self, prediction: GraphPrediction) -> Any:
        """Raise: visualisations of outputs need torch.

        Raises:
            InvalidArgumentError: always.
        """
        raise InvalidArgumentError("expected no visualisations of outputs without torch; install panscape for them")
