"""Decoding outputs of which parts are replaced by ground truth."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap, create_model
from panscape.errors import UnknownNameError
from panscape.geometry import ImageGeometry
from panscape.metrics import PanopticQuality
from panscape.models import PanopticModel
from panscape.representations.centers import CENTER_ORACLES, CenterDecoding, CenterOutputs, CenterRepresentation

SUBSETS = [set(parts) for count in range(4) for parts in combinations(CENTER_ORACLES, count)]


def random_outputs(size: tuple[int, int], stride: int, seed: int) -> CenterOutputs:
    g = torch.Generator().manual_seed(seed)
    height, width = (-(-side // stride) for side in size)
    return CenterOutputs(
        torch.randn(1, len(SHAPES), height, width, generator=g),
        torch.rand(1, 1, height, width, generator=g),
        10 * torch.randn(1, 2, height, width, generator=g),
    )


def decoded(
    representation: CenterRepresentation, outputs: CenterOutputs, truth: PanopticMap, parts: set[str], stride: int
) -> PanopticMap:
    mixed = representation.with_truth(outputs, truth, parts, SHAPES, outputs.padded_size(stride))
    assert all(part.shape[-2:] == truth.size for part in mixed.tensors)
    return representation.decode(mixed, [ImageGeometry.of(truth.size)], SHAPES)[0]


def pq(prediction: PanopticMap, truth: PanopticMap) -> float:
    quality = PanopticQuality(SHAPES)
    quality.update(prediction, truth)
    return quality.compute().all.pq


def centers_are_apart(truth: PanopticMap, distance: float = 8) -> bool:
    y, x = torch.meshgrid(*(torch.arange(side).float() for side in truth.size), indexing="ij")
    things = [m for m, c in zip(truth.masks(), truth.category, strict=True) if SHAPES[int(c)].is_thing]
    points = torch.tensor([[float(y[m].mean()), float(x[m].mean())] for m in things]).reshape(-1, 2)
    gaps = (points[:, None] - points[None]).abs().amax(-1) + 1e6 * torch.eye(len(points))
    return len(points) < 2 or bool(gaps.min() > distance)


@pytest.mark.parametrize("align_corners", [False, True])
def test_with_all_of_the_truth_quality_is_100_for_any_outputs(align_corners: bool) -> None:
    representation = CenterRepresentation(decoding=CenterDecoding(stuff_area=1, align_corners=align_corners))
    tried = 0
    for seed in range(40):
        truth = generated_map(seed, size=(61, 90), void=False, objects=3, smallest=6, crowd=seed % 4 == 3)
        if centers_are_apart(truth):
            tried += 1
            found = decoded(representation, random_outputs(truth.size, 4, seed), truth, set(CENTER_ORACLES), 4)
            assert pq(found, truth) == 1, seed
    assert tried >= 20


def test_exception_small_stuff_is_void_even_with_all_of_the_truth() -> None:
    truth = generated_map(1, size=(40, 40), void=False, objects=0)
    representation = CenterRepresentation(decoding=CenterDecoding(stuff_area=1601))
    found = decoded(representation, random_outputs(truth.size, 4, 0), truth, set(CENTER_ORACLES), 4)
    assert found.num_segments == 0


def test_exception_void_keeps_the_prediction_and_may_outvote_an_object() -> None:
    truth = a_map("\n".join(["..........", "...CC.....", "...CC....."] + [".........."] * 3), {"C": 2})
    outputs = CenterOutputs(torch.zeros(1, 4, 6, 10), torch.zeros(1, 1, 6, 10), torch.zeros(1, 2, 6, 10))
    outputs.semantic[:, 3] = 1  # a box everywhere; void pixels join the only centre
    found = decoded(CenterRepresentation(), outputs, truth, set(CENTER_ORACLES), 1)
    assert found.category.tolist() == [3]
    outputs.semantic[:, 1] = 2  # ground around it
    found = decoded(CenterRepresentation(), outputs, truth, set(CENTER_ORACLES), 1)
    assert found.equals(truth)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(61, 90), (64, 96), (3, 5)])
def test_with_none_of_the_truth_it_is_the_plain_decoding(size: tuple[int, int], align_corners: bool) -> None:
    representation = CenterRepresentation(decoding=CenterDecoding(stuff_area=20, align_corners=align_corners))
    for seed in range(5):
        outputs = random_outputs((64, 96), 4, seed)
        truth = generated_map(seed, size=size, smallest=2)
        plain = representation.decode(outputs, [ImageGeometry.of(size, padded_size=(64, 96))], SHAPES)[0]
        found = decoded(representation, outputs, truth, set(), 4)
        assert torch.equal(found.ids, plain.ids)
        assert torch.equal(found.category, plain.category)
        assert torch.equal(found.score, plain.score)


@pytest.mark.parametrize("parts", SUBSETS, ids=lambda parts: "+".join(sorted(parts)) or "none")
def test_only_the_named_parts_are_replaced(parts: set[str]) -> None:
    truth = generated_map(3, size=(61, 90), crowd=True)
    outputs = random_outputs(truth.size, 4, 0)
    representation = CenterRepresentation()
    before = representation.with_truth(outputs, truth, set(), SHAPES, outputs.padded_size(4))
    after = representation.with_truth(outputs, truth, parts, SHAPES, outputs.padded_size(4))
    for name, a, b in zip(CENTER_ORACLES, before.tensors, after.tensors, strict=True):
        assert torch.equal(a, b) == (name not in parts), name
    category = truth.semantic(void=-1)
    if "semantic" in parts:
        assert torch.equal(after.semantic[0].argmax(0)[category >= 0], category[category >= 0])
        assert torch.equal(after.semantic[..., category < 0], before.semantic[..., category < 0])
    if "offsets" in parts:
        is_thing = category >= 2
        assert torch.equal(after.offset[..., ~is_thing], before.offset[..., ~is_thing])
        first = next(m for m, c in zip(truth.masks(), truth.category, strict=True) if c >= 2)
        points = first.nonzero().float() + after.offset[0][:, first].T
        torch.testing.assert_close(points, first.nonzero().float().mean(0).expand_as(points), atol=1e-3, rtol=0)


# Two discs of 6 x 6 pixels on ground; this network takes the left half of the left one for ground, sees a third centre
# in the middle of the right one's left edge, and points everything in the right disc's upper half to the left disc.
SCENE = a_map("\n".join(["A" * 24] * 3 + ["AABBBBBBAAAAAAACCCCCCAAA"] * 6 + ["A" * 24] * 3), {"A": 1, "B": 2, "C": 2})


def faulty_outputs() -> CenterOutputs:
    targets = CenterRepresentation(sigma=1).encode(SCENE, SHAPES)
    semantic = torch.nn.functional.one_hot(targets.semantic - 1, len(SHAPES)).permute(2, 0, 1).float()
    center, offset = targets.center.clone(), targets.offset.clone()
    semantic[:, 3:9, 2:5] = torch.tensor([0.0, 1, 0, 0])[:, None, None]
    center[5:7, 15] = 0.8
    offset[1, 3:6, 15:21] -= 13
    offset[:, 6:9, 15:17] = 0
    return CenterOutputs(semantic[None], center[None, None], offset[None])


def test_each_part_of_the_truth_fixes_its_own_error() -> None:
    representation = CenterRepresentation(sigma=1, decoding=CenterDecoding(stuff_area=1, nms_kernel=3))
    found = {
        frozenset(parts): pq(decoded(representation, faulty_outputs(), SCENE, parts, 1), SCENE) for parts in SUBSETS
    }
    assert found[frozenset(CENTER_ORACLES)] == 1
    none = found[frozenset()]
    for part in CENTER_ORACLES:
        assert found[frozenset({part})] >= none, part
    assert found[frozenset({"semantic"})] > none
    assert found[frozenset({"centers", "offsets"})] > none
    for parts, quality in found.items():
        for part in CENTER_ORACLES:
            assert found[parts | {part}] >= quality, (parts, part)


@pytest.fixture(scope="module")
def model() -> PanopticModel:
    torch.manual_seed(0)
    representation = CenterRepresentation(decoding=CenterDecoding(stuff_area=1))
    return create_model("swiftnet", SHAPES, backbone="test_resnet", width=8, representation=representation).eval()


def test_a_model_decodes_with_the_truth(model: PanopticModel) -> None:
    truth = generated_map(5, size=(61, 90), void=False, objects=2)
    with torch.inference_mode():
        outputs = model(torch.rand(1, 3, 61, 90, generator=torch.Generator().manual_seed(0)))
        assert pq(model.decode_with_truth(outputs, truth, model.oracles), truth) == 1
        assert model.decode_with_truth(outputs, truth, ()).equals(model.decode(outputs, [truth.size])[0])


def test_an_unknown_part_is_refused_with_the_nearest(model: PanopticModel) -> None:
    assert model.oracles == ("semantic", "centers", "offsets")
    for check in (model.require_oracles, lambda parts: model.decode_with_truth(None, SCENE, parts)):
        with pytest.raises(UnknownNameError, match="unknown oracle 'center'; did you mean centers"):
            check(["semantic", "center"])
