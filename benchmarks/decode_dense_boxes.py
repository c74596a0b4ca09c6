"""Time the post-processing of dense boxes: panscape, the authors' implementation, and plain torch.

Input: boxes at five levels and a stride-8 segmentation of a street-like scene of 1024 x 2048 pixels with 19 categories,
for several numbers of detected objects. The authors' implementation computes the masks of all objects at once, which
takes more than 2 GB at 100 objects; here it receives the same query boxes, and its masks are compared with ours pixel
by pixel. "Complete" is all of the decoding, from the network's outputs to the map: selection of boxes, masks,
segmentation and fusion. Times are CPU time of the process with one thread, the minimum over several rounds in which the
implementations alternate.

Run ``python benchmarks/decode_dense_boxes.py``; it prints a Markdown table. ``--memory`` prints the peak memory of each
implementation in addition to its inputs instead, each measured in a separate process (Linux).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from center_scenes import SIZE, outputs_of, street_map
from compare_decoding import LABELS, compare
from torch import Tensor
from torch.nn import functional as F

from panscape.geometry import ImageGeometry
from panscape.ops.cropped_masks import CroppedMasks
from panscape.representations.dense_boxes import DenseBoxOutputs, DenseBoxRepresentation
from panscape.representations.dense_boxes.decode import (
    DenseBoxDecoding,
    MaskInputs,
    decode_dense_boxes,
    dense_masks,
    dense_masks_reference,
    upsampled_thing_prob,
)
from panscape.representations.dense_boxes.locations import Pyramid, argmax_level, dense_boxes, level_sizes
from panscape.representations.dense_boxes.select_boxes import Boxes, select_boxes
from panscape.representations.fusion import FusionConfig

STRIDE, LEVELS = 8, 5
GRID = (SIZE[0] // 4, SIZE[1] // 4)
DECODING = DenseBoxDecoding(fusion=FusionConfig(min_score=0, stuff_area=2048))  # every detected object gets a mask


def outputs_for(num_things: int, seed: int = 0) -> DenseBoxOutputs:
    """Return noisy outputs for a street-like scene, with box errors of a few percent; a batch of one."""
    g = torch.Generator().manual_seed(seed)
    truth = street_map(num_things=num_things)
    targets = DenseBoxRepresentation().encode(truth, LABELS, SIZE)
    is_object = targets.box_category > 0
    box = torch.where(is_object, targets.box, 20 + 60 * torch.rand(targets.box.shape, generator=g))
    box = (box * (1 + 0.05 * torch.randn(box.shape, generator=g))).clamp_min(0.5)
    category = 0.5 * torch.randn(len(LABELS.thing_ids), box.shape[1], generator=g) - 5
    category[targets.box_category[is_object] - 1, is_object.nonzero()[:, 0]] += 7
    levelness = torch.randn(1 + LEVELS, *GRID, generator=g)
    levelness += 4 * F.one_hot(targets.levelness.clamp_min(0), 1 + LEVELS).permute(2, 0, 1)
    semantic = F.avg_pool2d(outputs_of(truth).semantic_logits, 2)
    centerness = torch.randn(box.shape[1], generator=g)
    return DenseBoxOutputs(semantic[None], category[None], box[None], centerness[None], levelness[None])


def queries_of(outputs: DenseBoxOutputs) -> Boxes:
    """Select the boxes of objects, the common input of all mask implementations."""
    parts = (outputs.box_category[0], outputs.box[0], outputs.centerness[0])
    return select_boxes(*parts, Pyramid(SIZE, STRIDE, LEVELS), SIZE, DECODING.selection)


def as_the_authors(outputs: DenseBoxOutputs, found: Boxes) -> Tensor:
    """Compute all masks at once, as the authors' code; bool [P, H, W]."""
    sizes = level_sizes(Pyramid(SIZE, STRIDE, LEVELS))
    planes = outputs.box.split([s.area for s in sizes], dim=2)
    grown = [
        F.interpolate(p.unflatten(2, s), GRID, mode="bilinear", align_corners=False)
        for p, s in zip(planes, sizes, strict=True)
    ]
    level = outputs.levelness[:, 1:].argmax(1)
    distances = torch.stack(grown, dim=1).gather(1, level[:, None, None].expand(-1, -1, 4, -1, -1))[0, 0]
    x, y = torch.meshgrid(torch.arange(GRID[1]) * 4 + 2, torch.arange(GRID[0]) * 4 + 2, indexing="xy")
    left, top, right, bottom = x - distances[0], y - distances[1], x + distances[2], y + distances[3]
    x1, y1, x2, y2 = (side[:, None, None] for side in found.boxes.unbind(1))
    shared = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp_min(0) * (
        torch.minimum(y2, bottom) - torch.maximum(y1, top)
    ).clamp_min(0)
    union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - shared
    around = (torch.maximum(x2, right) - torch.minimum(x1, left)) * (
        torch.maximum(y2, bottom) - torch.minimum(y1, top)
    ) + 1e-7
    location_prob = (shared + 1) / (union + 1) - (around - union) / around
    fine = F.interpolate(outputs.semantic, GRID, mode="bilinear", align_corners=False).softmax(1)[0]
    prob = fine[list(LABELS.thing_ids)][found.category] * location_prob
    whole = F.interpolate(prob[None], SIZE, mode="bilinear", align_corners=False)[0]
    return whole >= DECODING.mask_threshold


