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

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import torch
from center_scenes import SIZE, outputs_of, street_map
from reporting import cpu_milliseconds, machine, peak_megabytes, table
from torch import Tensor
from torch.nn import functional as F

from panscape import LabelSpace, PanopticMap
from panscape.geometry import ImageGeometry
from panscape.ops.cropped_masks import CroppedMasks
from panscape.ops.paste_masks import paste_masks, paste_masks_reference
from panscape.representations.fusion import FusionConfig, fuse_instances
from panscape.representations.regions import RegionDecoding, RegionOutputs, RegionRepresentation
from panscape.representations.regions.decode import decode_regions, semantic_at_image_size
from panscape.representations.regions.representation import perfect_regions

LABELS = LabelSpace.load("cityscapes")
GEOMETRY = [ImageGeometry.of(SIZE)]
DECODING = RegionDecoding()
WAYS = ("detectron2", "torch", "fused", "whole")


def outputs_for(num_things: int, seed: int = 0) -> RegionOutputs:
    """Return noisy outputs for a street-like scene: boxes with errors of a few percent, and frayed masks."""
    g = torch.Generator().manual_seed(seed)
    truth = street_map(num_things=num_things)
    targets = RegionRepresentation().encode(truth, LABELS, SIZE)
    empty = torch.zeros(1, 0)
    outputs = perfect_regions(
        RegionOutputs(outputs_of(truth).semantic_logits[None], *[empty] * 8, torch.zeros(1, 0, 28, 28)),
        type(targets)(*(part[None] for part in targets)),
    )
    boxes, masks = outputs.mask_boxes, outputs.masks
    sides = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    limit = torch.tensor([SIZE[1], SIZE[0]] * 2)
    boxes = torch.minimum((boxes + 0.03 * sides * torch.randn(boxes.shape, generator=g)).clamp(min=0), limit)
    masks = F.avg_pool2d(masks.sign() * 4, 3, 1, 1) + torch.randn(masks.shape, generator=g)
    score = 0.5 + 0.5 * torch.rand(boxes.shape[:2], generator=g).sort(descending=True).values
    return outputs._replace(mask_boxes=boxes, masks=masks, mask_score=score)


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


def fused(
    outputs: RegionOutputs, semantic: Tensor, paste: Callable[[Tensor, Tensor, tuple[int, int], float], CroppedMasks]
) -> PanopticMap:
    """Paste and fuse with our parts."""
    masks = paste(outputs.masks[0].sigmoid(), outputs.mask_boxes[0], SIZE, DECODING.mask_threshold)
    category = torch.tensor(LABELS.thing_ids)[outputs.mask_category[0]]
    return fuse_instances(masks, category, outputs.mask_score[0], semantic, LABELS, DECODING.fusion)


def ways(outputs: RegionOutputs) -> dict[str, Callable[[], object]]:
    """Return the compared implementations by name."""
    (semantic,) = semantic_at_image_size(outputs.semantic, GEOMETRY, LABELS, FusionConfig(), merge_things=False)
    runs: tuple[Callable[[], object], ...] = (
        lambda: as_detectron2(outputs, semantic),
        lambda: fused(outputs, semantic, paste_masks_reference),
        lambda: fused(outputs, semantic, paste_masks),
        lambda: decode_regions(outputs, GEOMETRY, LABELS, DECODING),
    )
    return dict(zip(WAYS, runs, strict=True))


def differing(ours: PanopticMap, other: PanopticMap) -> int:
    """Return how many pixels are in another segment than most pixels of their segment in our map."""
    assert ours.category.sort().values.equal(other.category.sort().values)
    num = 1 + other.num_segments
    pairs = torch.bincount((ours.ids.long() * num + other.ids).flatten(), minlength=num * num).view(num, num)
    return ours.ids.numel() - int(pairs.amax(dim=1).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--objects", nargs="+", type=int, default=[10, 40, 100], help="numbers of objects in the scenes"
    )
    parser.add_argument("--repeats", type=int, default=15, help="rounds")
    parser.add_argument("--markdown", action="store_true", help="print only the table")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time (Linux)")
    parser.add_argument("--peak-of", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak_of is not None:
        run = ways(outputs_for(args.objects[0]))[args.peak_of]
        print(f"{peak_megabytes(run, warm_up=ways(outputs_for(5))[args.peak_of]):.0f}")
        return
    if args.memory:
        lines = []
        for num_things in args.objects:
            command = [sys.executable, __file__, "--objects", str(num_things), "--peak-of"]
            lines.append([str(num_things), *(subprocess.check_output([*command, w], text=True).strip() for w in WAYS)])
        print(table(["objects in the scene", *(f"{name}, MB" for name in WAYS)], lines))
        return
    rows = []
    for num_things in args.objects:
        outputs = outputs_for(num_things)
        compared = ways(outputs)
        ours, plain, theirs = (compared[name]() for name in ("fused", "torch", "detectron2"))
        assert isinstance(ours, PanopticMap)
        assert isinstance(theirs, PanopticMap)
        assert ours == plain
        quick, slow = ({name: compared[name] for name in names} for names in (WAYS[2:], WAYS[:2]))
        best = cpu_milliseconds(quick, args.repeats) | cpu_milliseconds(slow, 2)
        rows.append(
            [
                str(len(outputs.mask_score[0])),
                *(f"{best[name]:.1f}" for name in WAYS[:3]),
                f"{best['detectron2'] / best['fused']:.0f}",
                f"{best['whole']:.1f}",
                f"{differing(ours, theirs)}",
            ]
        )
    if not args.markdown:
        print(f"{machine()}, numba {numba.__version__}\n")
    header = [
        "objects",
        "paste and fuse, detectron2's algorithm, ms",
        "paste and fuse, plain torch masks, ms",
        "paste and fuse, panscape, ms",
        "speedup",
        "complete, panscape, ms",
        "differing pixels",
    ]
    print(table(header, rows))


if __name__ == "__main__":
    main()
