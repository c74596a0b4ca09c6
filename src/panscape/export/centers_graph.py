"""A network with centre decoding as one graph, from the image to its segments, in operators that ONNX has.

The rules are those of :mod:`panscape.representations.centers.decode`, with everything of a fixed size: as many
candidates for segments as categories and ``top_k`` centres, and for each a flag whether it is a segment.

The nearest centre of a pixel is one of the 8 that are nearest to the middle of the square of 8 x 8 pixels into which
its offset points. Others can be nearest only where centres are a few pixels apart, or where the offset points to more
than 64 pixels outside the image. Outputs must be finite.

ONNX defines the order of equal values in TopK and ArgMax as this code needs it; torch on CPUs does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.geometry import Size, padded_size
from panscape.models import PanopticModel
from panscape.models.center_model import CenterModel
from panscape.ops.interpolate import upsample
from panscape.representations.centers.decode_checks import thing_table
from panscape.representations.centers.decode_config import CenterDecoding
from panscape.zoo.exported import MapOutputs

_CELL = 8  # pixels
_MARGIN = 64  # pixels around the image that have cells
_CANDIDATES = 8  # centres of a cell
_FAR = 1e9  # coordinate of slots without a centre
_LARGEST_AREA = 2**24  # pixels, which float32 counts exactly


class CenterMaps(nn.Module):
    """Map an image to its segments; the outputs are those of :class:`MapOutputs`.

    Args:
        model: with centres; its post-processing options become part of the graph.
        size: height and width of the images.

    Raises:
        InvalidArgumentError: post-processing of the model cannot be a part of the graph.
    """

    is_thing: Tensor

    def __init__(self, model: PanopticModel, size: Size) -> None:
        super().__init__()
        if not isinstance(model, CenterModel):
            raise InvalidArgumentError(
                f"expected a network with centres for --postprocess graph, got {type(model).__name__}, whose "
                "rules are not available as a graph; use --postprocess native"
            )
        if size.area > _LARGEST_AREA:
            raise InvalidArgumentError(
                f"expected at most {_LARGEST_AREA} pixels for --postprocess graph, got {size[0]}x{size[1]}; use native"
            )
        _require_no_parts(model.representation.decoding)
        self.model = model
        self.size = size
        self.decoding = model.representation.decoding
        self.padded_size = padded_size(size, model.stride)
        num_categories = len(model.labels)
        self.num_categories = num_categories
        self.register_buffer("is_thing", thing_table(model.labels.thing_ids, num_categories, torch.device("cpu")))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of :class:`MapOutputs`."""
        outputs = self.model(images)
        semantic = self._whole(outputs.semantic[0]).argmax(0)
        position, is_center = self._find_centers(heat := self._whole(outputs.center[0])[0])
        nearest = self._nearest(position, is_center, self._whole(outputs.offset[0]))
        return self._segments(semantic, nearest, is_center, heat.flatten()[position])

    def _whole(self, planes: Tensor) -> Tensor:
        return upsample(planes.float(), self.padded_size, self.size, self.decoding.align_corners)

    def _find_centers(self, heat: Tensor) -> tuple[Tensor, Tensor]:
        """Return the raster indices of the centres, int64 [K], and which of them are centres."""
        decoding, num_pixels = self.decoding, self.size.area
        kept = torch.where(heat > decoding.threshold, heat, -1.0)
        center = (kept == self._highest(kept)) & (kept > 0)
        if decoding.join_peaks:
            place = -torch.arange(num_pixels, dtype=torch.float32).reshape(heat.shape)
            places = torch.where(center, place, -float(num_pixels))
            center = center & (place == self._highest(places))
        slots = min(decoding.top_k, num_pixels)
        peaks, by_height = torch.where(center, heat, -1.0).flatten().topk(slots)
        is_full = center.sum() >= decoding.top_k
        is_center = peaks > 0
        if decoding.compat != "panoptic_swiftnet":
            is_center = is_center & ~(is_full & (peaks <= peaks[-1]))
            is_full = torch.zeros_like(is_full)
        in_raster = torch.where(is_center, by_height, num_pixels).topk(slots, largest=False).values
        position = torch.where(is_full, by_height, in_raster)
        return position.clamp(max=num_pixels - 1), position < num_pixels

    def _highest(self, values: Tensor) -> Tensor:
        """Return the maximum of each window, first over rows and then over columns."""
        kernel = self.decoding.nms_kernel
        rows = F.max_pool2d(values[None, None], (kernel, 1), stride=1, padding=(kernel // 2, 0))
        return F.max_pool2d(rows, (1, kernel), stride=1, padding=(0, kernel // 2))[0, 0]

    def _nearest(self, position: Tensor, is_center: Tensor, offset: Tensor) -> Tensor:
        """Return the slot of the nearest centre for every pixel, int64 [H, W]; of equally near ones, the first."""
        height, width = self.size
        y = torch.where(is_center, (position // width).float(), _FAR)
        x = torch.where(is_center, (position % width).float(), _FAR)
        rows, columns = ((side + 2 * _MARGIN + _CELL - 1) // _CELL for side in self.size)
        middle_y = torch.arange(rows, dtype=torch.float32) * _CELL + (_CELL / 2 - _MARGIN)
        middle_x = torch.arange(columns, dtype=torch.float32) * _CELL + (_CELL / 2 - _MARGIN)
        down, right = middle_y[:, None, None] - y, middle_x[:, None] - x
        coarse = (down * down + right * right).reshape(rows * columns, -1)
        count = min(_CANDIDATES, len(position))
        listed = coarse.topk(count, largest=False).indices.topk(count, largest=False).values  # in ascending order

        to_y = torch.arange(height, dtype=torch.float32)[:, None] + offset[0]
        to_x = torch.arange(width, dtype=torch.float32) + offset[1]
        cell_y = ((to_y + _MARGIN) / _CELL).clamp(0, rows - 1).long()
        cell_x = ((to_x + _MARGIN) / _CELL).clamp(0, columns - 1).long()
        cell = cell_y * columns + cell_x
        best, nearest = torch.full(self.size, torch.inf), torch.zeros(self.size, dtype=torch.int64)
        for number in range(count):
            slot = listed[:, number]
            down, right = y[slot][cell] - to_y, x[slot][cell] - to_x
            distance = (down * down + right * right).sqrt()
            nearest = torch.where(distance < best, slot[cell], nearest)
            best = torch.minimum(best, distance)
        return nearest

    def _segments(self, semantic: Tensor, nearest: Tensor, is_center: Tensor, peaks: Tensor) -> tuple[Tensor, ...]:
        num_categories, num_centers = self.num_categories, len(peaks)
        thing = self.is_thing[semantic] & is_center.any()
        # Pixels of things are counted by centre and category, all others by category.
        key = torch.where(thing, nearest, num_centers) * num_categories + semantic
        counts = torch.zeros((num_centers + 1) * num_categories, dtype=torch.int64)
        counts = counts.scatter_add(0, key.flatten(), torch.ones_like(key).flatten())
        counts = counts.reshape(-1, num_categories)
        votes, areas = counts[:num_centers], counts[num_centers]
        majority, thing_areas = votes.argmax(1), votes.sum(1)
        if self.decoding.one_category:
            thing_areas = votes.amax(1)
            thing = thing & (semantic == majority[nearest])
        stuff = (areas >= self.decoding.smallest_stuff(self.size)) & ~self.is_thing
        present = torch.cat([stuff, thing_areas >= max(self.decoding.thing_area, 1)])
        rows = torch.where(present, present.float().cumsum(0), 0.0).int()
        ids = rows[torch.where(thing, num_categories + nearest, semantic)]
        category = torch.cat([torch.arange(num_categories), majority])
        score = torch.cat([torch.ones(num_categories), peaks.clamp(max=1)])
        return tuple(x[None] for x in MapOutputs(ids, category, score, present, semantic.int()))


def _require_no_parts(decoding: CenterDecoding) -> None:
    """Raise on rules about connected parts, which a graph without loops cannot find."""
    published = CenterDecoding()
    rules = [name for name in ("largest_part", "leftover_area") if getattr(decoding, name) != getattr(published, name)]
    if rules:
        given = " and ".join(f"{name} {getattr(decoding, name)}" for name in rules)
        remedy = " ".join(f"--decode.{name.replace('_', '-')} {getattr(published, name)}" for name in rules)
        raise InvalidArgumentError(
            "expected no rules about connected parts of things for --postprocess graph, which has no loops, got "
            f"{given}; give {remedy}, which changes the maps, or use --postprocess native"
        )
