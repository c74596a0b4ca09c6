"""Time the post-processing of masked boxes, for masks of 20 x 20 and of 40 x 40 cells.

Input: boxes, scores and masks of the objects in a street-like scene of 1024 x 2048 pixels, and its segmentation into 19
categories at stride 4. "Paste and fuse" is from boxes, scores and masks to the map, with the category of every pixel
given; "complete" is all of the decoding, with the segmentation upsampled. Plain torch pastes with the reference
implementation; the maps are equal. ``decode_regions.py`` compares the same kernels with detectron2's algorithm. Times
are CPU time of the process with one thread, the minimum over several rounds in which the implementations alternate.

Run ``python benchmarks/decode_masked_boxes.py``; it prints a Markdown table. ``--memory`` prints the peak memory of
each implementation in addition to its inputs instead, each measured in a separate process (Linux).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from center_scenes import SIZE, detections_of, outputs_of, street_map
from compare_decoding import LABELS, Paste, compare, paste_and_fuse
from torch import Tensor

from panscape import PanopticMap
from panscape.geometry import ImageGeometry
from panscape.ops.paste_masks import paste_masks, paste_masks_reference
from panscape.representations.masked_boxes import MaskedBoxDecoding, MaskedBoxOutputs
from panscape.representations.masked_boxes.decode import decode_masked_boxes
from panscape.representations.regions.decode import semantic_at_image_size

CELLS = (20, 40)
GEOMETRY = [ImageGeometry.of(SIZE)]
DECODING = MaskedBoxDecoding()
COLUMNS = {
    f"{name} {cells}": f"{title}, {cells} x {cells}"
    for cells in CELLS
    for name, title in (
        ("torch", "paste and fuse, plain torch masks"),
        ("fused", "paste and fuse, panscape"),
        ("whole", "complete, panscape"),
    )
}


def outputs_for(num_objects: int) -> dict[int, MaskedBoxOutputs]:
    """Return noisy outputs for a street-like scene by number of cells, batches of one."""
    truth = street_map(num_things=num_objects)
    semantic, none = outputs_of(truth).semantic_logits[None], torch.zeros(1, 0, 5)
    outputs = {}
    for cells in CELLS:
        boxes, thing, score, masks = (part[None] for part in detections_of(truth, cells))
        objectness = torch.rand(score.shape, generator=torch.Generator().manual_seed(1))  # another order than by score
        outputs[cells] = MaskedBoxOutputs(semantic, none, boxes, thing, score, objectness, masks)
    return outputs


def fused(outputs: MaskedBoxOutputs, semantic: Tensor, paste: Paste) -> PanopticMap:
    """Paste and fuse with our parts."""
    return paste_and_fuse(
        paste,
        outputs.masks[0].sigmoid(),
        outputs.mask_boxes[0],
        outputs.mask_category[0],
        outputs.mask_score[0],
        semantic,
        DECODING.fusion,
        outputs.mask_objectness[0],
    )


def ways(outputs: dict[int, MaskedBoxOutputs]) -> dict[str, Callable[[], object]]:
    """Return the compared implementations by name."""
    logits = outputs[CELLS[0]].semantic
    (semantic,) = semantic_at_image_size(logits, GEOMETRY, LABELS, DECODING.fusion, merge_things=False)
    found: dict[str, Callable[[], object]] = {}
    for cells, one in outputs.items():
        found[f"torch {cells}"] = partial(fused, one, semantic, paste_masks_reference)
        found[f"fused {cells}"] = partial(fused, one, semantic, paste_masks)
        found[f"whole {cells}"] = partial(decode_masked_boxes, one, GEOMETRY, LABELS, DECODING)
    return found


def check(outputs: dict[int, MaskedBoxOutputs]) -> tuple[int, str]:
    """Compare the maps, which are equal; return the number of objects and of differing pixels."""
    compared = ways(outputs)
    for cells in CELLS:
        ours = compared[f"fused {cells}"]()
        assert ours == compared[f"torch {cells}"]()
        assert [ours] == compared[f"whole {cells}"]()
    return len(outputs[CELLS[0]].mask_score[0]), "0"


if __name__ == "__main__":
    compare(
        __doc__,
        __file__,
        outputs_for=outputs_for,
        ways=ways,
        check=check,
        columns=COLUMNS,
        slow=[name for name in COLUMNS if name.startswith("torch")],
    )
