"""Weights in Darknet's format: a header and the float32 values of all convolutions in the order of the network.

Files of YOLOv3 (``yolov3.weights``) and of its body alone (``darknet53.conv.74``), read and written bit for bit.
"""

from __future__ import annotations

import copy
import logging
import re
import struct
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.input_files import require_file
from panscape.models import PanopticModel
from panscape.nn.darknet import DARKNET_SLOPE, Darknet
from panscape.nn.yolov3 import YoloHead, YoloV3
from panscape.zoo.transfer import unique_state_dict

_logger = logging.getLogger(__name__)

_NAMED = re.compile(r".+(\.weights|\.backup|\.conv\.\d+)")
_NORMALIZATION = "unit"
_COCO_CATEGORIES = 80
_VERSION = struct.Struct("<3i")
_LONGEST_VERSION = 1000  # larger numbers flag transposed layers, which these networks lack, or another kind of file


class DarknetHeader(NamedTuple):
    """The header of a file.

    Attributes:
        major, minor, revision: version of the format.
        seen: number of images that the network was trained with; 8 bytes from version 0.2 on, before that 4.
    """

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def seen_format(self) -> struct.Struct:
        """The format of the number of images."""
        return struct.Struct("<Q" if self.major * 10 + self.minor >= 2 else "<I")


class DarknetWeights(NamedTuple):
    """A file's content.

    Attributes:
        header: the header.
        values: all values behind it, float32 [N].
        path: the file, for messages.
    """

    header: DarknetHeader
    values: Tensor
    path: Path


_DEFAULT_HEADER = DarknetHeader()


def is_darknet_file(path: Path) -> bool:
    """Return whether a file's name is one of Darknet's: ``*.weights``, ``*.backup``, ``*.conv.N`` of first layers."""
    return _NAMED.fullmatch(path.name) is not None


def read_darknet(path: Path) -> DarknetWeights:
    """Read a file of Darknet's weights.

    Raises:
        UnreadableFileError: the file is missing, or not such a file.
    """
    require_file(path)
    with path.open("rb") as file:
        head = file.read(20)
    header = DarknetHeader(*_VERSION.unpack_from(head.ljust(20, b"\0")))
    if not (0 <= header.major < _LONGEST_VERSION and 0 <= header.minor < _LONGEST_VERSION):
        raise UnreadableFileError(
            path,
            "expected Darknet's weights, but the file does not begin with a version of theirs (a web page or an "
            "archive, perhaps); unpack it or download it again",
        )
    size = _VERSION.size + header.seen_format.size
    if len(head) < size:
        raise UnreadableFileError(path, f"expected Darknet's weights, got {len(head)} bytes; download it again")
    header = header._replace(seen=header.seen_format.unpack_from(head, _VERSION.size)[0])
    num_bytes = path.stat().st_size - size
    if num_bytes % 4:
        raise UnreadableFileError(
            path,
            f"expected values of 4 bytes after the header of {size}, got {num_bytes} bytes, the last {num_bytes % 4} "
            "left over; download it again",
        )
    values = np.fromfile(path, "<f4", offset=size).astype(np.float32, copy=False)
    return DarknetWeights(header, torch.from_numpy(values), path)


def darknet_tensors(*parts: nn.Module) -> list[Tensor]:
    """Return the tensors of networks in the order of Darknet's files.

    Convolutions are in the order of registration. Each has the shift, scale, mean and variance of its norm, or else its
    bias, and its weight.
    """
    layers: list[tuple[nn.Conv2d, nn.Module | None]] = []
    for module in (module for part in parts for module in part.modules()):
        if isinstance(module, nn.Conv2d):
            layers.append((module, None))
        elif isinstance(getattr(module, "running_var", None), Tensor):  # a BatchNorm, frozen or not
            layers[-1] = (layers[-1][0], module)
    tensors = []
    for conv, norm in layers:
        if norm is None:
            tensors.append(cast(Tensor, conv.bias))
        else:
            tensors += [cast(Tensor, getattr(norm, n)) for n in ("bias", "weight", "running_mean", "running_var")]
        tensors.append(conv.weight)
    return tensors


