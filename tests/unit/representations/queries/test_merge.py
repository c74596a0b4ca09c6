"""Queries are merged by the published rules: order, shares, thresholds, ids, padding."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.representations.queries import QueryDecoding, QueryOutputs, merge_queries
from panscape.representations.queries.decode import decode_queries

RULES = ("maskformer", "mask2former", "oneformer", "eomt")
IN_MASK = RULES[1:]
THINGS, NUM_CATEGORIES, NO_OBJECT = (1, 2), 4, 4


def classes(*queries: tuple[int, float]) -> torch.Tensor:
    """Return category logits of queries with these categories and probabilities."""
    rows = []
    for category, score in queries:
        prob = torch.full((NUM_CATEGORIES + 1,), (1 - score) / NUM_CATEGORIES)
        prob[category] = score
        rows.append(prob.log())
    return torch.stack(rows)


def strips(*queries: dict[range | int, float], width: int = 10) -> torch.Tensor:
    """Return mask logits of one row: each query has a logit on some columns, and -9 elsewhere."""
    masks = torch.full((len(queries), 1, width), -9.0)
    for mask, query in zip(masks, queries, strict=True):
        for columns, logit in query.items():
            mask[0, list(columns) if isinstance(columns, range) else columns] = logit
    return masks


def merged(category_logits, mask_logits, rule="mask2former", **options):
    size = options.pop("size", tuple(mask_logits.shape[1:]))
    return merge_queries(category_logits, mask_logits, size, rule=rule, things=THINGS, **options)


def published(category_logits, mask_logits, geometry, rule, score_threshold, overlap_threshold):
    """Merge as the authors' codes do, step by step; void is 0 and ids count from 1."""
    score, category = category_logits.softmax(1).max(1)
    keep = (category != category_logits.shape[1] - 1) & (score > score_threshold)
    logits = mask_logits[keep][None]
    logits = F.interpolate(logits, geometry.padded_size, mode="bilinear", align_corners=False)
    logits = logits[..., : geometry.inference_size[0], : geometry.inference_size[1]]
    prob = F.interpolate(logits, geometry.size, mode="bilinear", align_corners=False)[0].sigmoid()
    ids, segments, stuff = torch.zeros(geometry.size, dtype=torch.int32), [], {}
    if not keep.any():
        return ids, segments
    winner = (score[keep][:, None, None] * prob).argmax(0)
    for k, c in enumerate(category[keep].tolist()):
        own, mask = winner == k, prob[k] >= 0.5
        painted = own if rule == "maskformer" else own & mask
        if not own.any() or not mask.any() or not painted.any():
            continue
        if int(own.sum()) / int(mask.sum()) < overlap_threshold:
            continue
        if c in stuff:
            ids[painted] = stuff[c]
            continue
        segments.append(c)
        ids[painted] = len(segments)
        if c not in THINGS:
            stuff[c] = len(segments)
    return ids, segments


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form", ["whole", "padded", "resized", "reduced"])
def test_the_map_is_that_of_the_published_steps(rule, form):
    size, seen, padded = {
        "whole": ((96, 128), (96, 128), (96, 128)),
        "padded": ((90, 101), (90, 101), (96, 128)),
        "resized": ((61, 87), (90, 101), (96, 128)),
        "reduced": ((200, 313), (91, 128), (96, 128)),
    }[form]
    g = torch.Generator().manual_seed(RULES.index(rule))
    num, differing, lengths = 12, 0, []
    for _ in range(5):
        masks = F.interpolate(6 * torch.randn(1, num, 4, 5, generator=g) - 2, (24, 32), mode="bicubic")[0]
        category = torch.randint(0, NO_OBJECT + 1, (num,), generator=g).tolist()
        logits = classes(*zip(category, (0.5 + 0.5 * torch.rand(num, generator=g)).tolist(), strict=True))
        geometry = ImageGeometry.of(size, seen, padded)
        ids, segments = published(logits, masks, geometry, rule, 0.6, 0.4)
        result = merged(
            logits, masks, rule, size=size, inference_size=seen, padded_size=padded, score_threshold=0.6,
            overlap_threshold=0.4,
        )  # fmt: skip
        assert result.category.tolist() == segments
        assert result.score.tolist() == logits.softmax(1).amax(1)[result.query].tolist()
        assert result.ids.dtype == torch.int32
        differing += int((result.ids != ids).sum())
        lengths.append(len(segments))
    assert differing <= 2  # pixels of 5 images where two products differ by rounding
    assert sum(lengths) >= 10


