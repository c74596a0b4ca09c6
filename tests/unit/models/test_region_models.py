"""Networks of two stages: the published sizes, and training in every case."""

from dataclasses import replace

import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap, create_model
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.ops.boxes import has_area
from panscape.representations.regions import (
    Anchors,
    DetectionSelection,
    ProposalSelection,
    RegionRepresentation,
    RegionTargets,
)

SMALL = RegionRepresentation(
    anchors=Anchors(strides=(4, 8, 16, 32), scale=4),
    proposals=ProposalSelection(100, 100, 20, 30),
    detections=DetectionSelection(max_detections=5),
)


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def small(name="seamless", labels=SHAPES, **options):
    torch.manual_seed(0)
    return create_model(name, labels, **({"backbone": "residual_xs", "width": 16, "representation": SMALL} | options))


def cut_off_but_for_three_pixels():
    truth = PanopticMap(torch.ones(96, 128, dtype=torch.int32), torch.tensor([0, 2]))
    truth.ids[30:33, 63:110] = 2
    seen = replace(truth, cut_off=torch.zeros(2, 4, dtype=torch.bool)).crop(0, 0, 64, 64)
    assert seen.areas()[1] == 3
    assert seen.cut_off[1].tolist() == [False, False, True, False]
    return seen


EVERY = {
    "void": PanopticMap.empty((64, 64)),
    "stuff only": a_map("SG", {"S": 0, "G": 1}).resize(64, 64),
    "things only": a_map("AB", {"A": 2, "B": 3}).resize(64, 64),
    "crowds only": a_map("AB", {"A": 2, "B": 3}, crowd="AB").resize(64, 64),
    "three pixels": a_map("AAA", {"A": 2}).pad(64, 64),
    "cut off but for three pixels": cut_off_but_for_three_pixels(),
    "300 objects": PanopticMap(torch.arange(1, 301, dtype=torch.int32).reshape(15, 20), torch.full((300,), 3)).resize(
        64, 64
    ),
}


