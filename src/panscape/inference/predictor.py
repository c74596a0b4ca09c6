"""Prediction of single images: device, precision, inference size and timing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from panscape.geometry import ImageGeometry, Size, require_longest_side
from panscape.images import ImageSource, to_image_tensor
from panscape.inference.device import choose_device
from panscape.inference.image_predictor import enough_memory, prediction_options
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.models import PanopticModel
from panscape.models.digest import network_digest
from panscape.models.prediction import NETWORK, POST_PROCESS, PREPROCESS, TimedPrediction, predict_timed
from panscape.panoptic import PanopticMap
from panscape.precision import Precision, autocast, require_precision
from panscape.stopwatch import Stopwatch

_CATEGORIES_SHOWN = 2  # in visualisations of features


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predicted map of an image, with network input, outputs and timings.

    Attributes:
        map: the panoptic map on the CPU, of the image's size.
        outputs: the outputs of the network, a batch of one, on its device.
        images: the network input, float [1, 3, H, W], on its device.
        geometry: sizes of the image.
        network_ms: time of preprocessing and the forward pass, milliseconds.
        postprocess_ms: time of post-processing, milliseconds.
    """

    map: PanopticMap
    outputs: Any
    images: Tensor
    geometry: ImageGeometry
    network_ms: float
    postprocess_ms: float

    @property
    def arrays(self) -> MapArrays:
        """The map as arrays."""
        return self.map.arrays()

    @property
    def semantic(self) -> NDArray[Any] | None:
        """Logits of the categories, float32 [C, h, w]; None if the network has none."""
        semantic = getattr(self.outputs, "semantic", None)
        if semantic is None or not semantic.is_floating_point():
            return None
        logits: NDArray[Any] = semantic[0].float().cpu().numpy()
        return logits