@pytest.mark.parametrize("rule", RULES)
def test_ids_count_segments_and_stuff_joins_the_first_of_its_category(rule):
    logits = classes((1, 0.9), (0, 0.95), (1, 0.9), (0, 0.9), (2, 0.85), (2, 0.9))
    masks = strips({range(2): 9}, {2: 9}, {3: 9}, {range(4, 6): 9}, {6: 9}, {range(7, 10): 9})
    result = merged(logits, masks, rule)
    assert result.ids.tolist() == [[1, 1, 2, 3, 2, 2, 4, 5, 5, 5]]
    assert result.category.tolist() == [1, 0, 1, 2, 2]
    assert result.query.tolist() == [0, 1, 2, 4, 5]
    torch.testing.assert_close(result.score, torch.tensor([0.9, 0.95, 0.9, 0.85, 0.9]))


def test_pixels_below_one_half_belong_to_maskformer_alone():
    logits, masks = classes((1, 0.9)), strips({range(4): 2, range(4, 10): -1})
    assert merged(logits, masks, "maskformer").ids.tolist() == [[1] * 10]
    for rule in IN_MASK:
        assert merged(logits, masks, rule).ids.tolist() == [[1] * 4 + [0] * 6]


@pytest.mark.parametrize("rule", RULES)
def test_the_share_counts_pixels_of_the_mask_alone_and_may_equal_the_threshold(rule):
    # Query 0 has 4 of 5 pixels of its mask. Its products are below 0.5: 0.85 * 0.55.
    logits, masks = classes((1, 0.85), (2, 0.99)), strips({range(5): 0.2}, {range(4, 10): 9})
    whole = rule == "maskformer"
    assert merged(logits, masks, rule).ids.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2, 2, 2]]
    lost = merged(logits, masks, rule, overlap_threshold=0.801)
    assert lost.ids.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 1, 1]]
    assert lost.query.tolist() == [1]
    # Assigned pixels outside of the mask count too: 4 + 1 of 5.
    masks = strips({range(5): 0.2, 5: -1}, {range(6, 10): 9, 4: 9})
    assert merged(logits, masks, rule, overlap_threshold=0.9).ids.tolist() == [
        [1, 1, 1, 1, 2, 1 if whole else 0, 2, 2, 2, 2]
    ]


@pytest.mark.parametrize("rule", RULES)
def test_scores_must_exceed_the_threshold_and_no_object_is_dropped(rule):
    logits = classes((1, 0.9), (NO_OBJECT, 0.99), (2, 0.8))
    masks = strips({range(3): 9}, {range(3, 6): 12}, {range(6, 10): 9})
    threshold = float(logits.softmax(1)[2, 2])
    result = merged(logits, masks, rule, score_threshold=threshold, overlap_threshold=0)
    assert result.query.tolist() == [0]
    assert merged(logits, masks, rule, score_threshold=threshold - 1e-3).query.tolist() == [0, 2]


@pytest.mark.parametrize("rule", RULES)
def test_dropped_stuff_does_not_start_a_segment(rule):
    # Query 0 has 1 of 4 pixels; query 2 of the same category is the first accepted one.
    logits = classes((0, 0.82), (1, 0.99), (0, 0.99))
    masks = strips({range(4): 9}, {range(1, 4): 9}, {range(4, 10): 9})
    result = merged(logits, masks, rule)
    assert result.ids.tolist() == [[0, 1, 1, 1, 2, 2, 2, 2, 2, 2]]
    assert result.query.tolist() == [1, 2]


def published_by_detr(category_logits, mask_logits, size, score_threshold):
    """Merge as DETR's code does, step by step, for a network's input of this size; void is 0 and ids count from 1."""
    score, category = category_logits.softmax(1).max(1)
    keep = (category != category_logits.shape[1] - 1) & (score > score_threshold)
    category, masks = category[keep], F.interpolate(mask_logits[keep][None], size, mode="bilinear")[0]
    first = {}
    owner = [first.setdefault(c, k) if c not in THINGS else k for k, c in enumerate(category.tolist())]
    while len(category):
        winner = masks.softmax(0).argmax(0)
        area = torch.tensor(owner)[winner].flatten().bincount(minlength=len(category))
        if bool((area > 4).all()):
            return (winner + 1).int(), category.tolist()
        category, masks = category[area > 4], masks[area > 4]
        owner = list(range(len(category)))
    return torch.zeros(size, dtype=torch.int32), []


@pytest.mark.parametrize("scale", [1, 6])
def test_detr_is_merged_by_the_published_steps(scale):
    g, size = torch.Generator().manual_seed(0), (48, 64)
    seen = set()
    for _ in range(20):
        masks = scale * (4 * F.interpolate(torch.randn(1, 9, 3, 4, generator=g), (12, 16), mode="bicubic")[0] - 3)
        masks[:3] -= 2.5 * scale  # seldom the largest
        category = torch.randint(0, NUM_CATEGORIES + 1, (9,), generator=g).tolist()
        logits = classes(*zip(category, (0.7 + 0.3 * torch.rand(9, generator=g)).tolist(), strict=True))
        ids, segments = published_by_detr(logits, masks, size, 0.75)
        result = merged(logits, masks, "detr", size=size, score_threshold=0.75)
        assert result.category.tolist() == segments
        assert int((result.ids != ids).sum()) <= 2
        seen.add(len(segments))
    assert len(seen) > 3


