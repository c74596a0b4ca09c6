"""Letterboxing: images resized into an input of fixed size, with their aspect ratio, centred on grey."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.ops.boxes import clip_boxes

_GREY = 0.5


class Letterbox(NamedTuple):
    """The place of an image in the network's input, as Darknet computes it.

    Attributes:
        size: height and width of the image.
        input_size: height and width of the input.
        resized: height and width of the image in the input, rounded down, at least 1.
        offset: rows above and columns left of it; one row or column less than below or right of it if they are uneven.
    """

    size: tuple[int, int]
    input_size: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]

    @classmethod
    def of(cls, size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        """Return the place of an image of this height and width in an input of that.

        Raises:
            InvalidArgumentError: a side is below 1.
        """
        if min(*size, *input_size) < 1:
            raise InvalidArgumentError(
                f"expected sides of at least 1 pixel, got an image {size}, an input {input_size}"
            )
        (height, width), (rows, columns) = size, input_size
        resized = (
            (max(1, height * columns // width), columns)
            if columns * height < rows * width
            else (rows, max(1, width * rows // height))
        )
        return cls(size, input_size, resized, ((rows - resized[0]) // 2, (columns - resized[1]) // 2))

    def apply(self, image: Tensor) -> Tensor:
        """Return the network's input, float [C, rows, columns].

        Args:
            image: in 0..1, float [C, H, W]. It is resized bilinearly with aligned corners.
        """
        resized = F.interpolate(image[None], size=self.resized, mode="bilinear", align_corners=True)[0]
        (top, left), (rows, columns) = self.offset, self.input_size
        right, bottom = columns - self.resized[1] - left, rows - self.resized[0] - top
        return F.pad(resized, (left, right, top, bottom), value=_GREY)

    def undo(self, boxes: Tensor) -> Tensor:
        """Return boxes of the input, xyxy, as boxes of the image, clipped to it, float [..., 4].

        Darknet shifts boxes by half the grey, which is half a pixel more than its offset if that is uneven; here boxes
        are shifted by the offset.
        """
        top, left = self.offset
        scale = boxes.new_tensor([full / seen for full, seen in zip(self.size, self.resized, strict=True)])
        moved = (boxes - boxes.new_tensor([left, top, left, top])) * scale[[1, 0, 1, 0]]
        return clip_boxes(moved, self.size)
