"""Images in memory, as arrays and tensors: checked, and converted to uint8 tensors [3, H, W]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError

_ONE_OF_MANY = "give one of its images, images[0], or a list of them to model.predict"


def from_array(array: NDArray[Any]) -> Tensor:
    """Return an array [H, W, 3] or [H, W] as a tensor [3, H, W] of its own.

    Raises:
        InvalidArgumentError: it has another type or shape; the message has the conversion.
    """
    expected = f"expected an image as a uint8 array [H, W, 3] or [H, W], got {described(array)}"
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        raise InvalidArgumentError(f"{expected}; {_array_of_another_shape(array.shape)}")
    require_pixels(*array.shape[:2])
    if array.dtype != np.uint8:
        raise InvalidArgumentError(f"{expected}; {_array_of_another_type(array)}")
    copy = torch.from_numpy(np.array(array))  # a copy: torch cannot hold read-only or mirrored arrays
    return copy.expand(3, *copy.shape).contiguous() if array.ndim == 2 else copy.permute(2, 0, 1).contiguous()


def from_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor [3, H, W], uint8 or floating in 0..1, as uint8; the same object if it is.

    Raises:
        InvalidArgumentError: it has another type, shape or range; the message has the conversion.
    """
    expected = "expected an image as a tensor [3, H, W], uint8 or floating in 0..1"
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise InvalidArgumentError(f"{expected}, got {described(tensor)}; {_tensor_of_another_shape(tensor)}")
    require_pixels(*tensor.shape[1:])
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise InvalidArgumentError(f"{expected}, got {described(tensor)}; convert it with .to(torch.uint8)")
    values = tensor.detach().float()
    low, high = (float(v) for v in torch.stack(values.aminmax()))
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise InvalidArgumentError(f"{expected}, got values in {low:g}..{high:g}; scale them, or give uint8")
    return (values * 255).round().to(torch.uint8)


def require_pixels(height: int, width: int) -> None:
    """Check that an image is not empty.

    Raises:
        InvalidArgumentError: it is.
    """
    if min(height, width) < 1:
        raise InvalidArgumentError(f"expected an image of at least 1x1 pixels, got {height}x{width}")


def described(value: object) -> str:
    """Return the type and shape of an array or tensor, or the type of anything else."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def _array_of_another_shape(shape: tuple[int, ...]) -> str:
    match shape:
        case (_, _, 4):
            return "omit its fourth band: image[..., :3]"
        case (_, _, 1):
            return "omit its last axis: image[..., 0]"
        case (3, _, _):
            return "move the channels to the end: image.transpose(1, 2, 0)"
        case (_, _, _, _):
            return _ONE_OF_MANY
    return "give the bands of red, green and blue"


def _tensor_of_another_shape(tensor: Tensor) -> str:
    match tuple(tensor.shape):
        case (_, _, 3):
            return "move the channels to the front with permute(2, 0, 1)"
        case (4, _, _):
            return "omit its fourth band: image[:3]"
        case (1, _, _) | (_, _):
            return "repeat its grey: image.expand(3, -1, -1)"
        case (_, _, _, _):
            return _ONE_OF_MANY
    return "give the bands of red, green and blue"


def _array_of_another_type(array: NDArray[Any]) -> str:
    if array.dtype.kind not in "biuf":
        return "give its values as numbers"
    low, high = float(array.min()), float(array.max())
    if not math.isfinite(high - low):
        return "replace its values that are not finite, and scale the others to 0..255"
    if array.dtype.kind in "bf" and low >= 0 and high <= 1:
        return "convert it: (255 * image).round().astype(np.uint8)"
    if low >= 0 and high <= 255:
        return "convert it: image.round().astype(np.uint8)"
    if low == high:
        return f"scale its values, all {low:g}, to 0..255, and convert it: image.round().astype(np.uint8)"
    scaled = f"(image - {low:g}) * (255 / {high - low:g})"
    return f"scale its values {low:g}..{high:g} to 0..255: ({scaled}).round().astype(np.uint8)"
