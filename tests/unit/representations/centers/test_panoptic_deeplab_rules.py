"""Post-processing by the rules of Panoptic-DeepLab against a transcription of them, and the corrected resizing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from center_scenes import center_scene
from maps import SHAPES, generated_map
from torch.nn import functional as F

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.formats import encode_label_divisor
from panscape.geometry import ImageGeometry
from panscape.metrics import PanopticQuality
from panscape.representations.centers import CenterOutputs, CenterRepresentation
from panscape.representations.centers.decode import (
    CenterDecoding,
    group_centers,
    group_centers_batched,
    group_centers_reference,
)
from panscape.representations.centers.resize_outputs import resize_outputs
from panscape.representations.centers.scores import score_instances

THINGS = (2, 3, 5)
SIX = LabelSpace("six", tuple(Category(f"c{i}", i in THINGS, i, (i, 0, 0)) for i in range(6)))


def batched(semantic, center, offset, geometry, thing_ids, decoding):
    parts = semantic[None], center[None], offset[None]
    return group_centers_batched(*parts, [geometry], thing_ids, decoding)[0]


def rules_of_panoptic_deeplab(logits, center, offset, inference_size, size, decoding):
    """Apply the rules of detectron2's project as they are described; ``category * 1000 + number``, void -1.

    Outputs are enlarged four times, cut to the image, resized to its size and only then looked at. Every pixel's
    distance to every centre is taken; each category counts its objects from 1.
    """

    def resized(x):
        x = F.interpolate(x[None], scale_factor=4, mode="bilinear", align_corners=False)
        x = x[:, :, : inference_size[0], : inference_size[1]]
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)[0]

    semantic, heat, shift = resized(logits).argmax(0), resized(center[None]), resized(offset)
    if decoding.compat != "detectron2":  # ours: the rules leave offsets, lengths and areas as they are
        decoding = decoding.at_image_size(ImageGeometry.of(size, inference_size))
        shift = shift * torch.tensor([size[0] / inference_size[0], size[1] / inference_size[1]])[:, None, None]
    heat = F.threshold(heat, decoding.threshold, -1)
    heat[heat != F.max_pool2d(heat, decoding.nms_kernel, 1, decoding.nms_kernel // 2)] = -1
    last = heat.flatten().topk(decoding.top_k).values[-1].clamp(min=0)
    points = (heat[0] > last).nonzero().float()
    is_thing = torch.isin(semantic, torch.tensor(THINGS))
    instance = torch.zeros_like(semantic)
    if len(points):
        y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
        place = torch.stack([y, x]).float() + shift
        distances = torch.stack([torch.linalg.vector_norm(p[:, None, None] - place, dim=0) for p in points])
        instance = torch.where(is_thing, distances.argmin(0) + 1, 0)
    result = torch.full_like(semantic, -1)
    count = dict.fromkeys(THINGS, 0)
    for i in instance.unique().tolist():
        if i == 0:
            continue
        category = int(semantic[(instance == i) & is_thing].mode().values)
        count[category] += 1
        result[instance == i] = category * 1000 + count[category]
    for category in semantic.unique().tolist():
        mask = (semantic == category) & (instance == 0)
        if category not in THINGS and int(mask.sum()) >= decoding.stuff_area:
            result[mask] = category * 1000
    return result


@pytest.mark.parametrize("group", [group_centers, group_centers_reference, batched])
@pytest.mark.parametrize("compat", ["panoptic_deeplab", "detectron2"])
@pytest.mark.parametrize("size", [(90, 139), (141, 230), (61, 77)])
@pytest.mark.parametrize(("num_centers", "top_k"), [(0, 200), (7, 200), (9, 5)])
def test_it_equals_the_rules_including_instance_numbers(group, compat, size, num_centers, top_k):
    inference_size = (90, 139)
    outputs = center_scene(num_centers, num_centers)
    decoding = CenterDecoding(top_k=top_k, stuff_area=400, resize="outputs", compat=compat)
    expected = rules_of_panoptic_deeplab(*outputs, inference_size, size, decoding)
    geometry = ImageGeometry.of(size, inference_size, padded_size=(96, 144))
    is_scaled = compat == "panoptic_deeplab"
    brought = resize_outputs(*outputs, geometry, decoding)
    scaled = decoding.at_image_size(geometry) if is_scaled else decoding
    panoptic = group(*brought, ImageGeometry.of(size), THINGS, scaled)
    found = encode_label_divisor(panoptic, SIX, numbering="of_category")
    assert np.array_equal(found, expected.numpy())
    assert (expected.clamp_min(0) % 1000 > 0).any() == (num_centers > 0)
    one = CenterOutputs(outputs[0][None], outputs[1][None, None], outputs[2][None])
    representation = CenterRepresentation(decoding=decoding)
    (panoptic,) = representation.decode_resized(one, [geometry], SIX)
    assert np.array_equal(encode_label_divisor(panoptic, SIX), expected.numpy())


def test_with_fewer_centres_than_top_k_both_rules_find_the_same_segments_in_the_same_order():
    for seed in range(4):
        outputs, geometry = center_scene(8, seed), ImageGeometry.of((90, 139), padded_size=(96, 144))
        highest, above = (
            group_centers(*outputs, geometry, THINGS, CenterDecoding(stuff_area=400, compat=rule))
            for rule in ("panoptic_swiftnet", "panoptic_deeplab")
        )
        assert highest.equals(above)
        few = [
            CenterDecoding(stuff_area=400, top_k=4, compat=rule) for rule in ("panoptic_swiftnet", "panoptic_deeplab")
        ]
        kept = [group_centers(*outputs, geometry, THINGS, decoding) for decoding in few]
        assert not kept[0].equals(kept[1])


def outputs_at_half_the_size(truth: PanopticMap) -> CenterOutputs:
    """Return the outputs of a good network of stride 1 for the image at half its size.

    Logits are the shares of categories around a pixel. Enlarged twice, a peak of equal flanks would become four equal
    pixels, and each of them a centre; hence the noise.
    """
    height, width = truth.size
    targets = CenterRepresentation(sigma=4.0).encode(truth.resize(height // 2, width // 2), SHAPES)
    known = F.one_hot(truth.semantic(void=0).long(), len(SHAPES)).permute(2, 0, 1).float()
    semantic = F.avg_pool2d(known[None], 4, stride=2, padding=1, count_include_pad=False)
    center = targets.center + 1e-3 * torch.rand(targets.center.shape, generator=torch.Generator().manual_seed(0))
    return CenterOutputs(semantic, center[None, None], targets.offset[None])


WAYS: dict[str, Any] = {
    "map": {},
    "outputs": {"resize": "outputs"},
    "outputs_unscaled": {"resize": "outputs", "compat": "detectron2"},
}


def recovered(outputs: CenterOutputs, inference_size, size, way) -> PanopticMap:
    decoding = CenterDecoding(stuff_area=16, nms_kernel=3, **WAYS[way])
    representation = CenterRepresentation(decoding=decoding)
    if way == "map":
        return representation.decode(outputs, [ImageGeometry.of(inference_size)], SHAPES)[0].resize(*size).compact()
    return representation.decode_resized(outputs, [ImageGeometry.of(size, inference_size)], SHAPES)[0]


def quality(prediction: PanopticMap, truth: PanopticMap):
    metric = PanopticQuality(SHAPES)
    metric.update(prediction, truth)
    return metric.compute().all


@pytest.mark.parametrize("seed", [1, 4, 8])
def test_a_scene_seen_at_half_its_size(seed: int) -> None:
    truth = generated_map(seed, size=(192, 256), objects=5, smallest=40, void=False)
    outputs = outputs_at_half_the_size(truth)
    found = {way: recovered(outputs, (96, 128), truth.size, way) for way in WAYS}
    scores = {way: quality(panoptic, truth) for way, panoptic in found.items()}
    # Every segment is found, and upsampled logits locate its border between two pixels of the network.
    assert scores["map"].rq == scores["outputs"].rq == 1
    assert 0.95 < scores["map"].sq < 0.98
    assert scores["outputs"].sq > 0.99
    edges = {way: panoptic.ids[:, ::2] != panoptic.ids[:, 1::2] for way, panoptic in found.items()}
    assert not edges["map"].any()  # every pixel twice
    assert edges["outputs"].any()
    assert not found["outputs_unscaled"].equals(found["outputs"])


def test_offsets_of_half_their_length_point_half_way_and_there_may_be_another_centre() -> None:
    ids = torch.ones(160, 240, dtype=torch.int32)
    ids[16:48, 16:48] = 2
    truth = PanopticMap(ids, torch.tensor([3, 2]))
    outputs = outputs_at_half_the_size(truth)
    found = {way: recovered(outputs, (80, 120), (160, 240), way) for way in WAYS}
    for way in ("map", "outputs"):
        assert torch.equal(found[way].semantic(void=-1), truth.semantic(void=-1))
    # By hand: pixels of the box whose half way to its own mean is nearer to the disc's mean than to its own.
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(240.0), indexing="ij")
    own = torch.stack([y[ids == 1], x[ids == 1]])
    mean = own.mean(1, keepdim=True)
    half_way = (own + mean) / 2
    lost = int(((half_way - 31.5).norm(dim=0) < (half_way - mean).norm(dim=0)).sum())
    assert lost > 1500
    # They outvote the 1024 pixels of the disc, which becomes a part of a second box. Peaks lie on whole pixels, a bit
    # farther from the corner than the means, hence some more are lost.
    assert found["outputs_unscaled"].category.tolist() == [3, 3]
    assert 1024 + lost < int(found["outputs_unscaled"].areas().min()) < 1024 + 1.2 * lost


def test_lengths_and_areas_mean_the_same_at_another_size() -> None:
    decoding = CenterDecoding(nms_kernel=7, stuff_area=100, thing_area=50, stuff_share=0.1, resize="outputs")

    def at(size):
        scaled = decoding.at_image_size(ImageGeometry.of(size, (96, 128)))
        return scaled.nms_kernel, scaled.stuff_area, scaled.thing_area, scaled.stuff_share

    assert at((96, 128)) == (7, 100, 50, 0.1)
    assert at((192, 256)) == (13, 400, 200, 0.1)  # 13 and 15 are equally near to 14
    assert at((48, 64)) == (3, 25, 12, 0.1)
    assert at((12, 16))[0] == 3
    one = replace(decoding, nms_kernel=1)
    assert one.at_image_size(ImageGeometry.of((12, 16), (96, 128))).nms_kernel == 1


@pytest.mark.parametrize("ratio", [0.5, 2])
def test_areas_are_those_of_the_networks_input(ratio: float) -> None:
    truth = generated_map(4, size=(192, 256), objects=5, smallest=40, void=False)
    outputs, size = outputs_at_half_the_size(truth), (int(96 * ratio), int(128 * ratio))
    seen = CenterRepresentation(decoding=CenterDecoding(stuff_area=16, nms_kernel=3))
    areas = sorted(seen.decode(outputs, [ImageGeometry.of((96, 128))], SHAPES)[0].areas().tolist())
    for limit in areas[:-1]:
        for compat in ("panoptic_swiftnet", "detectron2"):
            decoding = CenterDecoding(stuff_area=limit, thing_area=limit, nms_kernel=3, resize="outputs", compat=compat)
            (found,) = CenterRepresentation(decoding=decoding).decode_resized(
                outputs, [ImageGeometry.of(size, (96, 128))], SHAPES
            )
            smallest = int(found.areas().min())
            assert smallest >= (limit if compat == "detectron2" else round(limit * ratio**2))


@pytest.mark.parametrize("scored", [False, True])
def test_equal_sizes_give_equal_maps(scored: bool) -> None:
    logits, center, offset = center_scene(7, 3)
    outputs = CenterOutputs(*(torch.stack([p, p]) for p in (logits, center[None], offset)))
    for align_corners in (False, True):
        decoding = CenterDecoding(stuff_area=400, align_corners=align_corners)
        geometries = [ImageGeometry.of(size, padded_size=(96, 144)) for size in ((90, 139), (96, 100))]
        plain = CenterRepresentation(decoding=decoding)
        expected = plain.decode(outputs, geometries, SIX)
        if scored:
            expected = [
                score_instances(m, outputs.image(i), SIX, (96, 144), align_corners) for i, m in enumerate(expected)
            ]
        for way in WAYS.values():
            representation = replace(plain, decoding=replace(decoding, **way))
            found = representation.decode_resized(outputs, geometries, SIX, scored=scored)
            assert all(a.equals(b) for a, b in zip(found, expected, strict=True))
            assert all(torch.equal(a.score, b.score) for a, b in zip(found, expected, strict=True))
    with pytest.raises(InvalidArgumentError, match="each of the 2 images, got 1"):
        plain.decode_resized(outputs, geometries[:1], SIX)


def test_scores_are_those_of_the_resized_outputs() -> None:
    logits, center, offset = center_scene(7, 3)
    outputs, inference_size, size = CenterOutputs(logits[None], center[None, None], offset[None]), (90, 139), (120, 200)
    representation = CenterRepresentation(decoding=CenterDecoding(stuff_area=400, resize="outputs"))
    geometry = ImageGeometry.of(size, inference_size, padded_size=(96, 144))
    (panoptic,) = representation.decode_resized(outputs, [geometry], SIX, scored=True)

    def resized(x):
        x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)[..., :90, :139]
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)[0]

    prob, heat = resized(outputs.semantic).softmax(0), resized(outputs.center)[0]
    assert (panoptic.category >= 2).any()
    for mask, category, score in zip(panoptic.masks(), panoptic.category.tolist(), panoptic.score, strict=True):
        expected = prob[category][mask].mean()
        if category in THINGS:
            y, x = (int(part.double().mean()) for part in mask.nonzero(as_tuple=True))
            expected = expected * heat[y, x]
        torch.testing.assert_close(score, expected, atol=1e-5, rtol=1e-4)
