"""What predicts the images of a run: a model in torch, or a graph without torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from panscape.geometry import Size
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.memory import explain_out_of_memory
from panscape.serialization import to_plain
from panscape.version import VERSION


def enough_memory(size: Size, device: object) -> AbstractContextManager[None]:
    """Explain the error of an image of this size that does not fit into the memory of a device."""
    return explain_out_of_memory(
        f"an image of {size.height}x{size.width}", device, "give a smaller longest side, or another device"
    )


def prediction_options(
    digest: str, decoding: object, precision: str, runtime: str, *, longest_side: int | None
) -> dict[str, Any]:
    """Return what determines the maps of an image, by name, as plain JSON values.

    Args:
        digest: of the network.
        decoding: post-processing options, a dataclass.
        precision: numeric precision of torch; "fp32" for other runtimes, whose own is part of ``runtime``.
        runtime: what runs the network.
        longest_side: to which images are resized, in pixels.
    """
    return {
        "model": digest,
        "decode": to_plain(decoding),
        "precision": precision,
        "runtime": runtime,
        "max_size": longest_side,
        "panscape": VERSION,
    }


class ImagePrediction(Protocol):
    """A predicted image with timings."""

    @property
    def arrays(self) -> MapArrays:
        """The map, at the size of the image."""

    @property
    def semantic(self) -> NDArray[Any] | None:
        """Logits of the categories, float [C, h, w]; None if the network has none."""

    @property
    def network_ms(self) -> float:
        """Time of preprocessing and the forward pass, milliseconds."""

    @property
    def postprocess_ms(self) -> float:
        """Time of post-processing, milliseconds."""


class ImagePredictor(Protocol):
    """Predicts images one at a time: :class:`panscape.Predictor`, or one that needs no torch."""

    @property
    def labels(self) -> LabelSpace:
        """Label space of the maps."""

    @property
    def card(self) -> Mapping[str, Any]:
        """Facts that are saved with the weights."""

    @property
    def provenance(self) -> Mapping[str, Any] | None:
        """What the maps state about the weights."""

    @property
    def options(self) -> dict[str, Any]:
        """What determines the maps of an image, by name, as plain JSON values."""

    def warm_up(self, size: Size | None = None) -> None:
        """Load libraries and kernels before the first real image; ``size`` is its size."""

    def predict_array(self, image: NDArray[np.uint8]) -> ImagePrediction:
        """Predict one image, uint8 [3, H, W], red, green, blue."""

    def visualize(self, prediction: Any) -> Any:
        """Visualise the outputs of a prediction of this predictor, as images by name."""
