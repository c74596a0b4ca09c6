"""A model without a network that is right about images painted in the colours of their categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from maps import SHAPES
from scipy import ndimage
from torch import Tensor

from panscape import LabelSpace, PanopticMap, PanopticModel
from panscape.geometry import ImageGeometry
from panscape.visualize import draw_semantic


class ColorOutputs(NamedTuple):
    """Distance of every pixel's colour to that of each category, float [B, K, H, W]."""

    distance: Tensor


class ColorModel(PanopticModel):
    """Category: the nearest colour, void beyond a distance of 0.2. Objects: connected pixels of a thing category."""

    def __init__(self, labels: LabelSpace = SHAPES) -> None:
        super().__init__(labels, stride=1)
        colors = torch.tensor([c.color for c in labels]).float() / 255
        self.register_buffer("colors", colors[:, :, None, None], persistent=False)
        self.seen: list[tuple[torch.dtype, tuple[int, ...], bool]] = []

    def encode(self, truth: PanopticMap) -> Any:
        raise NotImplementedError

    def loss(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def forward(self, images: Tensor) -> ColorOutputs:
        assert not self.training
        self.seen.append((images.dtype, tuple(images.shape), torch.is_autocast_enabled("cpu")))
        return ColorOutputs((images[:, None] - self.colors[None]).abs().amax(2))

    def decode(self, outputs: ColorOutputs, sizes: Sequence[tuple[int, int]]) -> list[PanopticMap]:
        maps = []
        for distance, (height, width) in zip(outputs.distance, sizes, strict=True):
            nearest, category = distance[:, :height, :width].min(0)
            category = torch.where(nearest > 0.2, -1, category)
            ids, rows = torch.zeros(height, width, dtype=torch.int32), []
            for c in sorted(set(category.unique().tolist()) - {-1}):
                parts, count = ndimage.label(category == c) if self.labels[c].is_thing else ((category == c).int(), 1)
                parts = torch.as_tensor(parts)
                for part in range(1, count + 1):
                    rows.append(c)
                    ids[parts == part] = len(rows)
            score = torch.full((len(rows),), 0.5)
            maps.append(PanopticMap(ids, torch.tensor(rows, dtype=torch.int64), score))
        return maps

    def decode_semantic(self, outputs: ColorOutputs, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """Return the nearest colour, even where the map is void; resized to the nearest pixel."""
        found = []
        for distance, geometry in zip(outputs.distance, geometries, strict=True):
            sides = zip(geometry.size, geometry.inference_size, strict=True)
            rows, columns = (torch.arange(new) * old // new for new, old in sides)
            found.append(distance.argmin(0)[rows[:, None], columns])
        return found

    def visualize(self, outputs: ColorOutputs, size: tuple[int, int]) -> dict[str, Tensor]:
        category = outputs.distance[0, :, : size[0], : size[1]].argmin(0)
        return {"semantic": draw_semantic(category, self.labels)}


def painted(truth: PanopticMap, labels: LabelSpace = SHAPES) -> Tensor:
    """Paint a map in the colours of its categories, uint8 [3, H, W]; void is black."""
    return draw_semantic(truth.semantic(void=-1), labels, palette="published")
