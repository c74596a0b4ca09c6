from __future__ import annotations

from typing import Any

import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor, nn

from panscape import create_model
from panscape.errors import InvalidArgumentError
from panscape.models.pisr import CenterRelations, refined_head, valid_cells
from panscape.nn.pisr import PISR, Relations
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps, center_instance_maps
from panscape.recipes import get_recipe
from panscape.representations.centers import CenterOutputs, CenterTargets

N, SIZE = len(SHAPES), (6, 8)
TINY = {"backbone": "residual_xs", "width": 8, "levels": 1}
ALL = [PISR(4, key_width=6), Concatenation(4), ElementwiseProduct(4), OCR(key_width=6)]


def named(part: object) -> str:
    return type(part).__name__


def first_stage(seed: int = 0) -> CenterOutputs:
    g = torch.Generator().manual_seed(seed)
    return CenterOutputs(*(torch.randn(2, c, *SIZE, generator=g) * scale for c, scale in ((N, 1), (1, 1), (2, 8))))


def features_of(channels: int) -> Tensor:
    return torch.randn(2, channels, *SIZE, generator=torch.Generator().manual_seed(1))


def built(part: Relations, channels: int, **options: Any) -> CenterRelations:
    torch.manual_seed(0)
    relations = CenterRelations(part, channels, SHAPES, **options).eval()
    for module in relations.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return relations


def test_offsets_are_taken_in_cells_and_the_first_categories_as_probabilities() -> None:
    relations, first, features = built(ALL[0], 10, stride=8), first_stage(), features_of(10)
    prob = first.semantic.softmax(1)
    is_thing = torch.tensor([c.is_thing for c in SHAPES])
    maps, _ = center_instance_maps(prob, first.center, first.offset / 8, is_thing, None, 4, CenterInstanceMaps())
    of_semantic, of_instances = relations(features, first)
    assert torch.equal(of_semantic, relations.related(features, prob, maps))
    assert torch.equal(of_instances, of_semantic)
    assert "is_thing" not in relations.state_dict()


def test_options_of_heatmaps_are_passed_on() -> None:
    first, features = first_stage(), features_of(10)
    narrow = built(ALL[0], 10, instance_maps=CenterInstanceMaps(radius=0.02))
    assert not torch.equal(narrow(features, first)[0], built(ALL[0], 10)(features, first)[0])


@pytest.mark.parametrize("part", ALL, ids=named)
@pytest.mark.parametrize("semantic_channels", [None, 6])
def test_each_branch_gets_its_own_channels(part: Relations, semantic_channels: int | None) -> None:
    relations = built(part, 10, semantic_channels=semantic_channels)
    features = features_of(10)
    of_semantic, of_instances = relations(features, first_stage())
    own, others = (10, 10) if semantic_channels is None else (6, 4)
    added = N + 4 if isinstance(part, Concatenation) else 0
    assert of_semantic.shape == (2, own + added, *SIZE)
    assert of_instances.shape == (2, others + added, *SIZE)
    assert (relations.semantic_width, relations.instance_width) == (own + added, others + added)
    mine, theirs = features[:, :own], features[:, -others:]
    if isinstance(part, Concatenation):
        assert torch.equal(of_semantic[:, :own], mine)
        assert torch.equal(of_instances[:, :others], theirs)
        assert torch.equal(of_semantic[:, own:], of_instances[:, others:])
        torch.testing.assert_close(of_semantic[:, own : own + N].sum(1), torch.ones(2, *SIZE))
    elif isinstance(part, OCR):
        assert torch.equal(of_instances, theirs)  # "the instance features cannot be used"
        assert not torch.equal(of_semantic, mine)
    else:
        assert not torch.equal(of_instances, theirs)


@pytest.mark.parametrize("part", ALL, ids=named)
def test_gradients_reach_categories_and_offsets_and_not_centres(part: Relations) -> None:
    features = features_of(10).requires_grad_()
    first = CenterOutputs(*(x.requires_grad_() for x in first_stage().tensors))
    of_semantic, of_instances = built(part, 10)(features, first)
    (of_semantic.square().sum() + of_instances.square().sum()).backward()
    assert features.grad is not None
    assert first.semantic.grad is not None
    assert (first.semantic.grad != 0).any()
    assert first.center.grad is None
    assert (first.offset.grad is None) == isinstance(part, OCR)


def test_cells_that_show_something_of_the_image() -> None:
    features = torch.zeros(2, 3, 4, 6)
    assert valid_cells((16, 24), features, 4) is None
    assert valid_cells((13, 21), features, 4) is None
    valid = valid_cells((9, 20), features, 4)
    assert valid is not None
    assert valid.shape == (1, 1, 4, 6)
    assert valid[0, 0].int().tolist() == [[1] * 5 + [0]] * 3 + [[0] * 6]