def test_detr_drops_queries_without_pixels_and_leaves_none_void():
    logits = classes((0, 0.9), (1, 0.99), (0, 0.95), (2, 0.9))
    # Four pixels of a car go to the sky, and so do those of the second query of the sky.
    masks = strips({range(10): -1}, {range(4): 20}, {range(10, 18): 30}, {range(18, 24): 18}, width=24)
    result = merged(logits, masks, "detr", score_threshold=0.8, overlap_threshold=1.0)
    assert result.ids.tolist() == [[1] * 18 + [2] * 6]
    assert (result.category.tolist(), result.query.tolist()) == ([0, 2], [0, 3])


@pytest.mark.parametrize("num", [0, 2])
def test_without_queries_all_is_void_of_the_same_type(num):
    logits, masks = torch.zeros(num, 5), torch.zeros(num, 3, 4)
    result = merged(logits, masks, size=(12, 16))
    assert result.ids.equal(torch.zeros(12, 16, dtype=torch.int32))
    assert [part.dtype for part in result[1:]] == [torch.int64, torch.float32, torch.int64]
    assert [len(part) for part in result[1:]] == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_and_layout(dtype):
    logits = classes((1, 0.9), (2, 0.9))
    masks = torch.tensor([[[8.0, -8.0], [8.0, float("nan")]], [[-8.0, 8.0], [-float("inf"), float("inf")]]])
    strided = masks.to(dtype).repeat_interleave(2, 2)[..., ::2]
    result = merged(logits.to(dtype), strided, size=(2, 2))
    assert result.ids.tolist() == [[1, 2], [1, 2]]


def test_a_batch_is_decoded_at_the_images_own_sizes():
    masks = torch.full((2, 2, 8, 8), -9.0)
    masks[:, 0, :4], masks[:, 1, 4:] = 9, 9
    category_logits = torch.full((2, 2, 5), -9.0)
    category_logits[:, 0, 0], category_logits[:, 1, 2] = 9, 9
    outputs = QueryOutputs(category_logits, masks, masks.new_zeros(0, 2, 2, 5), masks.new_zeros(0, 2, 2, 8, 8))
    geometries = [ImageGeometry.of((32, 20), padded_size=(32, 32)), ImageGeometry.of((48, 16), (24, 32), (32, 32))]
    first, second = decode_queries(outputs, geometries, SHAPES, QueryDecoding())
    assert (first.size, second.size) == ((32, 20), (48, 16))
    assert first.areas().tolist() == [16 * 20, 16 * 20]
    assert second.areas().tolist() == [32 * 16, 16 * 16]  # two thirds of the image's 24 rows are above
    assert first.category.tolist() == [0, 2]
    assert first.labels == SHAPES
    with pytest.raises(InvalidArgumentError, match="one size for each of the 2 images, got 1"):
        decode_queries(outputs, geometries[:1], SHAPES, QueryDecoding())
    with pytest.raises(InvalidArgumentError, match="for the 4 categories of shapes and no object, got 4"):
        decode_queries(outputs._replace(category_logits=category_logits[..., 1:]), geometries, SHAPES, QueryDecoding())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_logits": torch.zeros(2, 3, 5)}, r"of one image, got \[2, 3, 5\]"),
        ({"category_logits": torch.zeros(3, 5)}, r"got \[3, 5\] and \[2, 4, 4\]"),
        ({"category_logits": torch.zeros(2, 1)}, "at least one category"),
        ({"mask_logits": torch.zeros(2, 0, 4)}, "masks with pixels"),
        ({"rule": "segformer"}, "one of maskformer, mask2former, oneformer, eomt, detr, got 'segformer'"),
        ({"things": [0, 4]}, r"things in 0\.\.3, the categories of the logits, got 4"),
        ({"score_threshold": 1.5}, r"score_threshold in 0\.\.1, got 1\.5"),
        ({"overlap_threshold": float("nan")}, r"overlap_threshold in 0\.\.1, got nan"),
        ({"inference_size": (20, 16), "padded_size": (16, 16)}, "within the padded size 16x16"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(change, message):
    arguments = {"category_logits": torch.zeros(2, 5), "mask_logits": torch.zeros(2, 4, 4), "size": (16, 16)}
    arguments |= {"rule": "eomt", "things": [0]} | change
    with pytest.raises(InvalidArgumentError, match=message):
        merge_queries(**arguments)
