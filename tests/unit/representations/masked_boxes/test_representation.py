"""Post-processing against brute force, degenerate inputs, oracles, and the losses of whole outputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import upsample
from panscape.ops.paste_masks import paste_masks_reference
from panscape.representations.fusion import FusionConfig
from panscape.representations.masked_boxes import (
    MASKED_BOX_ORACLES,
    MaskedBoxDecoding,
    MaskedBoxOutputs,
    MaskedBoxRepresentation,
    MaskSampling,
    panels,
)
from panscape.representations.regions import RegionTargets
from panscape.representations.regions.decode import detect_regions
from panscape.visualize import PANEL_TITLES

SIZE = (64, 96)
NUM_ANCHORS = 3 * (8 * 12 + 4 * 6 + 2 * 3)
SMALL_STUFF = MaskedBoxRepresentation(decoding=MaskedBoxDecoding(fusion=FusionConfig(max_overlap=1.0, stuff_area=1)))


def random_outputs(
    num: int = 12, *, batch: int = 1, cells: int = 5, stride: int = 4, requires_grad: bool = False
) -> MaskedBoxOutputs:
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(batch, num, 2, generator=g) * torch.tensor([70.0, 40])
    sides = 4 + 40 * torch.rand(batch, num, 2, generator=g)
    objectness = torch.rand(batch, num, generator=g)
    return MaskedBoxOutputs(
        torch.randn(batch, 4, SIZE[0] // stride, SIZE[1] // stride, generator=g).requires_grad_(requires_grad),
        torch.randn(batch, NUM_ANCHORS, 7, generator=g).requires_grad_(requires_grad),
        torch.cat([corner, corner + sides], 2),
        torch.randint(2, (batch, num), generator=g),
        objectness * (0.5 + 0.5 * torch.rand(batch, num, generator=g)),
        objectness,
        (2 * torch.randn(batch, num, cells, cells, generator=g) + 1).requires_grad_(requires_grad),
    )


def decode(outputs: MaskedBoxOutputs, representation: MaskedBoxRepresentation = SMALL_STUFF) -> PanopticMap:
    return representation.decode(outputs, [ImageGeometry.of(SIZE)], SHAPES)[0]


@pytest.mark.parametrize("overlap_by", ["objectness", "score"])
def test_a_pixel_belongs_to_the_object_with_the_highest_value(overlap_by: str) -> None:
    outputs = random_outputs()
    fusion = FusionConfig(min_score=0.3, max_overlap=1.0, stuff_area=1)
    decoding = MaskedBoxDecoding(overlap_by=overlap_by, fusion=fusion)
    found = decode(outputs, MaskedBoxRepresentation(decoding=decoding))
    score, objectness = outputs.mask_score[0], outputs.mask_objectness[0]
    masks = paste_masks_reference(outputs.masks[0].sigmoid(), outputs.mask_boxes[0], SIZE).to_masks(SIZE)
    value = objectness if overlap_by == "objectness" else score
    ranked = torch.where(masks & (score >= 0.3)[:, None, None], value[:, None, None], -1.0)
    best, winner = ranked.max(0)
    is_object = best >= 0
    by_pixel = found.category[found.ids.long() - 1], found.score[found.ids.long() - 1]
    assert torch.equal(by_pixel[0][is_object], outputs.mask_category[0][winner][is_object] + 2)
    assert torch.equal(by_pixel[1][is_object], score[winner][is_object])
    # Elsewhere is stuff, or void where the argmax is a thing.
    whole = torch.nn.functional.interpolate(outputs.semantic, size=SIZE, mode="bilinear")[0].argmax(0)
    assert torch.equal(found.semantic(void=-1)[~is_object], torch.where(whole < 2, whole, -1)[~is_object])
    assert 0.15 < float(is_object.float().mean()) < 0.95
    assert int((score < 0.3).sum()) >= 2


def test_objectness_and_score_disagree_in_that_test() -> None:
    outputs = random_outputs()
    assert outputs.mask_objectness.argsort().tolist() != outputs.mask_score.argsort().tolist()


def test_low_scores_can_be_left_out_before_masks_are_pasted() -> None:
    outputs, geometry = random_outputs(), [ImageGeometry.of(SIZE)]
    (every,) = detect_regions(outputs, geometry, SHAPES, 0.5)
    (some,) = detect_regions(outputs, geometry, SHAPES, 0.5, min_score=0.3)
    rows = every.score >= 0.3
    assert 0 < int(rows.sum()) < len(rows) == 12
    assert torch.equal(some.masks.to_masks(SIZE), every.masks.to_masks(SIZE)[rows])
    assert torch.equal(some.category, every.category[rows])
    assert torch.equal(some.score, every.score[rows])


def test_small_stuff_is_removed_by_the_share_of_the_image() -> None:
    fusion = MaskedBoxDecoding().fusion
    assert fusion.smallest_stuff((1024, 2048)) == 4096
    assert fusion.smallest_stuff((640, 640)) == 800
    # Of 64x96 pixels 12 are needed.
    for rows, kept in ((11, False), (12, True)):
        semantic = torch.zeros(1, 4, *SIZE)
        semantic[:, 0] = 1
        semantic[:, 1, :rows, 0] = 2
        outputs = random_outputs(0)._replace(semantic=semantic)
        found = decode(outputs, MaskedBoxRepresentation())
        assert found.category.tolist() == ([0, 1] if kept else [0])
        assert int((found.ids == 0).sum()) == (0 if kept else 11)


def test_an_object_that_higher_ones_cover_mostly_is_kept_unless_the_option_says_otherwise() -> None:
    outputs = random_outputs(2)._replace(
        mask_boxes=torch.tensor([[[0.0, 0, 40, 20], [0, 0, 50, 20]]]),
        mask_score=torch.full((1, 2), 0.9),
        mask_objectness=torch.tensor([[0.95, 0.9]]),
        masks=torch.full((1, 2, 64, 64), 9.0),
    )
    assert decode(outputs).areas().tolist()[-2:] == [800, 200]
    fusion = replace(SMALL_STUFF.decoding.fusion, max_overlap=0.5)
    assert decode(outputs, replace(SMALL_STUFF, decoding=MaskedBoxDecoding(fusion=fusion))).areas().tolist()[-1] == 800


def boxes_of(*boxes: list[float]) -> MaskedBoxOutputs:
    outputs = random_outputs(len(boxes))
    return outputs._replace(
        mask_boxes=torch.tensor([boxes]).view(1, -1, 4),
        mask_score=torch.full((1, len(boxes)), 0.9),
        mask_objectness=torch.full((1, len(boxes)), 0.9),
        masks=torch.full((1, len(boxes), 64, 64), 9.0),
    )


@pytest.mark.parametrize(
    ("boxes", "areas"),
    [
        ([], []),
        ([[0.0, 0, 0, 0]] * 3, []),
        ([[-200.0, -9, -100, 50]], []),
        ([[90.0, -20, 300, 4]], [24]),
        ([[20.2, 30.2, 20.7, 30.7]], [1]),
        ([[20.6, 30.6, 20.9, 30.9]], []),  # no centre of a pixel inside
        ([[float("nan"), 0, 10, 10], [0, 0, 10, 10]], [100]),
        ([[5.0, 5, 15, 15]] * 300, [100]),
    ],
)
def test_any_boxes_give_a_valid_map(boxes: list[list[float]], areas: list[int]) -> None:
    found = decode(boxes_of(*boxes))
    is_thing = found.category >= 2
    assert found.areas()[is_thing].tolist() == areas
    assert len(SMALL_STUFF.detect(boxes_of(*boxes), [ImageGeometry.of(SIZE)], SHAPES)[0].score) <= len(boxes)


def test_maps_have_the_size_of_their_image() -> None:
    outputs = MaskedBoxOutputs(*(t.repeat(2, *[1] * (t.ndim - 1)) for t in boxes_of([10, 10, 30, 20])))
    geometries = [ImageGeometry.of((61, 90), padded_size=SIZE), ImageGeometry.of((120, 180), (60, 90))]
    first, second = SMALL_STUFF.decode(outputs, geometries, SHAPES)
    assert (first.size, second.size) == ((61, 90), (120, 180))
    assert first.boxes()[-1].tolist() == [10, 10, 30, 20]
    assert second.boxes()[-1].tolist() == [20, 20, 60, 40]


def test_oracles_replace_their_parts() -> None:
    truth = generated_map(3, size=SIZE, void=False, objects=4)
    is_thing = truth.category >= 2
    boxes, category = truth.boxes()[is_thing].float(), truth.category[is_thing] - 2
    outputs = boxes_of(*boxes.tolist())._replace(
        mask_category=category[None], masks=torch.full((1, len(boxes), 64, 64), 9.0)
    )
    areas = {}
    for parts in ((), ("semantic",), ("masks",), ("regions",), ("semantic", "masks"), MASKED_BOX_ORACLES):
        found = SMALL_STUFF.decode_with_truth(outputs, truth, parts, SHAPES)
        areas[parts] = int((found.semantic(void=-1) == truth.semantic(void=-1)).sum())
    assert areas[()] < areas["masks",] < areas["semantic", "masks"]
    assert areas[()] < areas["semantic",] < areas[MASKED_BOX_ORACLES]
    assert areas["regions",] >= areas["masks",]
    assert areas[MASKED_BOX_ORACLES] == truth.ids.numel()
    assert SMALL_STUFF.decode_with_truth(outputs, truth, (), SHAPES).equals(decode(outputs))
    # A detection of the wrong category keeps its own mask.
    other = outputs._replace(mask_category=1 - outputs.mask_category)
    assert SMALL_STUFF.decode_with_truth(other, truth, ("masks",), SHAPES).equals(decode(other))


def targets_of(*truths: PanopticMap) -> RegionTargets:
    encoded = [MaskedBoxRepresentation().encode(truth, SHAPES, SIZE) for truth in truths]
    return RegionTargets(*(torch.stack(parts) for parts in zip(*encoded, strict=True)))


EMPTY = PanopticMap(torch.ones(SIZE, dtype=torch.int32), torch.tensor([0]))
VOID = PanopticMap(torch.zeros(SIZE, dtype=torch.int32), torch.zeros(0, dtype=torch.int64))
OBJECT = PanopticMap(torch.ones(SIZE, dtype=torch.int32), torch.tensor([3]))
CROWD = PanopticMap(OBJECT.ids, OBJECT.category, None, torch.tensor([True]))


@pytest.mark.parametrize("truth", [EMPTY, VOID, OBJECT, CROWD, generated_map(0, size=SIZE)])
@pytest.mark.parametrize("stride", [1, 4, 16])
def test_losses_are_finite_with_a_gradient_whatever_the_truth(truth: PanopticMap, stride: int) -> None:
    representation = MaskedBoxRepresentation()
    outputs = random_outputs(batch=2, stride=stride, requires_grad=True)
    losses = representation.loss(outputs, targets_of(truth, truth), SHAPES)
    assert set(losses) == {"box", "objectness", "category", "mask", "semantic"}
    gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), [outputs[0], outputs[1], outputs[-1]])
    assert all(bool(g.isfinite().all()) for g in gradients)


def test_weights_multiply_and_a_frozen_detector_has_no_loss() -> None:
    outputs, targets = random_outputs(), targets_of(generated_map(0, size=SIZE))
    base = MaskedBoxRepresentation(mask_sampling=MaskSampling(min_iou=0.05))
    losses = base.loss(outputs, targets, SHAPES)
    assert float(losses["mask"]) > 0
    weighted = replace(
        base,
        box_loss_weight=2.0,
        objectness_loss_weight=3.0,
        category_loss_weight=5.0,
        mask_loss_weight=0.7,
        semantic_loss_weight=11.0,
    ).loss(outputs, targets, SHAPES)
    factors = {name: float(weighted[name] / losses[name]) for name in losses}
    assert factors == pytest.approx({"box": 2, "objectness": 3, "category": 5, "mask": 7, "semantic": 11}, rel=1e-5)
    of_coco = outputs._replace(detector=torch.zeros(1, outputs.detector.shape[1], 85))
    frozen = replace(base, train_detector=False).loss(of_coco, targets, SHAPES)
    assert {name: float(v) for name, v in frozen.items()} == {n: float(losses[n]) for n in ("mask", "semantic")}


def test_the_semantic_loss_is_the_cross_entropy_at_the_size_of_the_input() -> None:
    outputs, truth = random_outputs(), generated_map(1, size=SIZE)
    found = MaskedBoxRepresentation().loss(outputs, targets_of(truth), SHAPES)["semantic"]
    whole = torch.nn.functional.interpolate(outputs.semantic, size=SIZE, mode="bilinear")
    expected = torch.nn.functional.cross_entropy(whole, truth.semantic(void=-1)[None].long(), ignore_index=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_outputs_of_another_size_are_an_error() -> None:
    outputs = random_outputs()
    wider = outputs._replace(semantic=torch.cat([outputs.semantic, outputs.semantic], dim=3))
    with pytest.raises(InvalidArgumentError, match=r"expected outputs of 1 images of 64x96 pixels, got semantic"):
        MaskedBoxRepresentation().loss(wider, targets_of(EMPTY), SHAPES)


@pytest.mark.parametrize("anchors", [(((1, 2),),) * 2, (((1, 2),), ((1, 2),), ((1, 2), (3, 4))), ((), (), ())])
def test_anchors_need_the_same_number_at_each_stride(anchors: tuple[tuple[tuple[float, float], ...], ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="expected the same number of anchors for each of the strides"):
        MaskedBoxRepresentation(anchors=anchors)


def test_cells_follow_the_order_of_flat_logits() -> None:
    cells: Tensor = MaskedBoxRepresentation().cells(SIZE)
    assert cells.shape == (NUM_ANCHORS, 5)
    assert cells[0].tolist() == [0, 0, 8, 10, 13]
    assert cells[4].tolist() == [1, 0, 8, 16, 30]
    assert cells[-1].tolist() == [2, 1, 32, 373, 326]


def test_panels_resize_the_plane_of_a_category_once_for_all_its_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    planes: list[Tensor] = []

    def counted(plane: Tensor, *rest: tuple[int, int], align_corners: bool) -> Tensor:
        planes.append(plane)
        return upsample(plane, *rest, align_corners=align_corners)

    monkeypatch.setattr(panels, "upsample", counted)
    outputs = random_outputs(300)._replace(mask_score=torch.ones(1, 300))
    SMALL_STUFF.visualize(outputs, (60, 90), SHAPES)
    assert len(planes) == 2


def test_panels_show_boxes_planes_and_masks() -> None:
    outputs = boxes_of([10, 10, 30, 20], [50, 30, 80, 60])
    detector, semantic = torch.full((1, NUM_ANCHORS, 7), -9.0), torch.full((1, 4, 16, 24), -9.0)
    semantic[:, 0], semantic[:, 2, 2:5] = 0, 9
    detector[0, 3 * 96 + 3 * (6 + 2) + 1, 4] = 9  # second row and third column of stride 16
    outputs = outputs._replace(
        detector=detector,
        semantic=semantic,
        mask_score=torch.tensor([[0.9, 0.2]]),
        mask_category=torch.zeros(1, 2).long(),
    )
    panels = SMALL_STUFF.visualize(outputs, (60, 90), SHAPES)
    assert list(panels) == ["semantic", "objectness", "detections", "class_planes", "masks"]
    assert set(panels) <= set(PANEL_TITLES)
    assert all((image.shape, image.dtype) == ((3, 60, 90), torch.uint8) for image in panels.values())
    lit = panels["objectness"].sum(0) > 0.5 * panels["objectness"].sum(0).max()
    assert lit.nonzero().amin(0).tolist() == [16, 32]
    assert lit.nonzero().amax(0).tolist() == [31, 47]
    assert panels["detections"][:, 10, 15].tolist() == [255] * 3
    assert panels["detections"][:, 30, 60].tolist() == [140] * 3
    for name in ("class_planes", "masks"):  # the second box is not sure enough
        lit = panels[name].sum(0) > 300
        assert lit.nonzero().amin(0).tolist() == [10, 10]
        assert lit.nonzero().amax(0).tolist() == [19, 29]
