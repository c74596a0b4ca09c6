from __future__ import annotations

import pytest
import torch
from maps import SHAPES, generated_map

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.representations.centers import CenterDecoding, CenterOutputs, CenterRepresentation, CenterTargets


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0}, "expected sigma above 0, got 0"),
        ({"hard_pixel_fraction": 1.5}, r"expected hard_pixel_fraction in \(0, 1\], got 1.5"),
        ({"boundary_alphas": (8, 0)}, "expected boundary_alphas\\[1\\] above 0"),
        ({"center_loss_weight": float("nan")}, "expected center_loss_weight of 0 or more, got nan"),
        ({"small_weight": -1.0}, "expected small_weight of 0 or more"),
        ({"compat": "papre"}, "expected compat"),
        ({"category_weights": (1.0, 0.0)}, "expected positive category_weights"),
        ({"loss_stride": 0}, "expected loss_stride of 1 or more, got 0"),
        ({"first_stage_weight": -0.1}, "expected first_stage_weight of 0 or more, got -0.1"),
        ({"compat": "standalone", "loss_stride": 2}, 'expected a loss_stride of 1 with compat="standalone", got 2'),
    ],
)
def test_values_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        CenterRepresentation(**options)  # type: ignore[arg-type]


def stacked(targets: CenterTargets) -> CenterTargets:
    return CenterTargets(*(t[None] for t in targets))


def test_offset_loss_of_a_hand_counted_case() -> None:
    # One object of 2x2 pixels; every pixel is its boundary, distance 1 = dmax, hence the lowest weight, 1.
    truth = PanopticMap(torch.tensor([[1, 1], [1, 1]], dtype=torch.int32), torch.tensor([2]))
    representation = CenterRepresentation()
    targets = representation.encode(truth, SHAPES)
    assert targets.offset[:, 0, 0].tolist() == [0.5, 0.5]
    outputs = CenterOutputs(torch.zeros(1, 4, 2, 2), torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2))
    losses = representation.loss(outputs, stacked(targets), truth.size)
    # |dy| + |dx| = 1 everywhere; a small object counts three times in the semantic loss.
    torch.testing.assert_close(losses["offset"], torch.tensor(0.0025))
    torch.testing.assert_close(losses["semantic"], 3 * torch.tensor(4.0).log())


def test_boundary_weights_change_the_default_weight_of_the_offset_loss() -> None:
    truth = generated_map(4)
    size = (*truth.size,)
    outputs = CenterOutputs(torch.zeros(1, 4, *size), torch.zeros(1, 1, *size), torch.full((1, 2, *size), 3.0))
    plain, explicit = CenterRepresentation(boundary_alphas=()), CenterRepresentation(offset_loss_weight=0.01)
    assert plain.encode(truth, SHAPES).offset_weight.unique().tolist() == [0, 1]
    assert set(explicit.encode(truth, SHAPES).offset_weight.unique().tolist()) <= {0, 1, 2, 4, 8}
    for representation in (plain, explicit):
        targets = representation.encode(truth, SHAPES)
        w = targets.offset_weight
        expected = 0.01 * ((targets.offset - 3).abs().sum(0) * w).sum() / w.sum()
        torch.testing.assert_close(representation.loss(outputs, stacked(targets), truth.size)["offset"], expected)


def test_category_weights_multiply_the_weights_of_the_semantic_loss() -> None:
    truth = generated_map(4)
    weights = (1.0, 2.0, 3.0, 4.0)
    plain = CenterRepresentation().encode(truth, SHAPES)
    weighted = CenterRepresentation(category_weights=weights).encode(truth, SHAPES)
    factor = torch.tensor([1.0, *weights])[truth.semantic(void=-1).long() + 1]
    assert torch.equal(weighted.semantic_weight, plain.semantic_weight * factor)
    assert torch.equal(weighted.center_weight, plain.center_weight)
    with pytest.raises(InvalidArgumentError, match=r"expected 4 category_weights, .* got 2"):
        CenterRepresentation(category_weights=(1.0, 2.0)).encode(truth, SHAPES)