def load_darknet(
    weights: DarknetWeights, body: Darknet, head: YoloHead | None = None, *, with_predictors: bool = True
) -> list[Tensor]:
    """Copy a file's weights into a network, which stays unchanged unless all of them fit.

    Args:
        weights: the file.
        body: the body.
        head: the layers after it, for files of the whole detector; None for those of the body alone, whose classifier
            is ignored.
        with_predictors: False leaves the layers unchanged whose shape depends on the number of categories, so that a
            network for other categories can start from the others.

    Returns:
        The network's tensors that were copied.

    Raises:
        UnreadableFileError: bytes are missing or left over, or values are not finite.
        InvalidArgumentError: the activations have another slope than Darknet's.
    """
    _require_slope(body, weights.path)
    tensors = darknet_tensors(*filter(None, (body, head)))
    sizes = [tensor.numel() for tensor in tensors]
    skipped = set[int]()
    if head is not None and not with_predictors:
        own = {id(t) for layer in head.predictors for t in (layer.bias, layer.weight)}
        skipped = {i for i, tensor in enumerate(tensors) if id(tensor) in own}
        categories = num_categories(weights, body, head)
        per_row = head.num_anchors * (5 + head.num_categories)
        for i in skipped:
            sizes[i] = sizes[i] // per_row * head.num_anchors * (5 + categories)
    values = weights.values
    difference = len(values) - sum(sizes)
    if head is None and difference == _classifier_size(body):
        values = values[: sum(sizes)]
    elif difference:
        raise UnreadableFileError(weights.path, _mismatch(weights, difference, sum(sizes), body, head))
    if not values.isfinite().all():
        raise UnreadableFileError(weights.path, "expected finite values, got nan or infinite ones; download it again")
    with torch.no_grad():
        for i, part in enumerate(torch.split(values, sizes)):
            if i not in skipped:
                tensors[i].copy_(part.reshape(tensors[i].shape))
    return [tensor for i, tensor in enumerate(tensors) if i not in skipped]


def num_categories(weights: DarknetWeights, body: Darknet, head: YoloHead) -> int:
    """Return the number of categories of a file of a whole detector.

    Args:
        weights: the file.
        body: a body like the file's.
        head: likewise, for any number of categories.

    Raises:
        UnreadableFileError: bytes are missing or left over for every number of categories.
    """
    without, each = _sizes(body, head)
    found, left = divmod(len(weights.values) - without, each)
    if found < 1 or left:
        nearest = max(1, found)
        expected = without + nearest * each
        raise UnreadableFileError(weights.path, _difference(len(weights.values), expected, f"{nearest} categories"))
    return found


def write_darknet(
    path: Path, body: Darknet, head: YoloHead | None = None, header: DarknetHeader = _DEFAULT_HEADER
) -> None:
    """Write a network's weights in Darknet's format.

    Args:
        path: the file to write.
        body: the body.
        head: the layers after it; None for a file of the body alone.
        header: the header, by default that of a network that has seen no images. That of the file that the weights
            were read from gives the same bytes again.

    Raises:
        InvalidArgumentError: the activations have another slope than Darknet's, or the header cannot be written.
        PanscapeError: as :func:`panscape.atomic_io.atomic_write`.
    """
    _require_slope(body, path)
    try:
        beginning = _VERSION.pack(*header[:3]) + header.seen_format.pack(header.seen)
    except struct.error as error:
        raise InvalidArgumentError(
            f"expected a header with seen in 0 ... {256**header.seen_format.size - 1} for version "
            f"{header.major}.{header.minor}, got {header}; from version 0.2 on it has 8 bytes"
        ) from error
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(beginning)
        for tensor in darknet_tensors(*filter(None, (body, head))):
            file.write(tensor.detach().cpu().float().numpy().astype("<f4", copy=False).tobytes())


