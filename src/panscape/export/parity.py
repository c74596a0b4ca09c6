"""Comparison of an exported model with the original, on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from time import process_time
from typing import Any

import torch
from torch import Tensor

from panscape.datasets.town import Town
from panscape.export.floors import ParityFloor
from panscape.geometry import ImageGeometry, Size
from panscape.metrics import PanopticQuality
from panscape.metrics.matching import match_segments
from panscape.models import PanopticModel
from panscape.models.prediction import run_network
from panscape.panoptic import PanopticMap
from panscape.zoo.graph_model import SideRange

_SCENES = 8
_LARGEST_SIDE = 16384  # pixels


@dataclass(frozen=True)
class OutputDifference:
    """How far an output is from the original.

    Attributes:
        largest_difference: largest absolute difference; nan if the shapes differ.
        largest_value: largest absolute value in the original.
    """

    largest_difference: float
    largest_value: float


@dataclass(frozen=True)
class StageTimes:
    """Processor time of an image, over all threads, in milliseconds: the median over the images.

    Attributes:
        network_ms: the forward pass.
        postprocess_ms: post-processing.
    """

    network_ms: float
    postprocess_ms: float

    def __str__(self) -> str:
        return f"network {self.network_ms:.1f} ms, post-processing {self.postprocess_ms:.1f} ms"


@dataclass(frozen=True)
class ParityReport:
    """The result of a comparison.

    Attributes:
        images: number of images.
        source: where they come from.
        outputs: difference of each output of the network by name; empty if the graph returns maps.
        equal_pixels: share of equal pixels of the maps, 0 to 1: both void, or in segments that match.
        pq: PQ of the maps against those of the original, 0 to 1; 1 if no map has a segment.
        floor: what had to be reached.
        times: processor time of both models, "exported" and "original".
    """

    images: int
    source: str
    outputs: dict[str, OutputDifference]
    equal_pixels: float
    pq: float
    floor: ParityFloor
    times: dict[str, StageTimes]

    @property
    def is_met(self) -> bool:
        """Whether the floor is reached."""
        return self.equal_pixels >= self.floor.equal_pixels and self.pq >= self.floor.pq

    @property
    def first_departure(self) -> str:
        """The first output that differs by more than 0.1 % of its largest value, or else the most different one."""
        if not self.outputs:
            return "map"
        shares = {name: _share(d) for name, d in self.outputs.items()}
        return next((name for name, share in shares.items() if not share <= 1e-3), max(shares, key=lambda n: shares[n]))

    def __str__(self) -> str:
        lines = [f"compared with the original on {self.images} images ({self.source}):"]
        lines.append(
            f"  equal pixels {100 * self.equal_pixels:.3f} % (at least {100 * self.floor.equal_pixels:g}), "
            f"PQ {100 * self.pq:.2f} (at least {100 * self.floor.pq:g})"
        )
        lines += [
            f"  {name}: largest difference {d.largest_difference:.2g}, of values up to {d.largest_value:.2g}"
            for name, d in self.outputs.items()
        ]
        lines += [f"  processor time of an image, {name}: {times}" for name, times in self.times.items()]
        return "\n".join(lines)


def _share(difference: OutputDifference) -> float:
    return difference.largest_difference / max(difference.largest_value, 1e-12)


def compare(
    exported: PanopticModel,
    original: PanopticModel,
    images: Iterable[Tensor],
    *,
    floor: ParityFloor,
    source: str,
    most: Size | None = None,
) -> ParityReport:
    """Compare the outputs and maps of two models on images.

    Args:
        exported: the model to judge.
        original: the model to compare it with; both on the CPU, in eval mode.
        images: uint8 [3, H, W].
        floor: what the exported model must reach.
        source: where the images come from.
        most: images that are larger enter the networks at a size that fits into this one.
    """
    quality = PanopticQuality(original.labels)
    outputs: dict[str, OutputDifference] = {}
    times: dict[str, list[tuple[float, float]]] = {"exported": [], "original": []}
    equal = pixels = number = 0
    for image in images:
        geometry = geometry_within(original, image, most)
        found: list[tuple[Any, PanopticMap]] = []
        for name, model in zip(times, (exported, original), strict=True):
            if number == 0:
                _run(model, image, geometry)  # the first run takes longer
            result, panoptic, took = _run(model, image, geometry)
            found.append((result, panoptic))
            times[name].append(took)
        number += 1
        (ours, map_of_ours), (theirs, map_of_theirs) = found
        is_map = ours._fields != theirs._fields  # post-processing in the graph
        for name, a, b in () if is_map else zip(ours._fields, ours, theirs, strict=True):
            if isinstance(a, Tensor):
                outputs[name] = _larger(outputs.get(name), a, b)
        quality.update(map_of_ours, map_of_theirs)
        equal += count_equal_pixels(map_of_ours, map_of_theirs)
        pixels += map_of_theirs.ids.numel()
    pq = quality.compute().all.pq
    medians = {name: StageTimes(*map(median, zip(*took, strict=True))) for name, took in times.items()}
    return ParityReport(number, source, outputs, equal / max(pixels, 1), 1.0 if math.isnan(pq) else pq, floor, medians)


def geometry_within(model: PanopticModel, image: Tensor, most: Size | None) -> ImageGeometry:
    """Return the sizes of an image that enters the network at a size that fits into ``most``, if given."""
    geometry = model.geometry(Size(*image.shape[-2:]))
    if most is None or (geometry.inference_size[0] <= most[0] and geometry.inference_size[1] <= most[1]):
        return geometry
    height, width = geometry.size
    return model.geometry(geometry.size, int(max(height, width) * min(most[0] / height, most[1] / width)))


def _run(model: PanopticModel, image: Tensor, geometry: ImageGeometry) -> tuple[Any, PanopticMap, tuple[float, float]]:
    """Return the outputs, the map, and the processor time of both stages in milliseconds."""
    with torch.inference_mode():
        started = process_time()
        outputs = run_network(model, [image], [geometry], torch.device("cpu")).outputs
        forwarded = process_time()
        (panoptic,) = model.postprocess(outputs, [geometry])
        finished = process_time()
    return outputs, panoptic, (1000 * (forwarded - started), 1000 * (finished - forwarded))


def synthetic_scenes(sides: tuple[SideRange, SideRange], size: Size | None = None) -> Iterator[Tensor]:
    """Yield eight synthetic images, uint8 [3, H, W]: of one size, or of different ones.

    Args:
        sides: range of the heights and widths that a graph takes.
        size: height and width of all of them; None for different ones.
    """
    for number in range(_SCENES):
        height, width = size or (
            min(max(side.least, base) + step * number, side.most or _LARGEST_SIDE)
            for side, base, step in zip(sides, (256, 384), (11, 23), strict=True)
        )
        yield Town(_SCENES, (height, width), seed=1)[number].image


def _larger(known: OutputDifference | None, ours: Tensor, theirs: Tensor) -> OutputDifference:
    difference = float((ours.double() - theirs.double()).abs().max()) if ours.shape == theirs.shape else math.nan
    value = float(theirs.double().abs().max())
    if known is None:
        return OutputDifference(difference, value)
    # nan, of outputs of other shapes, stays
    largest = difference if not difference <= known.largest_difference else known.largest_difference
    return OutputDifference(largest, max(value, known.largest_value))


def count_equal_pixels(prediction: PanopticMap, truth: PanopticMap) -> int:
    """Return the number of pixels that are void in both maps, or in segments of both that match.

    Ids are not compared, as one segment more would shift those after it.
    """
    matches = match_segments(prediction, truth)
    partner = torch.full((truth.num_segments + 1,), -1, dtype=torch.int32)
    partner[0] = 0
    partner[matches.truth + 1] = (matches.prediction + 1).int()
    return int((prediction.ids == partner[truth.ids.long()]).sum())
