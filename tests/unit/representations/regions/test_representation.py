"""The law of regions, their losses by hand, and what must be defined in every case."""

from dataclasses import replace

import pytest
import torch
from maps import SHAPES, a_map, generated_map
from torch.nn import functional as F

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.ops.boxes import encode_boxes
from panscape.representations.fusion import FusionConfig
from panscape.representations.regions import (
    Anchors,
    RegionDecoding,
    RegionOutputs,
    RegionRepresentation,
    RegionTargets,
    StageSampling,
)
from panscape.representations.regions.decode import decode_regions, semantic_at_image_size
from panscape.representations.regions.losses import is_mostly_ignored, sample_at_cells, sample_regions
from panscape.representations.regions.match import match_boxes
from panscape.representations.regions.oracles import perfect_masks

SIZE = (96, 128)
REPRESENTATION = RegionRepresentation(
    anchors=Anchors(strides=(8, 16), scale=2, ratios=(1.0, 0.5, 2.0)),
    decoding=RegionDecoding(fusion=FusionConfig(stuff_area=1)),
)
NUM_ANCHORS = (12 * 16 + 6 * 8) * 3


def outputs_of(targets: RegionTargets, cells: int = 28, num_regions: int = 6, seed: int = 0) -> RegionOutputs:
    """Return random outputs of a batch, of a quarter of the size."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator).requires_grad_()

    batch, things = len(targets.semantic), len(SHAPES.thing_ids)
    proposals = [torch.rand(9, 4, generator=generator).mul(40) + torch.tensor([0.0, 0, 40, 40])] * batch
    sampled = sample_regions(proposals, targets, REPRESENTATION.second_stage, max_crowd=0.7, of_empty=True)
    regions = torch.stack(
        [F.pad(boxes[:num_regions], (0, 0, 0, num_regions - min(len(boxes), num_regions))) for boxes in sampled]
    )
    height, width = targets.semantic.shape[1:]
    return RegionOutputs(
        random(batch, len(SHAPES), height // 4, width // 4),
        random(batch, NUM_ANCHORS),
        random(batch, NUM_ANCHORS, 4),
        regions,
        random(batch, num_regions, things + 1),
        random(batch, num_regions, things, 4),
        regions,
        torch.zeros(batch, num_regions, dtype=torch.int64),
        torch.ones(batch, num_regions),
        random(batch, num_regions, cells, cells),
    )


def encoded(*maps: PanopticMap, representation: RegionRepresentation = REPRESENTATION) -> RegionTargets:
    targets = [representation.encode(one, SHAPES, SIZE) for one in maps]
    return RegionTargets(*(torch.stack(parts) for parts in zip(*targets, strict=True)))


def decoded_truth(truth: PanopticMap, cells: int) -> PanopticMap:
    targets = encoded(truth)
    outputs = outputs_of(targets, cells)._replace(**perfect_masks(targets, cells))
    category = targets.semantic - 1
    semantic = torch.where(category[:, None] == torch.arange(len(SHAPES))[:, None, None], 20.0, -20.0)
    decoding = REPRESENTATION.decoding
    outputs = outputs._replace(semantic=semantic)
    return decode_regions(outputs, [ImageGeometry.of(truth.size)], SHAPES, decoding)[0]


class TestLaw:
    def test_boxes_are_decoded_exactly(self):
        truth = PanopticMap(torch.ones(SIZE, dtype=torch.int32), torch.tensor([0, 3, 3, 2]))
        for row, (top, left, bottom, right) in enumerate(((3, 5, 40, 50), (41, 2, 96, 63), (10, 70, 70, 128)), start=2):
            truth.ids[top:bottom, left:right] = row
        assert decoded_truth(truth, 28).equals(truth)

    def test_large_boxes_lose_their_corners(self):
        """Between the outermost cells and the zeros around them, both axes fall below 0.71 at half a pixel."""
        truth = PanopticMap(torch.ones(SIZE, dtype=torch.int32), torch.tensor([0, 3]))
        truth.ids[4:92, 8:120] = 2
        lost = decoded_truth(truth, 28).ids != truth.ids
        assert lost.nonzero().tolist() == [[4, 8], [4, 119], [91, 8], [91, 119]]

    @pytest.mark.parametrize("seed", range(6))
    def test_objects_as_large_as_their_masks_are_decoded_exactly(self, seed):
        """Cells are pixels then; other objects lose what their cells cannot show."""
        generator = torch.Generator().manual_seed(seed)
        truth = PanopticMap(torch.ones(SIZE, dtype=torch.int32), torch.tensor([0, 2, 3, 3]))
        for row, (top, left) in enumerate(((5, 8), (50, 60), (20, 95)), start=2):
            blob = torch.rand(28, 28, generator=generator) > 0.4
            blob[0], blob[-1], blob[:, 0], blob[:, -1] = True, True, True, True  # the box is tight
            truth.ids[top : top + 28, left : left + 28][blob] = row
        assert decoded_truth(truth, 28).equals(truth)

    @pytest.mark.parametrize("seed", range(4))
    def test_finer_cells_approach_the_truth(self, seed):
        truth = generated_map(seed, void=False)
        shares = []
        for cells in (7, 28, 112):
            back = decoded_truth(truth, cells)
            shares.append((back.semantic(void=-1) == truth.semantic(void=-1)).float().mean())
        assert shares[0] < shares[1] <= shares[2] + 1e-3
        assert shares[1] > 0.985


class TestOracles:
    def test_they_replace_their_parts(self):
        truth = generated_map(1, void=False)
        outputs = outputs_of(encoded(truth)).apply(torch.Tensor.detach)
        both = REPRESENTATION.decode_with_truth(outputs, truth, ("semantic", "regions"), SHAPES)
        assert both == decoded_truth(truth, 28)
        semantic = REPRESENTATION.decode_with_truth(outputs, truth, ("semantic",), SHAPES)
        stuff = torch.isin(truth.semantic(void=-1), torch.tensor(SHAPES.stuff_ids))
        shown = torch.isin(semantic.semantic(void=-1), torch.tensor(SHAPES.stuff_ids))
        assert torch.equal(semantic.semantic(void=-1)[shown & stuff], truth.semantic(void=-1)[shown & stuff])
        assert (
            REPRESENTATION.decode_with_truth(outputs, truth, (), SHAPES)
            == REPRESENTATION.decode(outputs, [ImageGeometry.of(truth.size)], SHAPES)[0]
        )


class TestLosses:
    def test_a_network_that_is_right_has_no_loss_but_that_of_its_confidence(self):
        truth = a_map("SSAA\nSSAA\nBBSS\nBBSS", {"S": 0, "A": 2, "B": 3}).resize(*SIZE)
        representation = replace(REPRESENTATION, anchors=Anchors(strides=(8, 16), scale=2, ratios=(1.0, 0.75, 2.0)))
        targets = encoded(truth)
        outputs = outputs_of(targets)
        outputs = outputs._replace(**perfect_masks(targets, outputs.masks.shape[-1]))
        things = targets.category[0, :2]
        category = torch.full((1, 2, 3), -20.0)
        category[0, torch.arange(2), things] = 20.0
        semantic = torch.where((targets.semantic - 1)[:, None] == torch.arange(len(SHAPES))[:, None, None], 20.0, -20.0)
        anchors = representation.anchors.boxes(SIZE)
        matches = match_boxes(anchors, targets.box[0, :2], positive=0.7, negative=0.3, best_of_each="one")
        outputs = outputs._replace(
            objectness=torch.where(matches.label == 1, 20.0, -20.0)[None],
            anchor_offsets=encode_boxes(targets.box[0, :2][matches.object], anchors)[None],
            regions=targets.box[:, :2],
            category=category,
            region_offsets=torch.zeros(1, 2, len(SHAPES.thing_ids), 4),
            semantic=semantic,
        )
        losses = representation.loss(outputs, targets, SHAPES)
        assert list(losses) == ["objectness", "anchor", "category", "region", "mask", "semantic"]
        assert {name: round(float(loss), 5) for name, loss in losses.items()} == dict.fromkeys(losses, 0.0)

    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("inside_only", [True, False])
    def test_anchors_that_are_not_inside_of_the_image_are_not_trained(self, inside_only, flip):
        truth = a_map("SS\nSA", {"S": 0, "A": 2}).resize(60, 70).pad(90, 120)
        targets = encoded(truth.flip() if flip else truth)
        left, top, right, bottom = targets.valid[0].tolist()
        assert [left, top, right, bottom] == ([50, 0, 120, 60] if flip else [0, 0, 70, 60])
        every = StageSampling(10_000, 1.0, 0.5, 0.5)
        representation = replace(REPRESENTATION, inside_only=inside_only, first_stage=every)
        outputs = outputs_of(targets)
        representation.loss(outputs, targets, SHAPES)["objectness"].backward()
        x0, y0, x1, y1 = representation.anchors.boxes(SIZE).unbind(1)
        is_inside = (x0 >= left) & (y0 >= top) & (x1 <= right) & (y1 <= bottom)
        assert 10 < is_inside.sum() < NUM_ANCHORS / 2
        assert torch.equal(outputs.objectness.grad[0] != 0, is_inside | torch.tensor(not inside_only))

    def test_gradients_reach_every_output(self):
        targets = encoded(generated_map(0), generated_map(1))
        outputs = outputs_of(targets)
        total = sum(REPRESENTATION.loss(outputs, targets, SHAPES).values())
        total.backward()
        for name, part in zip(outputs._fields, outputs.tensors, strict=False):
            if part.requires_grad:
                assert part.grad.abs().sum() > 0, name

    @pytest.mark.parametrize("kind", ["ordinary", "crop_aware"])
    def test_the_box_loss_is_an_option(self, kind):
        truth = generated_map(2)
        cut = replace(truth, cut_off=torch.ones(len(truth), 4, dtype=torch.bool))
        representation = replace(REPRESENTATION, box_loss=kind)
        losses = []
        for one in (truth, cut):
            targets = encoded(one)
            torch.manual_seed(0)
            found = representation.loss(outputs_of(targets), targets, SHAPES)
            losses.append({name: float(loss.detach()) for name, loss in found.items()})
        equal = [name for name in losses[0] if losses[0][name] == losses[1][name]]
        if kind == "ordinary":
            assert equal == list(losses[0])
        else:
            assert equal == ["objectness", "category", "mask", "semantic"]
            assert losses[1]["anchor"] < losses[0]["anchor"]
            assert losses[1]["region"] < losses[0]["region"]

    def test_one_channel_for_all_things(self):
        targets = encoded(generated_map(0))
        outputs = outputs_of(targets)
        logits = torch.randn(1, 1 + len(SHAPES.stuff_ids), *outputs.semantic.shape[2:])
        merged = replace(REPRESENTATION, merge_things=True)
        loss = merged.loss(outputs._replace(semantic=logits), targets, SHAPES)["semantic"]
        with pytest.raises(InvalidArgumentError, match=r"logits of 4 channels .* merge_things=False, got 3; build"):
            REPRESENTATION.loss(outputs._replace(semantic=logits), targets, SHAPES)
        order = torch.tensor(
            [1 + SHAPES.stuff_ids.index(c) if c in SHAPES.stuff_ids else 0 for c in range(len(SHAPES))]
        )
        whole = F.interpolate(logits, size=SIZE, mode="bilinear", align_corners=False)
        known = targets.semantic[0] > 0
        cost = F.cross_entropy(whole[0][:, known].T, order[targets.semantic[0][known] - 1], reduction="none")
        assert float(loss) == pytest.approx(float(cost.topk(-(-len(cost) // 4)).values.mean()), rel=1e-5)


def test_a_single_thing_does_not_change_the_channels():
    """With one thing, both kinds of logits have as many channels; the thing is first in one of them only."""
    names = ("road", "car", "sky")
    labels = LabelSpace("one thing", tuple(Category(n, n == "car", i, (i, 0, 0)) for i, n in enumerate(names)))
    logits = torch.full((1, 3, 1, 3), -20.0)
    logits[0, torch.arange(3), 0, torch.arange(3)] = 20.0  # the channel of each pixel is its column
    geometry = [ImageGeometry.of((1, 3))]
    found = {
        merge: semantic_at_image_size(logits, geometry, labels, FusionConfig(), merge_things=merge)[0].tolist()
        for merge in (False, True)
    }
    assert found == {False: [[0, 1, 2]], True: [[1, 0, 2]]}


class TestEveryCase:
    empty = PanopticMap.empty(SIZE)

    @pytest.mark.parametrize(
        "truth",
        [
            PanopticMap.empty(SIZE),
            a_map("SG", {"S": 0, "G": 1}).resize(*SIZE),
            a_map("AB", {"A": 2, "B": 3}).resize(*SIZE),
            a_map("AB", {"A": 2, "B": 3}, crowd="AB").resize(*SIZE),
            a_map("SSA\nSSS", {"S": 0, "A": 2}).pad(*SIZE),
        ],
        ids=["void", "stuff only", "things only", "crowds only", "one pixel"],
    )
    def test_losses_are_finite_and_have_gradients(self, truth):
        targets = encoded(truth, self.empty)
        outputs = outputs_of(targets)
        losses = REPRESENTATION.loss(outputs, targets, SHAPES)
        assert all(torch.isfinite(loss) for loss in losses.values())
        sum(losses.values()).backward()
        assert all(torch.isfinite(part.grad).all() for part in outputs.tensors if part.requires_grad)

    def test_300_objects(self):
        ids = torch.arange(1, 301, dtype=torch.int32).reshape(15, 20)
        truth = PanopticMap(ids, torch.full((300,), 3)).resize(90, 120)
        assert decoded_truth(truth, 6).equals(truth)

    def test_no_detection(self):
        targets = encoded(self.empty)
        outputs = outputs_of(targets).apply(torch.Tensor.detach)._replace(mask_boxes=torch.zeros(1, 6, 4))
        (found,) = REPRESENTATION.detect(outputs, [ImageGeometry.of(SIZE)], SHAPES)
        assert len(found.masks) == len(found.category) == 0

    def test_outputs_of_another_size_are_refused(self):
        targets = encoded(self.empty)
        with pytest.raises(InvalidArgumentError, match=r"1 images of 96x128 pixels with 720 anchors, got \[1, 719\]"):
            REPRESENTATION.loss(outputs_of(targets)._replace(objectness=torch.zeros(1, 719)), targets, SHAPES)


class TestSampling:
    def test_true_boxes_are_proposals(self):
        targets = encoded(generated_map(0))
        num = int((targets.category > 0).sum())
        (sampled,) = sample_regions(
            [torch.zeros(0, 4)], targets, StageSampling(512, 1.0, 0.5, 0.5, 1.0), max_crowd=0.7, of_empty=False
        )
        assert sorted(sampled.tolist()) == sorted(targets.box[0, :num].tolist())

    def test_images_without_objects(self):
        targets, proposals = encoded(PanopticMap.empty(SIZE)), [torch.tensor([[0.0, 0, 9, 9]])]
        sampling = REPRESENTATION.second_stage
        for of_empty in (False, True):
            (sampled,) = sample_regions(proposals, targets, sampling, max_crowd=0.7, of_empty=of_empty)
            assert len(sampled) == of_empty

    def test_boxes_on_crowds_are_left_out(self):
        targets = encoded(a_map("CC..", {"C": 2}, crowd="C").resize(*SIZE))
        boxes = torch.tensor([[0.0, 0, 64, 96], [0, 0, 91, 96], [0, 0, 92, 96], [64, 0, 128, 96], [-70, 0, 64, 96]])
        assert is_mostly_ignored(boxes, targets.segment[0], 0.7).tolist() == [True, True, False, False, False]

    def test_cells_take_the_pixel_at_their_center(self):
        plane = torch.arange(12).reshape(3, 4)
        assert sample_at_cells(plane, torch.tensor([[0.0, 0, 4, 3]]), 1).tolist() == [[[6]]]
        assert sample_at_cells(plane, torch.tensor([[1.0, 0, 3, 2]]), 2).tolist() == [[[1, 2], [5, 6]]]
        assert sample_at_cells(plane, torch.tensor([[-2.0, 0, 2, 4]]), 2).tolist() == [[[0, 5], [0, 0]]]
