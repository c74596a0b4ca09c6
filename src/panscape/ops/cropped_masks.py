"""`CroppedMasks`: binary masks of many objects, each stored only within a window around its object.

A hundred full masks of an image of 1024x2048 take 200 MB. Cropped to their objects they take a few MB, and pasting
them into an image reads only these pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True, eq=False)
class CroppedMasks:
    """P masks that may overlap, each with a window of the image; a mask is empty outside its window.

    Windows need not be tight. A window without area is an empty mask.

    Attributes:
        boxes: the windows, int32 [P, 4], xyxy in pixels, half-open, inside the image.
        pixels: the pixels of all windows, concatenated row by row, bool [sum of the windows' areas].
        starts: offset of each window in ``pixels``, int64 [P + 1]; the last entry is the length of ``pixels``.

    Raises:
        InvalidArgumentError: a part has another type or shape, or the parts contradict each other.
    """

    boxes: Tensor
    pixels: Tensor
    starts: Tensor

    def __post_init__(self) -> None:
        for name, part, dtype, shape in (
            ("boxes", self.boxes, torch.int32, [len(self), 4]),
            ("pixels", self.pixels, torch.bool, [self.pixels.numel()]),
            ("starts", self.starts, torch.int64, [len(self) + 1]),
        ):
            if part.dtype != dtype or list(part.shape) != shape:
                raise InvalidArgumentError(f"expected {name} as {dtype} {shape}, got {part.dtype} {list(part.shape)}")
        devices = sorted({str(part.device) for part in (self.boxes, self.pixels, self.starts)})
        if len(devices) > 1:
            raise InvalidArgumentError(f"expected all parts on one device, got {', '.join(devices)}; move them first")
        boxes = self.boxes.cpu().long()
        sides = boxes[:, 2:] - boxes[:, :2]
        if len(self) and bool((boxes[:, :2] < 0).any() | (sides < 0).any()):
            raise InvalidArgumentError("expected windows inside the image as (left, top, right, bottom), half-open")
        starts = _starts(sides.prod(dim=1))
        if not torch.equal(starts, self.starts.cpu()) or int(starts[-1]) != self.pixels.numel():
            raise InvalidArgumentError(
                f"expected starts as the cumulative sum of the windows' areas, from 0 to {self.pixels.numel()} pixels, "
                f"got windows with {int(starts[-1])} pixels in total"
            )

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __iter__(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield, for each mask, the rows and columns of its window and a view of the window's pixels, bool [h, w]."""
        begins = self.starts.tolist()
        for begin, end, (left, top, right, bottom) in zip(begins[:-1], begins[1:], self.boxes.tolist(), strict=True):
            window = self.pixels[begin:end].view(bottom - top, right - left)
            yield slice(top, bottom), slice(left, right), window

    def to(self, device: torch.device | str) -> CroppedMasks:
        """Return the masks on ``device``."""
        return CroppedMasks(self.boxes.to(device), self.pixels.to(device), self.starts.to(device))

    def resize(self, size: tuple[int, int], new_size: tuple[int, int]) -> CroppedMasks:
        """Return the masks resized by nearest-neighbour sampling: row i of h is row floor(i * H / h), as for maps.

        Args:
            size: height and width of the image.
            new_size: height and width of the resized image.

        Raises:
            InvalidArgumentError: a window leaves the image, or the new size has no pixels.
        """
        self.check_inside(size)
        if min(new_size) < 1:
            raise InvalidArgumentError(f"expected a size of at least 1x1, got {new_size[0]}x{new_size[1]}")
        if tuple(size) == tuple(new_size):
            return self
        device = self.pixels.device
        sources = [torch.arange(new, device=device) * old // new for old, new in zip(size, new_size, strict=True)]
        ends = self.boxes.new_zeros(len(self), 4)
        for axis, source in enumerate(sources):  # the new window covers the rows whose source row is in the old one
            edges = self.boxes[:, [1 - axis, 3 - axis]].long()
            ends[:, [1 - axis, 3 - axis]] = torch.searchsorted(source, edges.contiguous()).int()
        crops = []
        for (top, left), (x0, y0, x1, y1), (_, _, window) in zip(
            self.boxes[:, [1, 0]].tolist(), ends.tolist(), self, strict=True
        ):
            crops.append(window[sources[0][y0:y1, None] - top, sources[1][x0:x1] - left])
        return CroppedMasks.from_crops(crops, ends)

    def to_masks(self, size: tuple[int, int]) -> Tensor:
        """Return the masks at full size, bool [P, H, W].

        Args:
            size: height and width of the image.

        Raises:
            InvalidArgumentError: a window leaves the image.
        """
        self.check_inside(size)
        masks = torch.zeros(len(self), *size, dtype=torch.bool, device=self.pixels.device)
        for mask, (rows, columns, window) in zip(masks, self, strict=True):
            mask[rows, columns] = window
        return masks

    @classmethod
    def from_masks(cls, masks: Tensor) -> CroppedMasks:
        """Crop masks to their tight windows.

        Args:
            masks: bool [P, H, W].

        Raises:
            InvalidArgumentError: the masks have another type or shape.
        """
        if masks.ndim != 3 or masks.dtype != torch.bool:
            raise InvalidArgumentError(f"expected masks as bool [P, H, W], got {masks.dtype} {list(masks.shape)}")
        left, right = _extent(masks.any(dim=1))
        top, bottom = _extent(masks.any(dim=2))
        boxes = torch.stack([left, top, right, bottom], dim=1)
        crops = [mask[y0:y1, x0:x1] for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist(), strict=True)]
        return cls.from_crops(crops, boxes)

    @classmethod
    def from_parts(
        cls, make: Callable[[slice], Tensor], num_masks: int, size: tuple[int, int], max_pixels: int
    ) -> CroppedMasks:
        """Crop masks to their tight windows in chunks, as all full masks together may be large.

        Args:
            make: returns the full masks of a slice of indices, bool [n, H, W]; called at least once, even for none.
            num_masks: number of masks.
            size: height and width of the image.
            max_pixels: maximum number of pixels of a chunk; a chunk has at least one mask.
        """
        step = max(1, max_pixels // max(1, size[0] * size[1]))
        starts = range(0, max(1, num_masks), step)
        parts = [cls.from_masks(make(slice(start, min(start + step, num_masks)))) for start in starts]
        areas = torch.cat([part.starts.diff() for part in parts])
        return cls(torch.cat([p.boxes for p in parts]), torch.cat([p.pixels for p in parts]), _starts(areas))

    @classmethod
    def from_crops(cls, crops: Sequence[Tensor], boxes: Tensor) -> CroppedMasks:
        """Build masks from one crop per window.

        Args:
            crops: the windows' pixels, bool [h, w] each.
            boxes: the windows, integer [P, 4], xyxy in pixels, half-open, inside the image.

        Raises:
            InvalidArgumentError: the crops do not match the boxes.
        """
        if boxes.shape != (len(crops), 4) or boxes.is_floating_point():
            raise InvalidArgumentError(
                f"expected integer boxes as [{len(crops)}, 4] for {len(crops)} crops, got {boxes.dtype} "
                f"{list(boxes.shape)}"
            )
        sides = boxes.cpu().long()[:, [3, 2]] - boxes.cpu().long()[:, [1, 0]]
        for crop, shape in zip(crops, sides.tolist(), strict=True):
            if list(crop.shape) != shape or crop.dtype != torch.bool:
                raise InvalidArgumentError(f"expected a crop as bool {shape}, got {crop.dtype} {list(crop.shape)}")
        empty = torch.zeros(0, dtype=torch.bool, device=boxes.device)
        pixels = torch.cat([empty, *(crop.flatten() for crop in crops)])
        return cls(boxes.int(), pixels, _starts(sides.prod(dim=1)).to(boxes.device))

    def check_inside(self, size: tuple[int, int]) -> None:
        """Check that all windows lie inside an image.

        Args:
            size: height and width of the image.

        Raises:
            InvalidArgumentError: a window reaches beyond the image.
        """
        if len(self):
            right, bottom = self.boxes[:, 2:].amax(dim=0).tolist()
            if bottom > size[0] or right > size[1]:
                raise InvalidArgumentError(
                    f"expected windows inside the image of {size[0]}x{size[1]}, got windows up to row {bottom} "
                    f"and column {right}; clip them to the image"
                )


def _starts(areas: Tensor) -> Tensor:
    return torch.cat([areas.new_zeros(1), areas.cumsum(0)])


def _extent(hit: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of the first True and of one past the last, int64 [P] each, of bool [P, N]; 0 if none is."""
    hit = torch.cat([hit, hit.new_zeros(len(hit), 1)], dim=1)  # an index exists even in an image without pixels
    place = torch.arange(hit.shape[1], device=hit.device)
    stop = torch.where(hit, place + 1, 0).amax(dim=1)
    first = torch.where(hit, place, hit.shape[1]).amin(dim=1)
    return torch.minimum(first, stop), stop


class Detections(NamedTuple):
    """The detected instances of one image; they may overlap.

    Attributes:
        masks: masks of P objects.
        category: of each object, a thing of the label space, int64 [P].
        score: of each object, 0..1, float32 [P].
    """

    masks: CroppedMasks
    category: Tensor
    score: Tensor