def in_plain_torch(outputs: DenseBoxOutputs, found: Boxes) -> Tensor:
    """Compute the masks one by one, with our plain torch reference."""
    return dense_masks_reference(_inputs(outputs, found), threshold=0.4, compat="released")


def in_windows(outputs: DenseBoxOutputs, found: Boxes) -> CroppedMasks:
    """Compute the masks with the kernels of our decoding."""
    return dense_masks(_inputs(outputs, found), threshold=0.4, compat="released")


def _inputs(outputs: DenseBoxOutputs, found: Boxes) -> MaskInputs:
    level = argmax_level(outputs.levelness, with_background=False)
    dense = dense_boxes(outputs.box, level, Pyramid(SIZE, STRIDE, LEVELS))[0]
    prob = upsampled_thing_prob(outputs.semantic[0], GRID, LABELS.thing_ids)
    return MaskInputs(found.boxes, found.category, dense, prob, ImageGeometry.of(SIZE))


def ways(outputs: DenseBoxOutputs) -> dict[str, Callable[[], object]]:
    """Return the compared implementations by name."""
    case = (outputs, queries_of(outputs))
    return {
        "authors": lambda: as_the_authors(*case),
        "torch": lambda: in_plain_torch(*case),
        "masks": lambda: in_windows(*case),
        "whole": lambda: decode_dense_boxes(
            outputs, [ImageGeometry.of(SIZE)], LABELS, Pyramid(SIZE, STRIDE, LEVELS), DECODING
        ),
    }


def check(outputs: DenseBoxOutputs) -> tuple[int, str]:
    """Compare the masks; return the number of objects and of pixels that differ from the authors' masks."""
    case = (outputs, queries_of(outputs))
    masks = in_windows(*case).to_masks(SIZE)
    assert torch.equal(masks, in_plain_torch(*case))
    return len(case[1].score), f"{int((masks != as_the_authors(*case)).sum())} of {int(masks.sum())}"


if __name__ == "__main__":
    compare(
        __doc__,
        __file__,
        outputs_for=outputs_for,
        ways=ways,
        check=check,
        columns={
            "authors": "masks, authors",
            "torch": "masks, plain torch",
            "masks": "masks, panscape",
            "whole": "complete, panscape",
        },
        slow=("authors", "torch"),
        speedup=("authors", "masks"),
        objects=(10, 40, 150),  # the 100 with the highest scores are kept
    )