def test_a_loss_stride_compares_one_pixel_of_each_square_and_prefers_none() -> None:
    truth = generated_map(5, size=(32, 32))
    g = torch.Generator().manual_seed(0)
    outputs = CenterOutputs(*(torch.randn(1, c, 8, 8, generator=g) for c in (4, 1, 2)))
    representation = CenterRepresentation(loss_stride=2)
    targets = stacked(representation.encode(truth, SHAPES))
    places = [(y, x, 2 * y + x % 2, 2 * x + y % 2) for y in range(16) for x in range(16)]
    thinned = CenterTargets(*(torch.zeros_like(t[..., :16, :16]) for t in targets))
    for thin, whole in zip(thinned, targets, strict=True):
        for y, x, row, column in places:
            thin[..., y, x] = whole[..., row, column]
    # The same as a network of stride 2 on an image of half the size.
    expected = CenterRepresentation().loss(outputs, thinned, (16, 16))
    for name, loss in representation.loss(outputs, targets, (32, 32)).items():
        torch.testing.assert_close(loss, expected[name])
    assert {(row % 2, column % 2) for _, _, row, column in places} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    with pytest.raises(InvalidArgumentError, match="divides the padded size 32x32, got 3"):
        CenterRepresentation(loss_stride=3).loss(outputs, targets, (32, 32))


def test_targets_smaller_than_the_outputs_are_padded_with_void() -> None:
    truth = generated_map(2, size=(20, 30))
    representation = CenterRepresentation()
    targets = stacked(representation.encode(truth, SHAPES))
    padded = stacked(representation.encode(truth.pad(32, 32), SHAPES))
    g = torch.Generator().manual_seed(0)
    outputs = CenterOutputs(*(torch.randn(1, c, 8, 8, generator=g) for c in (4, 1, 2)))
    ours, theirs = (representation.loss(outputs, t, (32, 32)) for t in (targets, padded))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])
    with pytest.raises(InvalidArgumentError, match="expected targets of at most 16x16 pixels, got \\(20, 30\\)"):
        representation.loss(CenterOutputs(*(o[..., :4, :4] for o in outputs.tensors)), targets, (16, 16))


def test_contradicting_arguments_are_refused() -> None:
    representation = CenterRepresentation()
    truth = PanopticMap(torch.ones(4, 4, dtype=torch.int32), torch.tensor([7]))
    with pytest.raises(InvalidArgumentError, match=r"expected category ids below 4 \(shapes\), got 7"):
        representation.encode(truth, SHAPES)
    outputs = CenterOutputs(torch.zeros(2, 4, 4, 4), torch.zeros(2, 1, 4, 4), torch.zeros(2, 2, 4, 4))
    with pytest.raises(InvalidArgumentError, match="expected one size for each of the 2 images, got 1"):
        representation.decode(outputs, [ImageGeometry.of((16, 16))], SHAPES)


def test_stuff_alone_and_things_alone() -> None:
    things = LabelSpace("things", tuple(c for c in SHAPES if c.is_thing))
    decoding = CenterDecoding(stuff_area=1)
    outputs = CenterOutputs(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 4))
    empty = CenterRepresentation(decoding=decoding).decode(outputs, [ImageGeometry.of((16, 16))], things)[0]
    assert empty.num_segments == 0  # no centre: things are void
    outputs.center[0, 0, 2, 2] = 1
    # Upsampled by 4, a single peak lies between pixels: the four around it are equally high, and all are centres.
    four = CenterRepresentation(decoding=decoding).decode(outputs, [ImageGeometry.of((16, 16))], things)[0]
    assert sorted(four.areas().tolist()) == [36, 60, 60, 100]


def random_outputs(seed: int, size: tuple[int, int]) -> CenterOutputs:
    g = torch.Generator().manual_seed(seed)
    return CenterOutputs(*(torch.randn(1, c, *size, generator=g) for c in (4, 1, 2)))


