"""Checks and conversions of what post-processing of any network receives."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError, listed, shown
from panscape.geometry import ImageGeometry
from panscape.labels import Category, LabelSpace, generated_color
from panscape.panoptic import PanopticMap

Array = Tensor | NDArray[Any]
Sides = tuple[int, int]


def to_tensor(name: str, value: Array, expected: str) -> Tensor:
    """Return a tensor that shares memory with the given tensor or array where possible."""
    if isinstance(value, Tensor):
        return value.detach()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        got = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise InvalidArgumentError(f"expected {name} as a torch tensor or NumPy array, {expected}, got {got}")
    # torch reads neither negative strides nor swapped bytes, and warns of memory that it must not write.
    array = np.ascontiguousarray(value, value.dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def floats(name: str, value: Array, axes: str, remedy: str = "") -> Tensor:
    """Return a float32 tensor with these axes; those that are numbers have this length."""
    tensor = to_tensor(name, value, f"float [{axes}]")
    _require_form(name, tensor, f"float [{axes}]", tensor.is_floating_point(), axes, remedy)
    return tensor.float()


def integers(name: str, value: Array, axes: str) -> Tensor:
    """Return an int64 tensor with these axes."""
    tensor = to_tensor(name, value, f"integers [{axes}]")
    is_integer = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
    _require_form(name, tensor, f"integers [{axes}]", is_integer, axes, "")
    return tensor.long()


def _require_form(name: str, tensor: Tensor, expected: str, has_type: bool, axes: str, remedy: str) -> None:
    lengths = axes.split(", ")
    is_batch = has_type and tensor.ndim == len(lengths) + 1
    has_shape = tensor.ndim == len(lengths) and all(
        int(length) == n for length, n in zip(lengths, tensor.shape, strict=True) if length.isdecimal()
    )
    if has_type and has_shape:
        return
    if is_batch:
        remedy = f"of a batch, give one image after the other, {name}[i]"
    got = f"{tensor.dtype} {list(tensor.shape)}"
    raise InvalidArgumentError(f"expected {name} as {expected}, got {got}" + (f"; {remedy}" if remedy else ""))


def require_logits(name: str, tensor: Tensor, sums: Tensor | None = None) -> None:
    """Refuse probabilities: values in 0..1, whose sums are 1 if given. Of masks, a few rows are read first."""
    for part in (tensor[..., ::8, ::8], tensor) if sums is None else (tensor,):
        if not part.numel():
            return
        low, high = part.aminmax()
        if not bool((low >= 0) & (high <= 1) & (high > 0)):
            return
    if sums is None or bool(((sums - 1).abs() < 0.01).all()):
        raise InvalidArgumentError(
            f"expected {name} before {'the sigmoid' if sums is None else 'the softmax'}, got only values in 0..1, as "
            "probabilities have; pass the network's logits, or the torch.logit or log of the probabilities"
        )


def require_finite(**tensors: Tensor) -> None:
    """Check that all values are finite."""
    for name, tensor in tensors.items():
        num = tensor.numel() - int(tensor.isfinite().sum())
        if num:
            raise InvalidArgumentError(
                f"expected {name} of finite values, got {num} of {tensor.numel()} that are nan or infinite; check the "
                "network's weights and its input"
            )


def require_one_device(**tensors: Tensor) -> None:
    """Check that all tensors are on one device."""
    devices = sorted({str(tensor.device) for tensor in tensors.values()})
    if len(devices) > 1:
        raise InvalidArgumentError(
            f"expected {', '.join(tensors)} on one device, got {', '.join(devices)}; move them first"
        )


def require_size(name: str, planes: Tensor, geometry: ImageGeometry) -> None:
    """Check that planes have the image's size."""
    if tuple(planes.shape[-2:]) != geometry.size:
        raise InvalidArgumentError(
            f"expected {name} of the size {geometry.size[0]}x{geometry.size[1]}, got {list(planes.shape)}; resize the "
            "logits and then take the argmax or threshold"
        )


def geometry_of(
    size: Sides, inference_size: Sides | None, padded_size: Sides | None, planes: Tensor | None
) -> ImageGeometry:
    """Return the sizes of an image; the padded size must have the aspect ratio of the planes [C, h, w] up to a cell."""
    sizes = {"size": size, "inference_size": inference_size, "padded_size": padded_size}
    given = {name: _sides(name, value) for name, value in sizes.items() if value is not None or name == "size"}
    geometry = ImageGeometry.of(**given)
    if planes is not None and planes.numel():
        (height, width), (rows, columns) = geometry.padded_size, planes.shape[1:]
        if abs(height * columns - width * rows) > max(height, width):
            raise InvalidArgumentError(
                f"expected outputs of the aspect ratio of the network's input, {height}x{width}, got {rows}x{columns}; "
                "give inference_size if the image was resized, and padded_size if it was padded, as to the largest of "
                "a batch"
            )
    return geometry


def _sides(name: str, value: Any) -> Sides:
    try:
        height, width = (operator.index(side) for side in value)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"expected {name} as (height, width) in pixels, got {shown(value)}") from None
    return height, width


def label_space(labels: LabelSpace | str | None, things: Iterable[int] | None, num: int, name: str) -> LabelSpace:
    """Return the label space, or one without names.

    Args:
        labels: as given by the user.
        things: likewise.
        num: number of categories of the outputs.
        name: of these outputs.
    """
    if (labels is None) == (things is None):
        got = "none" if labels is None else "both"
        raise InvalidArgumentError(f"expected either labels or things, the categories that are objects, got {got}")
    if labels is not None:
        space = LabelSpace.of(labels)
        if num != len(space):
            raise InvalidArgumentError(
                f"expected {name} of the {len(space)} categories of {space.name}, got {num}; give the label space of "
                "the network"
            )
        return space
    try:
        given = [] if things is None else list(things)
        if any(isinstance(thing, bool) or (isinstance(thing, Tensor) and thing.dtype == torch.bool) for thing in given):
            raise InvalidArgumentError(
                f"expected things as category ids, got flags, {shown(given)}; give the positions that are True"
            )
        ids = tuple(sorted({operator.index(thing) for thing in given}))
    except TypeError:
        raise InvalidArgumentError(f"expected things as category ids, got {shown(things)}") from None
    if ids and not 0 <= ids[0] <= ids[-1] < num:
        raise InvalidArgumentError(f"expected things in 0..{num - 1}, the categories of the logits, got {listed(ids)}")
    return _unnamed(ids, num)


@lru_cache(maxsize=16)
def _unnamed(things: tuple[int, ...], num: int) -> LabelSpace:
    return LabelSpace("unnamed", tuple(Category(str(i), i in things, i, generated_color(i)) for i in range(num)))


def before_resizing(geometry: ImageGeometry) -> ImageGeometry:
    """Return the sizes for a map of the inference size."""
    return ImageGeometry.of(geometry.inference_size, padded_size=geometry.padded_size)


def resized(found: PanopticMap, geometry: ImageGeometry) -> PanopticMap:
    """Return a map of the inference size or of the image's size at the image's size."""
    return found if found.size == geometry.size else found.resize(*geometry.size).compact()


def with_given_labels(found: PanopticMap, labels: LabelSpace | str | None) -> PanopticMap:
    """Return a map with labels only if the user gave them."""
    return replace(found, labels=None) if labels is None else found
