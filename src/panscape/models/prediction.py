"""The forward pass in inference: images of any sizes to the outputs of a network, in batches of one inference size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry, Size
from panscape.images import resize_images
from panscape.ops.resize_cpu import resized_pixels
from panscape.stopwatch import Stopwatch

if TYPE_CHECKING:
    from panscape.models.base import PanopticModel
    from panscape.panoptic import PanopticMap

PREPROCESS, NETWORK, POST_PROCESS = "preprocess", "network", "postprocess"
"""The stages of :func:`predict_timed`."""


class ImageBatch(NamedTuple):
    """Images of one inference size, for one forward pass.

    Attributes:
        numbers: positions of the images in the input.
        images: each uint8 [3, H, W] of its own size.
        geometries: sizes of each image.
    """

    numbers: tuple[int, ...]
    images: tuple[Tensor, ...]
    geometries: tuple[ImageGeometry, ...]


class NetworkResult(NamedTuple):
    """The result of one forward pass.

    Attributes:
        images: the network's input before padding, float [B, 3, h, w] in 0..1.
        outputs: its outputs for this batch.
    """

    images: Tensor
    outputs: Any


def require_network_input(images: object) -> None:
    """Check what is given to a network.

    Raises:
        InvalidArgumentError: it is not a batch of images, float [B, 3, H, W].
    """
    if isinstance(images, Tensor) and images.ndim == 4 and images.shape[1] == 3 and images.is_floating_point():
        return
    given = f"{images.dtype} {list(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
    raise InvalidArgumentError(
        f"expected the input of a network, float [B, 3, H, W] in 0..1, got {given}; model.predict takes paths, PIL "
        "images, arrays and uint8 tensors, and returns maps"
    )


def batches_of_one_size(
    images: Iterable[Tensor], geometry: Callable[[Size], ImageGeometry], batch_size: int
) -> Iterator[ImageBatch]:
    """Group images by inference size, and yield each group when it is full; the others follow at the end.

    Images are read as they are needed: fewer than ``batch_size`` of each inference size are held at a time.

    Args:
        images: uint8 [3, H, W], each of its own size.
        geometry: returns the sizes of an image by its own size, such as :meth:`PanopticModel.geometry`.
        batch_size: maximum number of images of a batch, at least 1.

    Raises:
        InvalidArgumentError: the batch size is below 1.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InvalidArgumentError(f"expected batch_size as an integer of at least 1, got {batch_size!r}")
    waiting: dict[Size, list[tuple[int, Tensor, ImageGeometry]]] = {}
    for number, image in enumerate(images):
        sizes = geometry(Size(*image.shape[-2:]))
        group = waiting.setdefault(sizes.inference_size, [])
        group.append((number, image, sizes))
        if len(group) == batch_size:
            yield ImageBatch(*zip(*waiting.pop(sizes.inference_size), strict=True))
    for group in waiting.values():
        yield ImageBatch(*zip(*group, strict=True))


def run_network(
    network: nn.Module,
    images: Sequence[Tensor],
    geometries: Sequence[ImageGeometry],
    device: torch.device,
    *,
    precision: AbstractContextManager[Any] | None = None,
    layout: torch.memory_format = torch.contiguous_format,
) -> NetworkResult:
    """Resize images of one inference size, move them to the device and run the network on them.

    All predictions of this package run the network by this function or :func:`predict_timed`.

    Args:
        network: in eval mode.
        images: uint8 [3, H, W], each of its own size.
        geometries: sizes of each image; all have the same inference size.
        device: device of the network.
        precision: context of the forward pass, see :func:`panscape.precision.autocast`; None for none.
        layout: memory format of the network's input.
    """
    batch = network_input(images, geometries, device, layout)
    with precision or nullcontext():
        return NetworkResult(batch, network(batch))


def network_input(
    images: Sequence[Tensor],
    geometries: Sequence[ImageGeometry],
    device: torch.device,
    layout: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Return images as the input of a network before padding, float [B, 3, h, w] in 0..1; see :func:`run_network`."""
    inputs = [
        _resized(image, geometry.inference_size, device) for image, geometry in zip(images, geometries, strict=True)
    ]
    batch = inputs[0] if len(inputs) == 1 else torch.cat(inputs)
    return batch.contiguous(memory_format=layout)


def _resized(image: Tensor, size: Size, device: torch.device) -> Tensor:
    """Return an image, uint8 [3, H, W], as a batch of one at this size, float32 in 0..1 on the device."""
    if device.type == "cpu":
        return torch.from_numpy(resized_pixels(image.cpu().numpy(), size))[None]
    return resize_images(image[None].to(device).float() / 255, size)


class TimedPrediction(NamedTuple):
    """Maps with what they were decoded from.

    Attributes:
        images: the network's input before padding, float [B, 3, h, w] in 0..1.
        outputs: the outputs of the network.
        maps: one map per image.
    """

    images: Tensor
    outputs: Any
    maps: list[PanopticMap]


def predict_timed(
    model: PanopticModel,
    images: Sequence[Tensor],
    geometries: Sequence[ImageGeometry],
    device: torch.device,
    watch: Stopwatch,
    *,
    precision: AbstractContextManager[Any] | None = None,
    layout: torch.memory_format = torch.contiguous_format,
    scored: bool = False,
    map_device: torch.device | None = None,
) -> TimedPrediction:
    """Predict images of one inference size, and measure the stages.

    Preprocessing is resizing, the conversion to floats and the transfer to the device. The network includes its own
    normalisation and padding. Post-processing lasts from the outputs to maps on ``map_device``.

    Args:
        model: in eval mode.
        images: as for :func:`run_network`, like the following arguments.
        geometries: see there.
        device: see there.
        watch: receives the stages :data:`PREPROCESS`, :data:`NETWORK` and :data:`POST_PROCESS`.
        precision: see there.
        layout: see there.
        scored: as for :meth:`PanopticModel.postprocess`.
        map_device: device of the maps; by default that of the outputs.
    """
    batch = network_input(images, geometries, device, layout)
    watch.lap(PREPROCESS)
    with precision or nullcontext():
        outputs = model(batch)
    watch.lap(NETWORK)
    maps = model.postprocess(outputs, geometries, scored=scored)
    if map_device is not None:
        maps = [found.to(map_device) for found in maps]
    watch.lap(POST_PROCESS)
    return TimedPrediction(batch, outputs, maps)