def test_a_first_stage_adds_the_same_losses_under_its_own_names() -> None:
    targets = stacked(CenterRepresentation().encode(generated_map(3, size=(32, 32)), SHAPES))
    second, first = random_outputs(1, (8, 8)), random_outputs(2, (8, 8))
    for weight in (0.4, 0.0, 2.5):
        representation = CenterRepresentation(first_stage_weight=weight)
        alone, early = (representation.loss(outputs, targets, (32, 32)) for outputs in (second, first))
        both = representation.loss(second._replace(first_stage=first), targets, (32, 32))
        assert list(both) == ["semantic", "center", "offset", "first_semantic", "first_center", "first_offset"]
        for name in ("semantic", "center", "offset"):
            torch.testing.assert_close(both[name], alone[name], atol=0, rtol=0)
            torch.testing.assert_close(both[f"first_{name}"], weight * early[name])
    assert CenterRepresentation().first_stage_weight == 0.4


def test_a_first_stage_takes_no_part_in_prediction() -> None:
    representation = CenterRepresentation(decoding=CenterDecoding(threshold=0.3, stuff_area=10))
    outputs, truth = random_outputs(5, (8, 8)), generated_map(3, size=(32, 30))
    staged = outputs._replace(first_stage=random_outputs(6, (8, 8)))
    size, arguments = truth.size, (SHAPES, (32, 32))
    geometry = ImageGeometry.of(size, padded_size=(32, 32))
    (plain,), (found,) = (representation.decode(o, [geometry], SHAPES) for o in (outputs, staged))
    assert found.equals(plain)
    for a, b in zip(
        representation.visualize(staged, size, *arguments).values(),
        representation.visualize(outputs, size, *arguments).values(),
        strict=True,
    ):
        assert torch.equal(a, b)
    for parts in ((), ("centers",)):
        mixed = representation.with_truth(staged, truth, parts, *arguments)
        assert mixed.first_stage is None
        expected = representation.with_truth(outputs, truth, parts, *arguments)
        assert all(torch.equal(a, b) for a, b in zip(mixed.tensors, expected.tensors, strict=True))
    assert staged.image(0).first_stage is None


def test_networks_of_aligned_corners_hand_in_the_padded_size() -> None:
    # 9 outputs with corners aligned stand for 33 pixels: every fourth pixel has the value of an output.
    outputs, representation = random_outputs(5, (9, 5)), CenterRepresentation(compat="standalone")
    truth = generated_map(3, size=(33, 17))
    targets = stacked(representation.encode(truth, SHAPES))
    found = representation.loss(outputs, targets, (33, 17))
    enlarged = CenterOutputs(
        *(torch.nn.functional.interpolate(o, (33, 17), mode="bilinear", align_corners=True) for o in outputs.tensors)
    )
    torch.testing.assert_close(enlarged.semantic[..., ::4, ::4], outputs.semantic, atol=1e-5, rtol=1e-5)
    for name, value in representation.loss(enlarged, targets, (33, 17)).items():
        torch.testing.assert_close(found[name], value)
    with pytest.raises(InvalidArgumentError, match="expected targets of at most 32x16"):
        representation.loss(outputs, targets, (32, 16))

    decoding = CenterDecoding(threshold=0.3, stuff_area=10, align_corners=True)
    recovery = CenterRepresentation(decoding=decoding)
    geometry = ImageGeometry.of((33, 17))
    (panoptic,), (expected,) = (recovery.decode(o, [geometry], SHAPES) for o in (outputs, enlarged))
    assert torch.equal(panoptic.semantic(void=-1), expected.semantic(void=-1))
    mixed = recovery.with_truth(outputs, truth, (), SHAPES, (33, 17))
    torch.testing.assert_close(mixed.offset, enlarged.offset, atol=1e-4, rtol=1e-4)
    assert {p.shape for p in recovery.visualize(outputs, (33, 17), SHAPES, (33, 17)).values()} == {(3, 33, 17)}
