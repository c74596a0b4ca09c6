"""Dense boxes as a whole: options, padding, decoding, oracles, and visualisations of outputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.metrics import PanopticQuality
from panscape.representations.dense_boxes import (
    DENSE_BOX_ORACLES,
    DenseBoxDecoding,
    DenseBoxOutputs,
    DenseBoxRepresentation,
    DenseBoxTargets,
)
from panscape.representations.dense_boxes.locations import Pyramid, level_sizes
from panscape.representations.fusion import FusionConfig
from panscape.visualize import category_colors

SMALL = DenseBoxRepresentation(
    level_ends=(16.0, 40.0), finest_stride=4, decoding=DenseBoxDecoding(fusion=FusionConfig(stuff_area=1))
)


def random_outputs(padded: tuple[int, int], seed: int = 0, has_levelness: bool = True) -> DenseBoxOutputs:
    g = torch.Generator().manual_seed(seed)
    sizes = level_sizes(Pyramid(padded, 4, 3))
    num, (h, w) = sum(s.area for s in sizes), sizes[0]
    return DenseBoxOutputs(
        3 * torch.randn(1, len(SHAPES), h, w, generator=g),
        3 * torch.randn(1, 2, num, generator=g),
        30 * torch.rand(1, 4, num, generator=g) + 0.5,
        torch.randn(1, num, generator=g) + 2,
        torch.randn(1, 4, 2 * h, 2 * w, generator=g) if has_levelness else None,
    )


def outputs_from(targets: DenseBoxTargets) -> DenseBoxOutputs:
    """Return the outputs of a perfect network at its own resolution."""
    category = targets.semantic[2::4, 2::4]
    semantic = 20 * torch.nn.functional.one_hot(category.clamp_min(1) - 1, len(SHAPES)).permute(2, 0, 1).float()
    return DenseBoxOutputs(
        semantic[None],
        torch.where(targets.box_category == torch.tensor([[1], [2]]), 9.0, -9.0)[None],
        targets.box.clamp_min(0.5)[None],
        torch.full_like(targets.box[0], 9.0)[None],
        20 * torch.nn.functional.one_hot(targets.levelness.clamp_min(0), 4).permute(2, 0, 1).float()[None],
    )


def pq(prediction: PanopticMap, truth: PanopticMap) -> float:
    quality = PanopticQuality(SHAPES)
    quality.update(prediction, truth)
    return quality.compute().all.pq


def test_defaults_are_those_of_the_paper() -> None:
    plain = DenseBoxRepresentation()
    assert (plain.num_levels, plain.finest_stride, plain.level_ends) == (5, 8, (64, 128, 256, 512))
    assert (plain.hard_pixel_fraction, plain.semantic_loss_weight) == (0.3, 1.0)
    assert plain.decoding.mask_threshold == 0.4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"level_ends": (16, 16)}, "ascending level_ends above 0, got (16, 16)"),
        ({"level_ends": (0.0,)}, "ascending level_ends above 0"),
        ({"level_ends": (float("nan"),)}, "ascending level_ends above 0"),
        ({"finest_stride": 3}, "even finest_stride of 2 or more, got 3"),
        ({"supervision": "points"}, 'expected supervision "masks" or "boxes", got \'points\''),
        ({"box_loss": "l1"}, 'expected box_loss "iou" or "giou", got \'l1\''),
        ({"category_normalization": "pixels"}, 'expected category_normalization "positives" or "locations"'),
        ({"hard_pixel_fraction": 0.0}, "hard_pixel_fraction in (0, 1], got 0.0"),
        ({"category_weights": (1.0, 0.0)}, "expected positive category_weights, got (1.0, 0.0)"),
        ({"max_mask_queries": 0}, "max_mask_queries of 1 or more, got 0"),
        ({"mask_loss_weight": -1.0}, "mask_loss_weight of 0 or more, got -1.0"),
        ({"box_loss_weight": float("inf")}, "box_loss_weight of 0 or more, got inf"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        DenseBoxRepresentation(**options)
    assert text in str(error.value)


def test_a_truth_is_padded_with_void() -> None:
    truth = a_map("AAAAAA\nAABBBB\nAABBBB", {"A": 0, "B": 3})
    targets = SMALL.encode(truth, SHAPES, (8, 16))
    assert targets.semantic.shape == (8, 16)
    assert targets.semantic[:3, :6].tolist() == [[1] * 6, [1, 1, 4, 4, 4, 4], [1, 1, 4, 4, 4, 4]]
    assert targets.semantic.sum() == 1 * 10 + 4 * 8
    # Locations of the first level in rows 2 and 6, columns 2, 6, 10 and 14: one in the object, the rest in the padding.
    assert targets.box_category[:8].tolist() == [2, -1, -1, -1, -1, -1, -1, -1]
    assert targets.box[:, 0].tolist() == [0, 1, 4, 1]
    assert (targets.box_category[8:] == -1).all()


def test_truths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="truth of at most 32x32 pixels, got 33x20"):
        SMALL.encode(PanopticMap.empty((33, 20)), SHAPES, (32, 32))
    strange = PanopticMap(torch.ones(8, 8, dtype=torch.int32), torch.tensor([4]))
    with pytest.raises(InvalidArgumentError, match=r"category ids below 4 \(shapes\), got 4"):
        SMALL.encode(strange, SHAPES, (8, 8))
    with pytest.raises(InvalidArgumentError, match=r"expected 4 category_weights, .* got 2"):
        replace(SMALL, category_weights=(1.0, 2.0)).encode(PanopticMap.empty((8, 8)), SHAPES, (8, 8))


def test_outputs_that_a_network_can_have_decode_to_the_objects() -> None:
    # Outlines suffer, as boxes are interpolated across them and across the ends of ranges; objects are found.
    ids = torch.ones(96, 128, dtype=torch.int32)
    ids[16:64, 16:56], ids[30:90, 70:120] = 2, 3
    truth = PanopticMap(ids, torch.tensor([0, 2, 3]))
    targets = SMALL.encode(truth, SHAPES, (96, 128))
    found = SMALL.decode(outputs_from(targets), [ImageGeometry.of((96, 128))], SHAPES)[0]
    assert sorted(found.category.tolist()) == [0, 2, 3]
    assert pq(found, truth) > 0.75


@pytest.mark.parametrize("has_levelness", [True, False])
@pytest.mark.parametrize("compat", ["released", "paper"])
def test_with_no_part_of_the_truth_decoding_is_as_ever(has_levelness: bool, compat: str) -> None:
    truth = generated_map(3, (60, 90))
    outputs = random_outputs((64, 96), has_levelness=has_levelness)
    representation = replace(SMALL, decoding=replace(SMALL.decoding, compat=compat))  # type: ignore[arg-type]
    (plain,) = representation.decode(outputs, [ImageGeometry.of(truth.size)], SHAPES)
    same = representation.decode_with_truth(outputs, truth, (), SHAPES)
    assert torch.equal(same.ids, plain.ids)
    for parts in (("semantic",), ("boxes",), DENSE_BOX_ORACLES):
        found = representation.decode_with_truth(outputs, truth, parts, SHAPES)
        assert found.size == truth.size


@pytest.mark.parametrize("has_levelness", [True, False])
def test_true_parts_bring_the_quality_up(has_levelness: bool) -> None:
    ids = torch.ones(61, 90, dtype=torch.int32)
    ids[10:30, 10:40], ids[25:55, 50:84] = 2, 3
    ids[57:] = 0
    truth = PanopticMap(ids, torch.tensor([0, 2, 3]))
    outputs = random_outputs((64, 96), has_levelness=has_levelness)
    score = {
        parts: pq(SMALL.decode_with_truth(outputs, truth, parts, SHAPES), truth)
        for parts in ((), ("semantic",), ("boxes",), DENSE_BOX_ORACLES)
    }
    assert score[DENSE_BOX_ORACLES] == 1
    assert score[()] < score["semantic",] < 1
    assert score["boxes",] < 1
    # With true categories, stuff is right but for what objects leave or take.
    semantic = SMALL.decode_with_truth(outputs, truth, ("semantic",), SHAPES)
    assert (semantic.semantic(void=-1)[truth.semantic(void=-1) == 0] == 0).all()


def test_true_boxes_need_a_location_and_no_score() -> None:
    # A network that is sure of no object: the true ones are found nevertheless, though min_score is high.
    fusion = FusionConfig(min_score=0.9, stuff_area=1)
    representation = replace(SMALL, decoding=DenseBoxDecoding(fusion=fusion))
    ids = torch.ones(32, 32, dtype=torch.int32)
    ids[1:12, 1:21] = 2
    truth = PanopticMap(ids, torch.tensor([0, 2]))
    outputs = random_outputs((32, 32))
    outputs = outputs._replace(box_category=torch.full_like(outputs.box_category, -9.0))
    assert representation.decode_with_truth(outputs, truth, ("semantic",), SHAPES).category.tolist() == [0]
    assert representation.decode_with_truth(outputs, truth, DENSE_BOX_ORACLES, SHAPES).equals(truth)


def test_true_boxes_are_found_however_many_locations_and_objects_there_are() -> None:
    # A small object, met at its corner where it is least central, beside two of many locations: the limits, which keep
    # the highest scores of a network, do not apply to the ground truth.
    ids = torch.ones(64, 96, dtype=torch.int32)
    ids[:40, :40], ids[:40, 50:] = 2, 3
    ids[50:54, 50:54] = 4
    truth = PanopticMap(ids, torch.tensor([0, 2, 3, 2]))
    limits = {"pre_nms_top_k": 5, "max_detections": 2}
    representation = replace(SMALL, decoding=replace(SMALL.decoding, **limits))
    outputs = random_outputs((64, 96))
    assert representation.decode_with_truth(outputs, truth, DENSE_BOX_ORACLES, SHAPES).equals(truth)
    # For what the network found, they are.
    without = representation.decode_with_truth(outputs, truth, ("semantic",), SHAPES)
    assert int((without.category >= 2).sum()) <= 2


def test_weakly_supervised_networks_have_the_same_oracles() -> None:
    truth = generated_map(2, (64, 96))
    outputs = random_outputs((64, 96))
    weak = replace(SMALL, supervision="boxes")
    assert torch.equal(
        weak.decode_with_truth(outputs, truth, DENSE_BOX_ORACLES, SHAPES).ids,
        SMALL.decode_with_truth(outputs, truth, DENSE_BOX_ORACLES, SHAPES).ids,
    )


def test_panels_show_boxes_levels_and_masks() -> None:
    ids = torch.ones(60, 90, dtype=torch.int32)
    ids[16:48, 16:56] = 2
    truth = PanopticMap(ids, torch.tensor([0, 2]))
    outputs = outputs_from(SMALL.encode(truth, SHAPES, (64, 96)))
    panels = SMALL.visualize(outputs, (60, 90), SHAPES)
    assert list(panels) == ["semantic", "boxes", "levels", "masks"]
    for name, image in panels.items():
        assert image.dtype == torch.uint8, name
        assert image.shape == (3, 60, 90), name
    # The object's category, its way to the middle, its level and mask where it is, and nothing elsewhere.
    assert panels["semantic"][:, 30, 30].tolist() == category_colors(SHAPES)[2].tolist()
    inside, outside = (slice(20, 44), slice(20, 52)), (slice(0, 10), slice(0, 80))
    for name in ("boxes", "levels", "masks"):
        assert panels[name][(slice(None), *inside)].sum() > 0, name
    assert panels["boxes"][(slice(None), *outside)].sum() == 0
    assert panels["boxes"][:, 16, 30].tolist() == [255, 255, 255]  # the detected box's upper side
    darkest = panels["levels"][:, 0, 0]
    assert (panels["levels"][(slice(None), *outside)] == darkest[:, None, None]).all()
    levels = {tuple(c) for c in panels["levels"][(slice(None), *inside)].flatten(1).T.tolist()}
    assert len(levels) == 1  # the second one's, as one side is 20 pixels away or more
    assert levels != {tuple(darkest.tolist())}
    sure, nothing = panels["masks"][:, 30, 30].int().sum(), panels["masks"][:, 5, 5].int().sum()
    assert sure > 500 > 100 > nothing
    assert panels["masks"][:, 10:26, 30].amin(0).max() == 255  # a white line where the mask begins


def test_panels_show_what_is_nearly_sure_in_grey_and_without_mask() -> None:
    ids = torch.ones(60, 90, dtype=torch.int32)
    ids[16:48, 16:56] = 2
    outputs = outputs_from(SMALL.encode(PanopticMap(ids, torch.tensor([0, 2])), SHAPES, (64, 96)))
    strict = replace(SMALL, decoding=DenseBoxDecoding(fusion=FusionConfig(min_score=1.0)))
    panels = strict.visualize(outputs, (60, 90), SHAPES)
    assert panels["boxes"][:, 16, 30].tolist() == [140, 140, 140]
    assert len(panels["masks"].flatten(1).unique(dim=1).T) == 1


def test_panels_keep_the_masks_of_neighbours_apart() -> None:
    ids = torch.ones(64, 96, dtype=torch.int32)
    ids[16:48, 8:48], ids[16:48, 48:88] = 2, 3
    outputs = outputs_from(SMALL.encode(PanopticMap(ids, torch.tensor([0, 2, 2])), SHAPES, (64, 96)))
    masks = SMALL.visualize(outputs, (64, 96), SHAPES)["masks"]
    assert masks[:, 32, 46:50].sum(0).tolist().count(0) == 2  # one pixel of each
    assert masks[:, 32, 40].sum() > 500


def test_panels_of_an_image_larger_than_the_input_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected a size within the padded size 64x96, got 65x96"):
        SMALL.visualize(random_outputs((64, 96)), (65, 96), SHAPES)


def test_panels_without_levelness_show_none() -> None:
    panels = SMALL.visualize(random_outputs((64, 96), has_levelness=False), (60, 90), SHAPES)
    assert list(panels) == ["semantic", "boxes", "masks"]
