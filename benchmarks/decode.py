"""Time the decoding of centres: panscape, the common algorithm, and plain torch.

Input: stride-4 outputs of a street-like scene of 1024 x 2048 pixels with 19 categories, for several numbers of
centres. The common algorithm upsamples all outputs, computes the distance of every pixel to every centre, and makes one
mask per segment; at 200 centres it needs about 5 GB. All implementations compute the final map from the same outputs,
and the differing pixels are counted. The additional time of the rules on parts of things (``one_category``,
``largest_part`` and ``leftover_area``), which change the map, is in its own columns. Times are CPU time of the process
with one thread, the minimum over several rounds in which the implementations alternate.

Run ``python benchmarks/decode.py``; it prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import torch
from center_scenes import SIZE, STRIDE, THINGS, Outputs, outputs_of, street_map
from reporting import cpu_milliseconds, machine, table
from torch import Tensor
from torch.nn import functional as F

from panscape import PanopticMap
from panscape.geometry import ImageGeometry
from panscape.representations.centers.decode import CenterDecoding, group_centers, group_centers_reference

DECODING = CenterDecoding()
LARGEST = replace(DECODING, largest_part=True)
ALL_PARTS = replace(LARGEST, one_category=True, leftover_area=200)


def common(outputs: Outputs) -> Tensor:
    """Group pixels with the common algorithm; int64 [H, W], ``category * 1000 + id`` and -1 for void."""
    enlarged = [
        F.interpolate(part[None], scale_factor=STRIDE, mode="bilinear", align_corners=DECODING.align_corners)[0]
        for part in (outputs.semantic_logits, outputs.center[None], outputs.offset)
    ]
    semantic, heat, offset = enlarged[0].argmax(0), enlarged[1], enlarged[2]
    heat = F.threshold(heat, DECODING.threshold, -1)
    highest = F.max_pool2d(heat, DECODING.nms_kernel, stride=1, padding=DECODING.nms_kernel // 2)
    heat[heat != highest] = -1
    points = (heat[0] > 0).nonzero()
    if len(points) >= DECODING.top_k:
        scores = heat[0][points[:, 0], points[:, 1]]
        points = points[scores.argsort(descending=True, stable=True)[: DECODING.top_k]]
    thing = torch.zeros_like(semantic, dtype=torch.bool)
    for c in THINGS:
        thing[semantic == c] = True
    instance = torch.zeros_like(semantic)
    if len(points):
        y, x = torch.meshgrid(*(torch.arange(length) for length in SIZE), indexing="ij")
        places = (torch.stack([y, x]) + offset).reshape(2, -1).T
        distance = torch.norm(points[:, None] - places[None], dim=-1)
        instance = (distance.argmin(0) + 1).reshape(SIZE) * thing
    result = torch.full_like(semantic, -1)
    for i in instance.unique().tolist():
        if i > 0:
            mask = (instance == i) & thing
            result[mask] = semantic[mask].mode().values * 1000 + i
    for c in semantic.unique().tolist():
        if c not in THINGS:
            mask = (semantic == c) & (instance == 0)
            if int(mask.sum()) >= DECODING.stuff_area:
                result[mask] = c * 1000
    return result


def num_different(found: PanopticMap, expected: Tensor) -> int:
    """Count the pixels with another category or segment; segments are matched by their largest overlap."""
    value = torch.cat([torch.tensor([-1]), found.category])[found.ids.long()]
    wrong = torch.div(expected, 1000, rounding_mode="floor") != value
    pairs = torch.stack([expected.flatten(), found.ids.flatten().long()])
    kinds, counts = torch.unique(pairs, dim=1, return_counts=True)
    partner: dict[int, tuple[int, int]] = {}
    for (published, ours), count in zip(kinds.T.tolist(), counts.tolist(), strict=True):
        partner[ours] = max(partner.get(ours, (0, 0)), (count, published))
    table_of = torch.tensor([partner.get(i, (0, -1))[1] for i in range(found.num_segments + 1)])
    return int((wrong | (table_of[found.ids.long()] != expected)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--centers", nargs="*", type=int, default=[0, 20, 50, 200], help="numbers of centres")
    parser.add_argument("--repeats", type=int, default=15, help="rounds")
    parser.add_argument("--markdown", action="store_true", help="print only the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for num_centers in args.centers:
        truth = street_map(num_things=num_centers)
        outputs = outputs_of(truth)
        case = (*outputs, ImageGeometry.of(SIZE), THINGS, DECODING)
        found = group_centers(*case)
        different = num_different(found, common(outputs))
        assert torch.equal(found.ids, group_centers_reference(*case).ids)
        slow = {
            "common": lambda outputs=outputs: common(outputs),
            "torch": lambda case=case: group_centers_reference(*case),
        }
        kinds = {"panscape": DECODING, "largest": LARGEST, "parts": ALL_PARTS}
        best = cpu_milliseconds(
            {name: lambda case=(*case[:-1], kind): group_centers(*case) for name, kind in kinds.items()}, args.repeats
        )
        best |= cpu_milliseconds(slow, 1)
        thing_share = float((truth.category >= THINGS[0])[truth.ids.long() - 1].float().mean())
        rows.append(
            [
                str(num_centers),
                f"{thing_share:.0%}",
                *(f"{best[name]:.1f}" for name in ("common", "torch", "panscape")),
                *(f"{best[name] - best['panscape']:.1f}" for name in ("largest", "parts")),
                f"{best['common'] / best['panscape']:.0f}",
                str(different),
            ]
        )
    if not args.markdown:
        print(f"{machine()}, numba {numba.__version__}\n")
    header = [
        "objects",
        "thing pixels",
        "common, ms",
        "plain torch, ms",
        "panscape, ms",
        "largest_part, additional ms",
        "all rules on parts, additional ms",
        "speedup",
        "differing pixels",
    ]
    print(table(header, rows))


if __name__ == "__main__":
    main()
