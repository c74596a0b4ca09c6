"""Post-processing of arrays at the image's own size is that of the definitions in torch, in every pixel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from center_scenes import center_scene

from panscape import Category, LabelSpace, PanopticMap
from panscape.geometry import ImageGeometry
from panscape.representations.centers import CenterDecoding, CenterOutputs, CenterRepresentation
from panscape.representations.centers.decode import group_centers_reference
from panscape.representations.centers.postprocess_cpu import postprocess_centers_cpu
from panscape.representations.centers.resize_outputs import resize_outputs_batched

THINGS = (2, 3, 5)
SIX = LabelSpace("six", tuple(Category(f"c{i}", i in THINGS, i, (i, 0, 0)) for i in range(6)))
SEEN, PADDED = (90, 139), (96, 144)
WAYS: dict[str, dict[str, Any]] = {
    "map": {"resize": "map"},
    "outputs": {"resize": "outputs"},
    "outputs_with_aligned_corners": {"resize": "outputs", "align_corners": True},
    "outputs_unscaled": {"resize": "outputs", "compat": "detectron2"},
    "with_parts": {"resize": "outputs", "largest_part": True, "leftover_area": 9},
}


def by_the_definition(
    outputs: tuple[torch.Tensor, ...], geometry: ImageGeometry, decoding: CenterDecoding
) -> PanopticMap:
    """Apply the rules with the plain implementations, on whole upsampled outputs."""
    if not geometry.is_resized or decoding.resize == "map":
        seen = group_centers_reference(*outputs, geometry, THINGS, decoding)
        return seen.resize(*geometry.size).compact() if geometry.is_resized else seen
    is_scaled = decoding.compat != "detectron2"
    resized = resize_outputs_batched(*outputs, geometry, decoding)
    options = decoding.for_resized_outputs(geometry)
    assert not options.align_corners
    assert (options.stuff_area == decoding.stuff_area) == (not is_scaled or geometry.size == SEEN)
    return group_centers_reference(*resized, ImageGeometry.of(geometry.size), THINGS, options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [SEEN, (180, 278), (61, 77), (301, 250)])
def test_every_way_at_every_size(way: str, size: tuple[int, int]) -> None:
    decoding = CenterDecoding(stuff_area=400, **WAYS[way])
    geometry = ImageGeometry.of(size, SEEN, PADDED)
    outputs = center_scene(9, 4)
    arrays = postprocess_centers_cpu(*(part.numpy() for part in outputs), geometry, THINGS, decoding)
    found, expected = PanopticMap.from_arrays(arrays), by_the_definition(outputs, geometry, decoding)
    assert expected.size == size
    assert expected.num_segments > 5
    assert torch.equal(found.ids, expected.ids)
    assert torch.equal(found.category, expected.category)
    assert torch.equal(found.score, expected.score)
    if decoding.resize == "outputs":
        logits, center, offset = outputs
        one = CenterOutputs(logits[None], center[None, None], offset[None])
        (of_tensors,) = CenterRepresentation(decoding=decoding).decode_resized(one, [geometry], SIX)
        assert of_tensors == PanopticMap.from_arrays(arrays)