def fill_from_darknet(
    model: PanopticModel | YoloV3, path: Path, *, with_predictors: bool | None = True
) -> list[Tensor]:
    """Copy a file's weights into a model's backbone, and those of a whole detector also into its head.

    Args:
        model: the model, with a Darknet as backbone, built for Darknet's weights; or the detector alone.
        path: the file.
        with_predictors: see :func:`load_darknet`; None leaves them unchanged if the file has other categories.

    Returns:
        The model's tensors that were copied.

    Raises:
        UnreadableFileError: see :func:`load_darknet`.
        InvalidArgumentError: the model has another backbone, or other activations or another input normalisation.
    """
    weights = read_darknet(path)
    bodies = [module for module in model.modules() if isinstance(module, Darknet)]
    head = next((module for module in model.modules() if isinstance(module, YoloHead)), None)
    if not bodies:
        raise InvalidArgumentError(
            f"expected a model on Darknet-53 for {path}, got {type(model).__name__} on another backbone; build it with "
            'the backbone "darknet53"'
        )
    if isinstance(model, PanopticModel) and model.normalization != _NORMALIZATION:
        raise InvalidArgumentError(
            f'expected a model with normalization "{_NORMALIZATION}" for {path}, got one with '
            f"{model.normalization!r}; build it for Darknet's weights (--model.weights darknet)"
        )
    size = sum(tensor.numel() for tensor in darknet_tensors(bodies[0]))
    if len(weights.values) in (size, size + _classifier_size(bodies[0])):
        if isinstance(model, YoloV3):
            _logger.warning("%s has weights of the body alone; the layers after it stay as they were", path)
        head = None
    if head is not None and with_predictors is None:
        with_predictors = num_categories(weights, bodies[0], head) == head.num_categories
    return [
        tensor for body in bodies for tensor in load_darknet(weights, body, head, with_predictors=bool(with_predictors))
    ]


def darknet_state(path: Path, start_of: PanopticModel) -> dict[str, Tensor]:
    """Return a file's tensors under the names of the model that training will start with them.

    Norms also have counters of training steps, which Darknet's files lack: those of the model.

    Args:
        path: the file.
        start_of: the model; if it has other categories than the file, the layers for them are left out.

    Raises:
        PanscapeError: as :func:`fill_from_darknet`.
    """
    model = copy.deepcopy(start_of)
    filled = {id(tensor) for tensor in fill_from_darknet(model, path, with_predictors=None)}
    state = unique_state_dict(model)
    names = {name for name, tensor in state.items() if id(tensor) in filled}
    names |= {name.replace(".running_mean", ".num_batches_tracked") for name in names}
    return {name: tensor.detach() for name, tensor in state.items() if name in names}


def _require_slope(body: Darknet, path: Path) -> None:
    if body.negative_slope != DARKNET_SLOPE:
        raise InvalidArgumentError(
            f"expected a body with activations of slope {DARKNET_SLOPE} for {path}, got {body.negative_slope:g}; "
            f"build it with negative_slope={DARKNET_SLOPE}"
        )


def _classifier_size(body: Darknet) -> int:
    """Return the number of values of the classifier of ImageNet's 1000 categories, the last layer of its files."""
    return 1000 * (body.channels[-1] + 1)


def _sizes(body: Darknet, head: YoloHead) -> tuple[int, int]:
    """Return the number of values without those of categories, and of each category."""
    each = sum(head.num_anchors * (layer.in_channels + 1) for layer in head.predictors)
    total = sum(tensor.numel() for tensor in darknet_tensors(body, head))
    return total - head.num_categories * each, each


def _mismatch(weights: DarknetWeights, difference: int, expected: int, body: Darknet, head: YoloHead | None) -> str:
    if head is None:
        return _difference(len(weights.values), expected, "a body alone")
    without, each = _sizes(body, head)
    found, left = divmod(len(weights.values) - without, each)
    text = _difference(len(weights.values), expected, f"{head.num_categories} categories")
    if found >= 1 and not left:
        text = f"{text.rpartition('; ')[0]}: it is of {found} categories; build the network with as many: "
        text += f"YoloV3({found})"
        text += ', or detector="coco_panoptic" in a panoptic network' * (found == _COCO_CATEGORIES)
    return text


def _difference(found: int, expected: int, what: str) -> str:
    kind = "missing" if found < expected else "left over"
    return (
        f"expected {expected:,} values for {what}, got {found:,}, {4 * abs(found - expected):,} bytes {kind}; "
        "download it again, or pass a file of this network"
    )
