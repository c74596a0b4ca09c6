"""Reading of label images, shared by all formats."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.errors import UnreadableFileError
from panscape.formats.id_png import load_id_png
from panscape.image_files import open_image

_LOSSLESS = ("BMP", "GIF", "PNG", "PPM", "TIFF")


def load_label_image(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read the pixel values of a label image, integers [H, W]. A palette is ignored, and equal channels are one.

    Raises:
        UnreadableFileError: the file is missing, damaged, in a lossy format, or has several channels.
    """
    plain = load_id_png(path)
    if plain is not None and plain.ndim == 2:
        return plain
    with open_image(path) as image:
        mode, encoding = image.mode, image.format
        numbers = np.array(image)
    if encoding not in _LOSSLESS:
        raise UnreadableFileError(
            path, f"expected a label image as PNG, got {encoding}, which does not preserve numbers; write it as PNG"
        )
    if numbers.ndim == 3 and _is_grey(numbers):
        numbers = numbers[..., 0]
    if numbers.ndim != 2 or numbers.dtype.kind not in "iub":
        raise UnreadableFileError(
            path,
            f"expected a label image with one integer per pixel, got mode {mode}; write it as 8-bit or 16-bit grey",
        )
    return numbers.astype(np.uint8) if numbers.dtype == bool else numbers


def _is_grey(pixels: NDArray[Any]) -> bool:
    """Return whether the color channels of pixels [H, W, 2..4] are equal and the alpha channel, if any, is opaque."""
    num_colors = pixels.shape[2] - 1 + pixels.shape[2] % 2  # of L and A, RGB, RGB and A
    is_equal = (pixels[..., :num_colors] == pixels[..., :1]).all()
    return bool(is_equal and (pixels[..., num_colors:] == 255).all())
