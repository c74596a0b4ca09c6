"""Post-processing of dense boxes against the authors' formulation, and edge cases with few objects."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor
from torch.nn import functional as F

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.representations.dense_boxes import DenseBoxDecoding, DenseBoxOutputs, DenseBoxRepresentation
from panscape.representations.dense_boxes.decode import decode_dense_boxes, decode_dense_boxes_reference
from panscape.representations.dense_boxes.locations import Pyramid, level_sizes
from panscape.representations.dense_boxes.select_boxes import select_boxes
from panscape.representations.fusion import FusionConfig

PADDED, STRIDE, LEVELS = (96, 128), 8, 3
GRID = (24, 32)
LENIENT = DenseBoxDecoding(fusion=FusionConfig(min_score=0.1, stuff_area=20))
PAPER = replace(LENIENT, compat="paper")


def noisy_outputs(seed: int, labels: LabelSpace = SHAPES) -> list[Tensor]:
    """Outputs of a generated ground truth with noise: semantic, box_category, box, centerness, levelness."""
    g = torch.Generator().manual_seed(seed)
    truth = generated_map(seed, PADDED, labels, void=False)
    targets = DenseBoxRepresentation(level_ends=(16.0, 40.0)).encode(truth, labels, PADDED)
    is_object = targets.box_category > 0
    box = torch.where(is_object, targets.box, 30 * torch.rand(targets.box.shape, generator=g))
    box = (box * (1 + 0.1 * torch.randn(box.shape, generator=g))).clamp_min(0.1)
    category = torch.randn(len(labels.thing_ids), box.shape[1], generator=g) - 5
    category[targets.box_category[is_object] - 1, is_object.nonzero()[:, 0]] += 6
    levelness = torch.randn(1 + LEVELS, *GRID, generator=g)
    levelness += 3 * F.one_hot(targets.levelness.clamp_min(0), 1 + LEVELS).permute(2, 0, 1)
    small = targets.semantic[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] - 1
    semantic = 3 * F.one_hot(small.clamp_min(0), len(labels)).permute(2, 0, 1).float()
    semantic += torch.randn(semantic.shape, generator=g)
    return [part[None] for part in (semantic, category, box, torch.randn(box.shape[1], generator=g), levelness)]


def decode(outputs, sizes, decoding, labels=SHAPES):
    geometries = [ImageGeometry.of(size) for size in sizes]
    return decode_dense_boxes(DenseBoxOutputs(*outputs), geometries, labels, Pyramid(PADDED, STRIDE, LEVELS), decoding)


def as_the_authors(outputs: list[Tensor], size, decoding: DenseBoxDecoding, with_levelness: bool) -> Tensor:
    """All masks at once with torch's resize, then the combination in a loop; category * 1000 + object, -1 void."""
    semantic, category, box, centerness, levelness = (part[0] for part in outputs)
    found = select_boxes(category, box, centerness, Pyramid(PADDED, STRIDE, LEVELS), size, decoding.selection)
    sizes = level_sizes(Pyramid(PADDED, STRIDE, LEVELS))
    planes = [p.unflatten(1, s) for p, s in zip(box.split([s.area for s in sizes], dim=1), sizes, strict=True)]
    grown = torch.stack([F.interpolate(p[None], GRID, mode="bilinear", align_corners=False)[0] for p in planes])
    x, y = torch.meshgrid(torch.arange(GRID[1]) * 4 + 2, torch.arange(GRID[0]) * 4 + 2, indexing="xy")
    dense = torch.stack([x - grown[:, 0], y - grown[:, 1], x + grown[:, 2], y + grown[:, 3]], dim=1)

    q, d = found.boxes[:, None, :, None, None], dense[None]  # [P, 1, 4, 1, 1] and [1, levels, 4, h, w]
    sides = torch.minimum(q[:, :, 2:], d[:, :, 2:]) - torch.maximum(q[:, :, :2], d[:, :, :2])
    shared = sides.clamp_min(0).prod(2)
    union = (q[:, :, 2:] - q[:, :, :2]).prod(2) + (d[:, :, 2:] - d[:, :, :2]).prod(2) - shared
    around = (torch.maximum(q[:, :, 2:], d[:, :, 2:]) - torch.minimum(q[:, :, :2], d[:, :, :2])).prod(2) + 1e-7
    is_paper = decoding.compat == "paper"
    location_prob = shared / union if is_paper else (shared + 1) / (union + 1) - (around - union) / around
    if with_levelness:
        chosen = levelness.argmax(0) if is_paper else levelness[1:].argmax(0) + 1
        location_prob = torch.stack([torch.zeros_like(location_prob[:, 0]), *location_prob.unbind(1)], dim=1)
        location_prob = location_prob.gather(1, chosen.expand(len(q), 1, -1, -1))
    location_prob = location_prob.amax(1)
    fine = F.interpolate(semantic[None], GRID, mode="bilinear", align_corners=False).softmax(1)[0]
    thing = torch.tensor(SHAPES.thing_ids)[found.category]
    value = F.interpolate((location_prob * fine[thing])[None], PADDED, mode="bilinear", align_corners=False)[0]
    value = value[:, : size[0], : size[1]]
    masks = value > decoding.mask_threshold if is_paper else value >= decoding.mask_threshold

    logits = F.interpolate(semantic[None], PADDED, mode="bilinear", align_corners=False)[0]
    likeliest = logits[:, : size[0], : size[1]].argmax(0)
    result = torch.full(size, -1)
    for p in range(len(masks)):
        area, free = int(masks[p].sum()), masks[p] & (result < 0)
        if found.score[p] < decoding.fusion.min_score or not int(free.sum()):
            continue
        if (area - int(free.sum())) / area <= decoding.fusion.max_overlap:
            result[free] = int(thing[p]) * 1000 + p + 1
    for c in SHAPES.stuff_ids:
        left = (likeliest == c) & (result < 0)
        if int(left.sum()) >= decoding.fusion.stuff_area:
            result[left] = c * 1000
    return result


