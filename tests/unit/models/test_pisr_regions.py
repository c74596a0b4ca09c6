"""PISR on Panoptic FPN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor
from torch.nn import functional as F

from panscape import create_model
from panscape.models.panoptic_fpn import PUBLISHED
from panscape.nn.pisr import PISR, Relations
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import region_instance_maps
from panscape.representations.regions import (
    Anchors,
    DetectionSelection,
    ProposalSelection,
    RegionTargets,
    StageSampling,
)

ALL = [PISR(4, key_width=6), Concatenation(4), ElementwiseProduct(4), OCR(key_width=6, dropout=0.0)]
SMALL = replace(
    PUBLISHED,
    anchors=Anchors(strides=(4, 8, 16, 32), scale=2),
    second_stage=StageSampling(16, 0.25, 0.5, 0.5, 0.0),
    proposals=ProposalSelection(100, 100, 20, 30),
    detections=DetectionSelection(max_detections=5),
)
SECOND = ["category", "region", "mask", "semantic"]


def a_model(relations: Relations | None = ALL[0], **options: Any) -> Any:
    torch.manual_seed(0)
    representation = replace(SMALL, **options)
    return create_model(
        "panoptic_fpn",
        SHAPES,
        backbone="residual_xs",
        width=16,
        semantic_width=8,
        representation=representation,
        relations=relations,
    )


def targets_of(model: Any, *seeds: int) -> RegionTargets:
    encoded = [model.encode(generated_map(seed, (96, 128))) for seed in seeds]
    return RegionTargets(*(torch.stack(parts) for parts in zip(*encoded, strict=True)))


def test_heatmaps_are_masks_between_the_centres_of_their_cells() -> None:
    g, size, stride = torch.Generator().manual_seed(0), (9, 13), 4
    low = torch.rand(2, 3, 2, generator=g) * 30 - 10
    boxes = torch.cat([low, low + 4 + 40 * torch.rand(2, 3, 2, generator=g)], 2)
    boxes[1, 2] = 0  # as those that fill up
    prob = torch.rand(2, 3, 7, 7, generator=g).requires_grad_()
    score = torch.rand(2, 3, generator=g)
    maps = region_instance_maps(boxes.requires_grad_(), prob, score, size, stride)
    y, x = ((torch.arange(side) + 0.5) * stride for side in size)
    for image in range(2):
        for k in range(3):
            left, top, right, bottom = boxes[image, k].detach()
            grid = torch.stack(
                torch.meshgrid((x - left) / (right - left), (y - top) / (bottom - top), indexing="xy"), -1
            )
            found = F.grid_sample(prob[image, k][None, None], 2 * grid[None] - 1, align_corners=False)[0, 0]
            expected = torch.zeros(size) if (image, k) == (1, 2) else score[image, k] * found
            torch.testing.assert_close(maps[image, k], expected, atol=1e-5, rtol=1e-5)
    maps.sum().backward()
    assert boxes.grad is None
    assert (prob.grad[0] != 0).any()  # type: ignore[index]
    assert not prob.grad[1, 2].any()  # type: ignore[index]


@pytest.mark.parametrize("part", ALL, ids=lambda part: type(part).__name__)
def test_both_passes_learn_and_share_their_proposals(part: Relations) -> None:
    model = a_model(part).train()
    targets = targets_of(model, 1, 2)
    outputs = model(torch.rand(2, 3, 96, 128), targets)
    first = outputs.first_stage
    assert first.first_stage is None
    assert [t.shape for t in first.tensors[1:]] == [t.shape for t in outputs.tensors[1:]]
    for name in ("objectness", "anchor_offsets", "regions"):
        assert torch.equal(getattr(outputs, name), getattr(first, name))
    losses, alone = model.loss(outputs, targets), model.loss(first, targets)
    assert list(losses) == [*SECOND, *(f"first_{name}" for name in ("objectness", "anchor", *SECOND))]
    for name in ("category", "region", "mask", "semantic"):  # proposals are sampled at random
        torch.testing.assert_close(losses[f"first_{name}"], 0.4 * alone[name], atol=1e-6, rtol=1e-5)
    sum(losses[name] for name in SECOND).backward()
    # The first pass guides the second one by its masks and categories of pixels, and not by boxes and proposals.
    is_guided = {name: any(p.grad is not None for p in model.get_submodule(name).parameters()) for name in GUIDES}
    assert is_guided == GUIDES | {"heads.masks": not isinstance(part, OCR)}
    assert model.eval()(torch.rand(1, 3, 64, 64)).first_stage is None


GUIDES = {"heads.masks": True, "semantic": True, "heads.boxes": False, "heads.proposals": False}


@pytest.mark.parametrize("part", [ALL[0], ALL[3]], ids=["PISR", "OCR"])
def test_boxes_and_masks_read_the_related_features(part: Relations) -> None:
    model, image = a_model(part).eval(), torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    if model.relations.added is not None:
        torch.nn.init.ones_(model.relations.added.weight)
    else:
        assert isinstance(part, OCR)  # "the instance features cannot be used"
    with torch.inference_mode():
        outputs, base = model(image), a_model(None).eval()(image)
    assert torch.equal(outputs.regions, base.regions)
    assert torch.equal(outputs.category, base.category) == isinstance(part, OCR)


def test_a_network_begins_as_it_is_without_relations() -> None:
    image = torch.rand(2, 3, 70, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for mine, its in zip(a_model().eval()(image).tensors, a_model(None).eval()(image).tensors, strict=True):
            torch.testing.assert_close(mine, its, atol=1e-6, rtol=1e-6)
    copies = {"refined_heads.boxes": "heads.boxes", "refined_heads.masks": "heads.masks"}
    assert a_model(None).weight_copies == {}
    assert a_model(ALL[1]).weight_copies == copies
    assert a_model().weight_copies == copies | {"refined_semantic": "semantic.predictor"}


def seen_in(model: Any, *args: Any) -> list[tuple[Tensor, ...]]:
    """Return what the relations receive in a forward pass."""
    seen = list[Any]()
    model.relations.register_forward_pre_hook(lambda _, given: seen.append(given))
    model(*args)
    return seen


def test_objects_in_training_are_detections_or_else_the_truth() -> None:
    model = a_model(detections=DetectionSelection(0.0, 0.5, 6)).eval()  # both passes are equal, and so are their norms
    images, targets = torch.rand(2, 3, 96, 128), targets_of(model, 1, 2)
    ((_, _, boxes, score, _, _, _),) = seen_in(model, images, targets)
    detected = model(images)
    assert (score[:, :4] < 1).all()
    torch.testing.assert_close(boxes, detected.mask_boxes[:, :4], atol=1e-3, rtol=0)
    blind = a_model(detections=DetectionSelection(1.0, 0.5, 6)).train()
    ((_, _, boxes, score, masks, _, _),) = seen_in(blind, images, targets)
    num = (targets.category > 0).sum(1).clamp_max(4).tolist()
    for image in range(2):
        assert torch.equal(boxes[image, : num[image]], targets.box[image, : num[image]])
        assert score[image].tolist() == [1.0] * num[image] + [0.0] * (4 - num[image])
    assert masks.requires_grad
    assert blind(images, targets_of(blind, 1, 2)).first_stage is not None


def test_padding_is_known() -> None:
    model = a_model().eval()
    ((*_, valid, stride),) = seen_in(model, torch.rand(1, 3, 50, 96))
    assert valid[0, 0].sum().item() == 13 * 24
    assert stride == 4


def test_relations_can_be_seen_where_a_category_has_a_map() -> None:
    image, size = torch.rand(1, 3, 64, 96), (64, 96)
    stuff, thing = SHAPES.stuff_ids[1], SHAPES.thing_ids[0]
    panels = a_model().eval().visualize_features(image, size, [thing, stuff])
    assert list(panels) == [f"{SHAPES[stuff].name} {when} relations" for when in ("before", "after")]
    apart = a_model(merge_things=False).eval().visualize_features(image, size, [thing, stuff])
    assert len(apart) == 4
    assert a_model(None).visualize_features(image, size, [stuff]) == {}


def test_parameters_of_the_published_network() -> None:
    """The paper counts none for Panoptic FPN. By hand, for 54 semantic channels and 100 objects."""
    with torch.device("meta"):
        sizes = {
            part: sum(p.numel() for p in create_model("panoptic_fpn_r50", "coco_panoptic", relations=part).parameters())
            for part in (None, PISR(100, key_width=128))
        }
    norms = 2 * (128 + 128 + 128 + 128 + 154)
    attention = 9 * 128 * 128 + 128 * 128 + 128 * 128 + 154 * 154 + (128 * 32 + 32 + 32 + 1) + norms
    boxes = (49 * 256 + 1) * 1024 + 1025 * 1024 + 1025 * 81 + 1025 * 320
    masks = 4 * (9 * 256 * 256 + 256) + 4 * 256 * 256 + 256 + 257 * 80
    assert sizes[PISR(100, key_width=128)] - sizes[None] == attention + 129 * 256 + 129 * 54 + boxes + masks
