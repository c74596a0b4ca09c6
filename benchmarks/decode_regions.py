"""Time the post-processing of regions: panscape, detectron2's algorithm, and plain torch.

Input: boxes, scores and masks of 28 x 28 cells of the objects in a street-like scene of 1024 x 2048 pixels, and its
segmentation into 19 categories at stride 4. detectron2 pastes each mask by a grid sample around its box into a map of
its own, then combines the maps one by one; its algorithm is written here in torch, and its result is compared with ours
pixel by pixel. "Paste and fuse" is from boxes, scores and masks to the map, with the category of every pixel given;
"complete" is all of the decoding, with the segmentation upsampled. Times are CPU time of the process with one thread,
the minimum over several rounds in which the implementations alternate.

Run ``python benchmarks/decode_regions.py``; it prints a Markdown table. ``--memory`` prints the peak memory of each
implementation in addition to its inputs instead, each measured in a separate process (Linux).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from center_scenes import SIZE, detections_of, outputs_of, street_map
from compare_decoding import LABELS, Paste, compare, paste_and_fuse
from torch import Tensor
from torch.nn import functional as F

from panscape import PanopticMap
from panscape.geometry import ImageGeometry
from panscape.ops.paste_masks import paste_masks, paste_masks_reference
from panscape.representations.fusion import FusionConfig
from panscape.representations.regions import RegionDecoding, RegionOutputs
from panscape.representations.regions.decode import decode_regions, semantic_at_image_size

GEOMETRY = [ImageGeometry.of(SIZE)]
DECODING = RegionDecoding()
COLUMNS = {
    "detectron2": "paste and fuse, detectron2's algorithm",
    "torch": "paste and fuse, plain torch masks",
    "fused": "paste and fuse, panscape",
    "whole": "complete, panscape",
}


def outputs_for(num_objects: int) -> RegionOutputs:
    """Return noisy outputs for a street-like scene, a batch of one."""
    truth = street_map(num_things=num_objects)
    found, none = detections_of(truth, num_cells=28), torch.zeros(1, 0)
    return RegionOutputs(outputs_of(truth).semantic_logits[None], *[none] * 5, *(part[None] for part in found))


def as_detectron2(outputs: RegionOutputs, semantic: Tensor) -> PanopticMap:
    """Paste all masks into maps of the image's size, then combine them with the stuff."""
    boxes, probs, scores = outputs.mask_boxes[0], outputs.masks[0].sigmoid(), outputs.mask_score[0]
    things = torch.tensor(LABELS.thing_ids)[outputs.mask_category[0]]
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, box, prob in zip(masks, boxes, probs, strict=True):
        left, top = (max(int(side.floor()) - 1, 0) for side in box[:2])
        right, bottom = (min(int(side.ceil()) + 1, length) for side, length in zip(box[2:], SIZE[::-1], strict=True))
        x = (torch.arange(left, right) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
        y = (torch.arange(top, bottom) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=2)
        pasted = F.grid_sample(prob[None, None], grid[None], align_corners=False)[0, 0]
        mask[top:bottom, left:right] = pasted >= DECODING.mask_threshold
    ids = torch.zeros(SIZE, dtype=torch.int32)
    category: list[int] = []
    for row in scores.argsort(descending=True).tolist():
        if scores[row] < DECODING.fusion.min_score:
            break
        mask = masks[row]
        area, covered = int(mask.sum()), int((mask & (ids > 0)).sum())
        if area == 0 or covered / area > DECODING.fusion.max_overlap:
            continue
        if covered:
            mask = mask & (ids == 0)
        category.append(int(things[row]))
        ids[mask] = len(category)
    for label in semantic.unique().tolist():
        mask = (semantic == label) & (ids == 0)
        if label in LABELS.thing_ids or mask.sum() < DECODING.fusion.stuff_area:
            continue
        category.append(label)
        ids[mask] = len(category)
    return PanopticMap(ids, torch.tensor(category, dtype=torch.int64))


def fused(outputs: RegionOutputs, semantic: Tensor, paste: Paste) -> PanopticMap:
    """Paste and fuse with our parts."""
    return paste_and_fuse(
        paste,
        outputs.masks[0].sigmoid(),
        outputs.mask_boxes[0],
        outputs.mask_category[0],
        outputs.mask_score[0],
        semantic,
        DECODING.fusion,
    )


def ways(outputs: RegionOutputs) -> dict[str, Callable[[], object]]:
    """Return the compared implementations by name."""
    (semantic,) = semantic_at_image_size(outputs.semantic, GEOMETRY, LABELS, FusionConfig(), merge_things=False)
    return {
        "detectron2": lambda: as_detectron2(outputs, semantic),
        "torch": lambda: fused(outputs, semantic, paste_masks_reference),
        "fused": lambda: fused(outputs, semantic, paste_masks),
        "whole": lambda: decode_regions(outputs, GEOMETRY, LABELS, DECODING),
    }


def differing(ours: PanopticMap, other: PanopticMap) -> int:
    """Return how many pixels are in another segment than most pixels of their segment in our map."""
    assert ours.category.sort().values.equal(other.category.sort().values)
    num = 1 + other.num_segments
    pairs = torch.bincount((ours.ids.long() * num + other.ids).flatten(), minlength=num * num).view(num, num)
    return ours.ids.numel() - int(pairs.amax(dim=1).sum())


def check(outputs: RegionOutputs) -> tuple[int, str]:
    """Compare the maps; return the number of objects and of pixels that differ from detectron2's."""
    compared = ways(outputs)
    ours, plain, theirs = (compared[name]() for name in ("fused", "torch", "detectron2"))
    assert isinstance(ours, PanopticMap)
    assert isinstance(theirs, PanopticMap)
    assert ours == plain
    return len(outputs.mask_score[0]), str(differing(ours, theirs))


if __name__ == "__main__":
    compare(
        __doc__,
        __file__,
        outputs_for=outputs_for,
        ways=ways,
        check=check,
        columns=COLUMNS,
        slow=("detectron2", "torch"),
        speedup=("detectron2", "fused"),
    )