def require_gradients(model, outputs, targets):
    """Check that losses are finite, and that every parameter has a finite gradient."""
    losses = model.loss(outputs, targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def stacked(model, *truths):
    return RegionTargets(*(torch.stack(parts) for parts in zip(*(model.encode(t) for t in truths), strict=True)))


class TestPublishedSizes:
    @pytest.mark.parametrize(
        ("labels", "body", "proposals", "regions", "semantic", "total"),
        [
            ("vistas_v1.2", 32_163_904, 596_761, 16_721_887, 2_724_417, 52_206_969),
            ("cityscapes", 31_573_568, 594_191, 16_565_809, 2_700_819, 51_434_387),
        ],
    )
    def test_seamless_r50(self, labels, body, proposals, regions, semantic, total):
        with torch.device("meta"):
            model = create_model("seamless_r50", labels)
        heads = model.heads
        assert num_parameters(model.backbone) + num_parameters(model.pyramid) == body
        assert num_parameters(heads.proposals) == proposals
        assert num_parameters(heads.boxes) + num_parameters(heads.masks) == regions
        assert num_parameters(model.semantic) == semantic
        assert num_parameters(model) == total

    def test_the_body_of_seamless_hrnet48(self):
        with torch.device("meta"):
            assert num_parameters(create_model("seamless_hrnet48", "cityscapes").backbone) == 65_325_120

    def test_panoptic_fpn_r50(self):
        with torch.device("meta"):
            model = create_model("panoptic_fpn_r50", "coco_panoptic")
        parts = [model.backbone, model.heads.proposals, model.semantic]
        assert [num_parameters(part) for part in parts] == [23_454_912, 593_935, 1_630_774]
        assert num_parameters(model.backbone) + num_parameters(model.pyramid) == 26_799_296
        assert num_parameters(model) == 45_973_990
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 45_751_590


class TestTraining:
    @pytest.mark.parametrize(("name", "kind"), [("seamless", "crop_aware"), ("panoptic_fpn", "ordinary")])
    def test_losses_reach_every_parameter_and_fall(self, name, kind):
        truths = [replace(generated_map(s), cut_off=torch.zeros(len(generated_map(s)), 4).bool()) for s in range(2)]
        model = small(name, representation=replace(SMALL, box_loss=kind)).train()
        targets = stacked(model, *(truth.crop(0, 0, 96, 100) for truth in truths))
        images = torch.rand(2, 3, 96, 100, generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        totals = []
        for step in range(20):
            torch.manual_seed(step)
            losses = model.loss(model(images, targets), targets)
            total = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            total.backward()
            if step == 0:
                assert all(p.grad is not None for p in model.parameters())
            optimizer.step()
            totals.append(float(total.detach()))
        assert totals[-1] < 0.8 * totals[0], totals

    def test_proposals_are_clipped_to_the_valid_part(self):
        model = small().train()
        targets = stacked(model, generated_map(0).resize(40, 50).pad(64, 80).flip(), generated_map(1).resize(64, 80))
        regions = model(torch.rand(2, 3, 64, 80), targets).regions
        for boxes, valid in zip(regions, ([30.0, 0, 80, 40], [0.0, 0, 80, 64]), strict=True):
            boxes = boxes[has_area(boxes)]
            assert [*boxes[:, :2].amin(0).tolist(), *boxes[:, 2:].amax(0).tolist()] == valid

    @pytest.mark.parametrize("truth", EVERY.values(), ids=EVERY)
    @pytest.mark.parametrize("name", ["seamless", "panoptic_fpn"])
    def test_every_image_trains(self, name, truth):
        model = small(name, representation=replace(SMALL, box_loss="crop_aware")).train()
        targets = stacked(model, truth)
        require_gradients(model, model(torch.rand(1, 3, 64, 64), targets), targets)

    @pytest.mark.parametrize("name", ["seamless", "panoptic_fpn"])
    def test_a_label_space_of_a_single_thing_trains(self, name):
        """Its semantic logits have one channel."""
        labels = LabelSpace.from_names("roofs", things=("roof",), stuff=())
        representation = replace(SMALL, merge_things=name == "panoptic_fpn")
        model = small(name, labels, representation=representation).train()
        truth = a_map("A.\n.B", {"A": 0, "B": 0}).resize(64, 64)
        targets, images = stacked(model, truth), torch.rand(1, 3, 64, 64)
        outputs = model(images, targets)
        assert outputs.semantic.shape[1] == 1
        require_gradients(model, outputs, targets)
        with torch.inference_mode():
            outputs = model.eval()(images)
        assert model.decode_with_truth(outputs, truth, model.oracles).equals(truth)

    def test_stuff_only_is_refused(self):
        labels = LabelSpace.from_names("ground", things=(), stuff=("grass", "sand"))
        message = (
            "label space with things, which regions represent, but ground has stuff only; use .* such as swiftnet or"
        )
        with pytest.raises(InvalidArgumentError, match=message):
            small("seamless", labels)
        assert create_model("swiftnet", labels, backbone="residual_xs", width=8).labels is labels

    @pytest.mark.parametrize("name", ["seamless", "panoptic_fpn"])
    @pytest.mark.parametrize("strides", [(4, 8, 16), (8, 16, 32, 64), (4, 8, 16, 32, 48)])
    def test_anchors_of_other_strides_than_the_levels_are_refused(self, name, strides):
        with pytest.raises(InvalidArgumentError, match=rf"strides of an FPN, .* got \({strides[0]}, .*change"):
            small(name, representation=replace(SMALL, anchors=Anchors(strides=strides)))


class TestNoProposals:
    @pytest.fixture
    def model(self):
        """Every anchor is moved out of the image."""
        model = small()
        with torch.no_grad():
            model.heads.proposals.offsets.bias.fill_(1e4)
        return model

    def test_maps_have_stuff_only(self, model):
        with torch.inference_mode():
            outputs = model.eval()(torch.rand(2, 3, 64, 64))
        for part in (outputs.regions, outputs.category, outputs.mask_boxes, outputs.mask_score, outputs.masks):
            assert not part.any()
        for found in model.decode(outputs, [(64, 64)] * 2):
            assert not torch.isin(found.category, torch.tensor(SHAPES.thing_ids)).any()

    def test_the_second_stage_trains_on_the_true_boxes(self, model):
        truth = generated_map(0, (64, 64))
        targets = stacked(model.train(), truth)
        outputs = model(torch.rand(1, 3, 64, 64), targets)
        num = int((targets.category > 0).sum())
        assert num > 1
        assert sorted(outputs.regions[0, :num].tolist()) == sorted(targets.box[0, :num].tolist())
        assert not outputs.regions[0, num:].any()
        require_gradients(model, outputs, targets)


class TestNumbers:
    def test_they_depend_on_the_options_alone(self):
        """An image without proposals, an image with many, and images with targets."""
        model, truth = small().train(), generated_map(0, (64, 64))
        targets = stacked(model, truth, PanopticMap.empty((64, 64)))
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        for arguments, regions, masks in (((images,), 20, 5), ((images, targets), 512, 128)):
            outputs = model(*arguments)
            assert outputs.regions.shape == (2, regions, 4)
            assert outputs.category.shape == (2, regions, 3)
            assert outputs.masks.shape == (2, masks, 28, 28)
        assert not outputs.regions[1].any()
        num = int(has_area(outputs.regions[0]).sum())
        assert 0 < num < 512
        assert not outputs.regions[0, num:].any()


@pytest.mark.parametrize("name", ["seamless", "panoptic_fpn"])
def test_boxes_are_clipped_to_the_image_without_padding(name):
    model = small(name, representation=replace(SMALL, detections=DetectionSelection(0.0, 0.5, 100))).eval()
    with torch.no_grad():
        outputs = model(torch.rand(1, 3, 70, 50, generator=torch.Generator().manual_seed(0)))
    for boxes in (outputs.regions[0], outputs.mask_boxes[0]):
        assert boxes.amax(0)[2:].tolist() == [50, 70]


class TestGivenBoxes:
    def test_detections_are_those_of_the_same_boxes(self):
        """Regions and masks of a forward pass are what the two stages give for its boxes."""
        model, images = small().eval(), torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            outputs = model(images)
            category, offsets = model.classify_regions(images, outputs.regions)
            masks = model.mask_regions(images, outputs.mask_boxes, outputs.mask_category)
        assert torch.equal(category, outputs.category)
        assert torch.equal(offsets, outputs.region_offsets)
        assert torch.equal(masks, outputs.masks)
        assert outputs.mask_score.max() > 0