class Predictor:
    """Predicts images one at a time.

    Args:
        model: moved to the device and set to eval mode.
        device: "auto" (CUDA if available, else the CPU), or a torch device name such as "cuda:1".
        precision: numeric precision of the forward pass; "bf16" and "fp16" use autocast, "fp16" not on the CPU.
        channels_last: use the channels-last memory format, which is faster on some processors; results are equal up to
            rounding.
        longest_side: resize the image so that its longer side has this many pixels, and the map back to the image's
            size; None uses the inference size of the model, which downscales images larger than its training size.

    Raises:
        InvalidArgumentError: an option has an invalid value, or the device is not available.
    """

    def __init__(
        self,
        model: PanopticModel,
        *,
        device: str = "auto",
        precision: Precision = "fp32",
        channels_last: bool = False,
        longest_side: int | None = None,
    ) -> None:
        require_longest_side(longest_side)
        self.device = choose_device(device, model)
        require_precision(precision, self.device)
        self.precision = precision
        self.longest_side = longest_side
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = model.to(self.device).eval()
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)

    @property
    def labels(self) -> LabelSpace:
        """Label space of the maps."""
        return self.model.labels

    @property
    def card(self) -> dict[str, Any]:
        """Facts that are saved with the weights."""
        return self.model.card

    @property
    def provenance(self) -> dict[str, Any] | None:
        """What the maps state about the weights."""
        return self.model.provenance

    @property
    def options(self) -> dict[str, Any]:
        """What determines the maps of an image, by name, as plain JSON values; weights as a digest."""
        return prediction_options(
            network_digest(self.model),
            self.model.decoding,
            self.precision,
            self.model.runtime,
            longest_side=self.longest_side,
        )

    def warm_up(self, size: Size | None = None) -> None:
        """Predict an empty image, so that libraries and kernels are loaded before the first real one.

        Kernels that have never run are compiled here, once, which takes seconds.

        Args:
            size: of the first real image, for runtimes other than torch, which prepare a network for a size; in torch,
                and by default, the image is small.

        Raises:
            InvalidArgumentError: the device is out of memory.
        """
        geometry = ImageGeometry.of(self.model.warm_up_size)
        if size is not None and not self.model.runtime.startswith("torch"):
            geometry = self.model.geometry(size, self.longest_side)
        self._predict(torch.zeros(3, *geometry.size, dtype=torch.uint8), geometry)

    def predict(self, image: ImageSource, *, scored: bool = False) -> Prediction:
        """Predict one image.

        Args:
            image: a path, PIL image, array [H, W, 3] or tensor [3, H, W], red, green, blue; see
                :func:`panscape.images.to_image_tensor`.
            scored: add the scores for average precision to the segments, see :meth:`PanopticModel.score_instances`.

        Raises:
            InvalidArgumentError: the image is not of a supported type, or does not fit into memory.
            UnreadableFileError: a path cannot be read.
        """
        image = to_image_tensor(image)
        return self._predict(image, self.model.geometry(Size(*image.shape[-2:]), self.longest_side), scored)

    def predict_array(self, image: NDArray[np.uint8]) -> Prediction:
        """Predict one image, uint8 [3, H, W]; see :meth:`predict`."""
        return self.predict(torch.from_numpy(image))

    @torch.inference_mode()
    def predict_batch(
        self, images: Sequence[Tensor], watch: Stopwatch, geometries: Sequence[ImageGeometry] = (), scored: bool = False
    ) -> TimedPrediction:
        """Predict images of one inference size in one forward pass, and measure the stages.

        Args:
            images: uint8 [3, H, W], red, green, blue.
            watch: receives the stages of :func:`panscape.models.prediction.predict_timed`.
            geometries: sizes of each image; by default those of the model and ``longest_side``.
            scored: see :meth:`predict`.

        Returns:
            The maps, on the CPU, with input and outputs of the network on its device.

        Raises:
            InvalidArgumentError: the device is out of memory.
        """
        geometries = geometries or [self.model.geometry(Size(*i.shape[-2:]), self.longest_side) for i in images]
        with enough_memory(geometries[0].size, self.device):
            found = predict_timed(
                self.model,
                images,
                geometries,
                self.device,
                watch,
                precision=self._autocast(),
                layout=self._layout,
                scored=scored,
                map_device=torch.device("cpu"),
            )
        return found._replace(maps=[each.with_provenance(self.model.provenance) for each in found.maps])

    def _predict(self, image: Tensor, geometry: ImageGeometry, scored: bool = False) -> Prediction:
        watch = Stopwatch(self.device)
        batch, outputs, (result,) = self.predict_batch([image], watch, [geometry], scored)
        times = {stage: 1000 * seconds for stage, seconds in watch.elapsed.items()}
        network_ms = times[PREPROCESS] + times[NETWORK]
        return Prediction(result, outputs, batch, geometry, network_ms, times[POST_PROCESS])

    @torch.inference_mode()
    def visualize(self, prediction: Prediction) -> dict[str, Tensor]:
        """Visualise the network's outputs, by name, as uint8 [3, H, W] images of the map's size.

        If the network can visualise features, they are shown for the two largest categories of the map, things before
        stuff; this needs a second forward pass.

        Raises:
            InvalidArgumentError: the device is out of memory.
        """
        size, labels = prediction.map.size, self.model.labels
        images = self.model.visualize(prediction.outputs, prediction.geometry.inference_size)
        images = {name: _resize(image, size) for name, image in images.items()}
        categories = largest_categories(prediction.map, labels)[:_CATEGORIES_SHOWN]
        with enough_memory(size, self.device), self._autocast():
            return images | self.model.visualize_features(prediction.images, size, categories)

    def _autocast(self) -> torch.autocast:
        return autocast(self.precision, self.device)


def largest_categories(result: PanopticMap, labels: LabelSpace) -> list[int]:
    """Return the categories of a map on the CPU: things before stuff, each sorted by descending area."""
    areas = torch.zeros(len(labels), dtype=torch.int64).index_add_(0, result.category, result.areas()).tolist()
    shown = [category for category, area in enumerate(areas) if area > 0]
    return sorted(shown, key=lambda category: (not labels[category].is_thing, -areas[category]))


def _resize(image: Tensor, size: Size) -> Tensor:
    if tuple(image.shape[1:]) == tuple(size):
        return image
    return F.interpolate(image[None], tuple(size), mode="nearest")[0]