def test_a_second_head_begins_as_a_copy_if_it_can() -> None:
    first = nn.Conv2d(4, 2, 1)
    same = refined_head(first, 4, 4, lambda w: nn.Conv2d(w, 2, 1))
    assert torch.equal(same.weight, first.weight)
    assert same.weight is not first.weight
    assert refined_head(first, 4, 7, lambda w: nn.Conv2d(w, 2, 1)).weight.shape == (2, 7, 1, 1)


@pytest.mark.parametrize("semantic_channels", [0, 10])
def test_a_branch_without_features(semantic_channels: int) -> None:
    with pytest.raises(InvalidArgumentError, match="expected semantic_channels of 1 to 9, fewer than all 10, got"):
        CenterRelations(ALL[0], 10, SHAPES, semantic_channels=semantic_channels)


def test_swiftnet_with_relations_begins_as_it_is_without() -> None:
    torch.manual_seed(0)
    base = create_model("swiftnet", SHAPES, **TINY).eval()
    related = create_model("swiftnet", SHAPES, **TINY, relations=ALL[0]).eval()
    known = base.state_dict()
    lacking, unused = related.load_state_dict(known, strict=False)
    assert not unused
    assert {name.split(".")[0] for name in lacking} == {
        "relations",
        "refined_semantic",
        "refined_center",
        "refined_offset",
    }
    for name in ("semantic", "center", "offset"):
        getattr(related, f"refined_{name}").load_state_dict(getattr(base, name).state_dict())
    image = torch.rand(2, 3, 90, 100)
    with torch.inference_mode():
        for a, b in zip(related(image).tensors, base(image).tensors, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_a_fresh_swiftnet_gives_the_first_stage_twice_and_in_training_shows_it() -> None:
    torch.manual_seed(0)
    model = create_model("swiftnet", SHAPES, **TINY, relations=ALL[0]).train()
    targets = CenterTargets(*(t[None] for t in model.encode(generated_map(1))))
    outputs = model(torch.rand(1, 3, *targets.semantic.shape[-2:]))
    assert isinstance(outputs.first_stage, CenterOutputs)
    assert outputs.first_stage.first_stage is None
    for a, b in zip(outputs.tensors, outputs.first_stage.tensors, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    losses = model.loss(outputs, targets)
    assert list(losses) == ["semantic", "center", "offset", "first_semantic", "first_center", "first_offset"]
    for name in ("semantic", "center", "offset"):
        torch.testing.assert_close(losses[f"first_{name}"], 0.4 * losses[name], atol=1e-5, rtol=1e-4)
    # The first stage's centres learn from their own loss alone.
    plain = {name: loss for name, loss in losses.items() if not name.startswith("first_")}
    sum(plain.values()).backward(retain_graph=True)
    assert all(p.grad is None for p in model.center.parameters())
    losses["first_center"].backward()
    assert all(p.grad is not None for p in model.center.parameters())
    assert model.eval()(torch.rand(1, 3, 64, 64)).first_stage is None


def test_padding_does_not_reach_the_relations_of_swiftnet() -> None:
    torch.manual_seed(0)
    model = create_model("swiftnet", SHAPES, **TINY, relations=ALL[0]).eval()
    assert model.stride == 32
    seen: list[Tensor | None] = []
    model.relations.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    model(torch.rand(1, 3, 64, 96))
    model(torch.rand(1, 3, 50, 96))
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[1][0, 0].sum().item() == 13 * 24


@pytest.mark.parametrize(("labels", "pixels", "cells"), [("cityscapes", 7, 3), ("coco_panoptic", 41, 11)])
def test_the_window_of_heatmaps_is_that_of_decoding(labels: str, pixels: int, cells: int) -> None:
    model = create_model("swiftnet", labels, **TINY, relations=ALL[0])
    assert (model.representation.decoding.nms_kernel, model.relations.instance_maps.nms_kernel) == (pixels, cells)
    row = get_recipe(f"deeplab_r52_{labels.removesuffix('_panoptic')}_relations").model
    assert row.instance_maps.nms_kernel == cells


def test_instance_maps_that_nothing_takes_are_refused() -> None:
    for relations, name in ((None, "none"), (OCR(key_width=6), "OCR")):
        with pytest.raises(InvalidArgumentError, match=f"that use objects, .* got them with {name}; leave"):
            create_model("swiftnet", SHAPES, **TINY, relations=relations, instance_maps=CenterInstanceMaps())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relations": PISR}, "expected relations as Relations, got <class"),
        ({"relations": True}, "expected relations as Relations, got True"),
        ({"relations": ALL[0], "instance_maps": {"radius": 0.1}}, "expected instance_maps as CenterInstanceMaps, got"),
    ],
)
def test_relations_of_another_kind(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        create_model("swiftnet", SHAPES, **TINY, **options)