def same_segments(found: PanopticMap, expected: Tensor) -> float:
    """Return the share of pixels whose category and company is the same."""
    pairs, counts = torch.unique(torch.stack([found.ids.long(), expected]).flatten(1), dim=1, return_counts=True)
    category = torch.cat([torch.tensor([-1]), found.category])
    agreed = 0
    for row in range(found.num_segments + 1):
        mine = pairs[0] == row
        if mine.any():
            best = int(counts[mine].argmax())
            value = int(pairs[1][mine][best])
            same = value == -1 if row == 0 else value >= 0 and value // 1000 == int(category[row])
            agreed += int(counts[mine][best]) if same else 0
    return agreed / expected.numel()


@pytest.mark.parametrize("with_levelness", [True, False])
@pytest.mark.parametrize("decoding", [LENIENT, PAPER, replace(LENIENT, mask_threshold=0.6, max_detections=3)])
@pytest.mark.parametrize("size", [PADDED, (91, 117)])
def test_it_does_what_the_authors_wrote(with_levelness, decoding, size):
    num_things = 0
    for seed in range(3):
        outputs = noisy_outputs(seed)
        given = outputs if with_levelness else [*outputs[:4], None]
        (found,) = decode(given, [size], decoding)
        assert found.size == size
        assert same_segments(found, as_the_authors(outputs, size, decoding, with_levelness)) > 0.9995
        num_things += int((found.category >= 2).sum())
    assert num_things > 3


