"""Time the merging of queries: panscape, image processors of transformers, and the authors' rule in torch.

Input: class and mask logits of 100 queries for 133 categories, the masks at stride 4 of a street-like scene of 1024 x
2048 pixels; queries without an object are "no object". The authors' rule is written here as in EoMT's code: masks are
upsampled to the image's size, and merged one by one; its map is compared with ours pixel by pixel. If transformers is
installed, the processors of EoMT, which follows that rule, and of Mask2Former, which does not and first resizes all
masks to 384 x 384, receive the same logits. Times are CPU time of the process with one thread, the minimum over several
rounds in which the implementations alternate.

Run ``uv run --with transformers python benchmarks/merge_queries.py``; it prints a Markdown table. ``--memory`` prints
the peak memory of each implementation in addition to its inputs instead, each measured in a separate process (Linux).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from center_scenes import SIZE, STRIDE, street_map
from compare_decoding import compare
from torch import Tensor
from torch.nn import functional as F

from panscape import PanopticMap
from panscape.postprocess import map_from_queries

NUM_QUERIES, NUM_CATEGORIES, NUM_THINGS = 100, 133, 80
SCORE, OVERLAP = 0.8, 0.8
HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None
PROCESSORS = {"mask2former": "Mask2Former's processor", "eomt": "EoMT's processor"} if HAS_TRANSFORMERS else {}
COLUMNS = PROCESSORS | {"torch": "authors' rule in torch", "fused": "panscape"}


class Logits(NamedTuple):
    """Logits of one image."""

    category: Tensor
    masks: Tensor


def outputs_for(num_objects: int) -> Logits:
    """Return noisy logits for a street-like scene: a query for each segment, the others with no object."""
    g = torch.Generator().manual_seed(0)
    truth = street_map(num_things=num_objects)
    masks = F.avg_pool2d(truth.masks()[:NUM_QUERIES].float()[None], STRIDE)[0] * 16 - 8
    masks = torch.cat([masks, torch.full((NUM_QUERIES - len(masks), *masks.shape[1:]), -8.0)])
    masks += torch.randn(masks.shape, generator=g) / 2
    is_thing = truth.category[:NUM_QUERIES] >= 11
    category = torch.where(is_thing, truth.category[:NUM_QUERIES], truth.category[:NUM_QUERIES] + NUM_THINGS)
    category = torch.cat([category, torch.full((NUM_QUERIES - len(category),), NUM_CATEGORIES)])
    logits = torch.zeros(NUM_QUERIES, NUM_CATEGORIES + 1)
    logits[torch.arange(NUM_QUERIES), category] = 8 + 4 * torch.rand(NUM_QUERIES, generator=g)
    return Logits(logits, masks)


def in_torch(given: Logits) -> PanopticMap:
    """Merge by the authors' rule; ids from 1 as ours."""
    prob = F.interpolate(given.masks[None], SIZE, mode="bilinear", align_corners=False)[0]
    score, category = given.category.softmax(1).max(1)
    keep = ((category != NUM_CATEGORIES) & (score > SCORE)).nonzero()[:, 0]
    prob, score, category = prob[keep].sigmoid(), score[keep], category[keep]
    winner = (prob * score[:, None, None]).argmax(0)
    ids = torch.zeros(SIZE, dtype=torch.int32)
    rows: list[int] = []
    stuff: dict[int, int] = {}
    for k, label in enumerate(category.tolist()):
        own, mask = winner == k, prob[k] >= 0.5
        painted = own & mask
        if not own.any() or not mask.any() or not painted.any() or own.sum() / mask.sum() < OVERLAP:
            continue
        if label not in stuff:
            rows.append(k)
        number = stuff.get(label, len(rows))
        ids[painted] = number
        if label >= NUM_THINGS:
            stuff[label] = number
    return PanopticMap(ids, category[rows], score[rows])


@cache
def processor(name: str) -> Any:
    """Return an image processor of transformers; EoMT's for an input of the image's size."""
    import transformers

    if name == "mask2former":
        return transformers.Mask2FormerImageProcessor()
    return transformers.EomtImageProcessor(size={"shortest_edge": SIZE[0], "longest_edge": SIZE[1]})


def with_processor(name: str, given: Logits) -> dict[str, Any]:
    """Merge with an image processor of transformers."""
    outputs = SimpleNamespace(class_queries_logits=given.category[None], masks_queries_logits=given.masks[None])
    stuff = list(range(NUM_THINGS, NUM_CATEGORIES))
    fuse: dict[str, Any] = {"label_ids_to_fuse": set(stuff)} if name == "mask2former" else {"stuff_classes": stuff}
    return processor(name).post_process_panoptic_segmentation(
        outputs, target_sizes=[SIZE], threshold=SCORE, overlap_mask_area_threshold=OVERLAP, **fuse
    )[0]


def fused(given: Logits) -> PanopticMap:
    """Merge with our function."""
    return map_from_queries(
        given.category,
        given.masks,
        SIZE,
        rule="eomt",
        things=range(NUM_THINGS),
        score_threshold=SCORE,
        overlap_threshold=OVERLAP,
    )


def ways(given: Logits) -> dict[str, Callable[[], object]]:
    """Return the compared implementations by name."""
    return {
        **{name: partial(with_processor, name, given) for name in PROCESSORS},
        "torch": lambda: in_torch(given),
        "fused": lambda: fused(given),
    }


def check(given: Logits) -> tuple[int, str]:
    """Compare the maps; return the number of segments and of pixels that differ."""
    ours, theirs = fused(given), in_torch(given)
    assert ours.category.equal(theirs.category)
    maps = [theirs.ids]
    if HAS_TRANSFORMERS:
        maps.append(with_processor("eomt", given)["segmentation"] + 1)
    return len(ours), str(max(int((ours.ids != ids).sum()) for ids in maps))


if __name__ == "__main__":
    compare(
        __doc__,
        __file__,
        outputs_for=outputs_for,
        ways=ways,
        check=check,
        columns=COLUMNS,
        slow=(*PROCESSORS, "torch"),
        speedup=("mask2former" if HAS_TRANSFORMERS else "torch", "fused"),
        objects=(10, 40, 89),
    )