@pytest.mark.parametrize("with_levelness", [True, False])
@pytest.mark.parametrize("uncovered", [True, False])
@pytest.mark.parametrize("compat", ["released", "paper"])
@pytest.mark.parametrize(
    ("size", "image_size"),
    [(PADDED, PADDED), ((91, 117), (91, 117)), ((91, 117), (201, 259)), ((91, 117), (30, 40))],
)
def test_it_equals_the_plain_definition_in_every_pixel(with_levelness, uncovered, compat, size, image_size):
    fusion = FusionConfig(min_score=0.1, stuff_area=20, stuff_on_uncovered=uncovered)
    decoding, pyramid = DenseBoxDecoding(compat, fusion=fusion), Pyramid(PADDED, STRIDE, LEVELS)
    num_things = 0
    for seed in range(4):
        outputs = DenseBoxOutputs(*noisy_outputs(seed))
        if not with_levelness:
            outputs = outputs._replace(levelness=None)
        if seed == 3:
            outputs.semantic[..., ::5] = torch.nan
            outputs.box[..., ::7] = torch.inf
        geometry = ImageGeometry.of(image_size, size)
        (found,) = decode_dense_boxes(outputs, [geometry], SHAPES, pyramid, decoding)
        expected = decode_dense_boxes_reference(outputs, geometry, SHAPES, pyramid, decoding)
        assert found.size == image_size
        assert torch.equal(found.ids, expected.ids)
        assert torch.equal(found.category, expected.category)
        assert torch.equal(found.score, expected.score)
        num_things += int((found.category >= 2).sum())
    assert num_things > 3


def test_maps_of_resized_outputs_are_those_at_the_networks_size_with_finer_edges():
    pyramid = Pyramid(PADDED, STRIDE, LEVELS)
    for seed in range(3):
        outputs = DenseBoxOutputs(*noisy_outputs(seed))
        decoding = DenseBoxDecoding(fusion=FusionConfig(min_score=0.1, stuff_area=200))
        (seen,) = decode_dense_boxes(outputs, [ImageGeometry.of(PADDED)], SHAPES, pyramid, decoding)
        size = (3 * PADDED[0], 3 * PADDED[1])
        (found,) = decode_dense_boxes(outputs, [ImageGeometry.of(size, PADDED)], SHAPES, pyramid, decoding)
        assert torch.equal(found.category, seen.category)  # areas are those of the network's input
        assert torch.equal(found.score, seen.score)
        middle = found.ids[1::3, 1::3]  # pixels at the same places; masks may differ by rounding alone
        assert int((middle != seen.ids).sum()) <= 2
        assert not torch.equal(found.ids, seen.resize(*size).ids)


def test_a_batch_is_decoded_image_by_image():
    outputs, sizes = [noisy_outputs(seed) for seed in range(2)], [(96, 128), (50, 61)]
    together = decode([torch.cat(parts) for parts in zip(*outputs, strict=True)], sizes, LENIENT)
    for one, size, found in zip(outputs, sizes, together, strict=True):
        (alone,) = decode(one, [size], LENIENT)
        assert torch.equal(alone.ids, found.ids)
        assert torch.equal(alone.score, found.score)


def test_without_detections_there_is_stuff_alone():
    semantic, category, *rest = noisy_outputs(0)
    (found,) = decode([semantic, category - 100, *rest], [PADDED], LENIENT)
    assert set(found.category.tolist()) <= set(SHAPES.stuff_ids)
    assert bool((found.ids == 0).any())  # where the argmax is a thing
    covering = replace(LENIENT, fusion=FusionConfig(stuff_on_uncovered=True, stuff_area=0))
    (found,) = decode([semantic, category - 100, *rest], [PADDED], covering)
    assert not bool((found.ids == 0).any())


def test_categories_may_all_be_things_or_all_be_stuff():
    things = LabelSpace("things", tuple(Category(f"thing {i}", True, i, (i, i, i)) for i in range(4)))
    semantic, category, *rest = noisy_outputs(1)
    four = torch.cat([category - 100, category], dim=1)
    (found,) = decode([semantic, four, *rest], [PADDED], LENIENT, things)
    assert set(found.category.tolist()) <= {2, 3}  # the last one too, which the released code drops
    assert 3 in found.category.tolist()
    stuff = LabelSpace("stuff", tuple(Category(f"stuff {i}", False, i, (i, i, i)) for i in range(4)))
    without = DenseBoxOutputs(semantic, category[:, :0], *rest)
    (found,) = decode(without, [PADDED], LENIENT, stuff)
    geometry, pyramid = ImageGeometry.of(PADDED), Pyramid(PADDED, STRIDE, LEVELS)
    assert found.equals(decode_dense_boxes_reference(without, geometry, stuff, pyramid, LENIENT))
    assert set(found.category.tolist()) <= {0, 1, 2, 3}


def test_more_than_a_hundred_objects_may_tie():
    num = sum(s.area for s in level_sizes(Pyramid(PADDED, STRIDE, 1)))
    semantic = torch.zeros(1, 4, 12, 16)
    semantic[:, 2] = 9
    category = torch.full((1, 2, num), -9.0)
    category[:, 0] = 2
    tight = torch.full((1, 4, num), 3.9)
    outputs = (semantic, category, tight, torch.zeros(1, num), None)
    pyramid, decoding = Pyramid(PADDED, STRIDE, 1), replace(LENIENT, mask_threshold=0.3)
    (found,) = decode_dense_boxes(DenseBoxOutputs(*outputs), [ImageGeometry.of(PADDED)], SHAPES, pyramid, decoding)
    assert found.num_segments == num == 192
    assert bool((found.score == found.score[0]).all())


def test_cells_without_object_have_no_box_in_the_paper_alone():
    *outputs, levelness = noisy_outputs(2)
    levelness[:, 0] = 50
    (published,) = decode([*outputs, levelness], [PADDED], LENIENT)
    (paper,) = decode([*outputs, levelness], [PADDED], PAPER)
    assert bool((published.category >= 2).any())
    assert not bool((paper.category >= 2).any())


def test_half_precision_and_weird_boxes():
    outputs = noisy_outputs(3)
    (found,) = decode([part.bfloat16() for part in outputs], [PADDED], LENIENT)
    (expected,) = decode([part.bfloat16().float() for part in outputs], [PADDED], LENIENT)
    assert torch.equal(found.ids, expected.ids)
    for odd in (0.0, -3.0, 1e4, torch.inf):
        outputs[2][..., ::7] = odd
        (found,) = decode(outputs, [PADDED], LENIENT)
        assert found.size == PADDED


def test_objects_below_the_score_make_no_difference_to_others():
    outputs = noisy_outputs(4)
    (every,) = decode(outputs, [PADDED], LENIENT)
    limit = float(every.score[every.category >= 2].sort().values[1])
    (some,) = decode(outputs, [PADDED], replace(LENIENT, fusion=replace(LENIENT.fusion, min_score=limit)))
    assert set(some.score.tolist()) <= set(every.score.tolist())
    assert float(some.score.min()) == limit


def test_outputs_that_contradict_each_other_are_refused():
    semantic, category, box, centerness, levelness = noisy_outputs(0)
    for wrong, message in (
        ([semantic[:, :3], category, box, centerness, levelness], "expected semantic"),
        ([semantic, category[:, :1], box, centerness, levelness], "expected box_category"),
        ([semantic, category, box[..., :-1], centerness, levelness], "expected box as"),
        ([semantic, category, box, centerness[:, :-1], levelness], "expected centerness"),
        ([semantic, category, box, centerness, levelness[:, :-1]], "expected levelness"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            decode(wrong, [PADDED], LENIENT)
    with pytest.raises(InvalidArgumentError, match="expected one size"):
        decode(noisy_outputs(0), [PADDED, PADDED], LENIENT)
    with pytest.raises(InvalidArgumentError, match="within the padded size"):
        decode(noisy_outputs(0), [(97, 128)], LENIENT)


@pytest.mark.parametrize("wrong", [{"compat": "both"}, {"mask_threshold": 1.1}, {"nms_iou": -1}, {"max_detections": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidArgumentError):
        DenseBoxDecoding(**wrong)
