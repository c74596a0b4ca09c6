from __future__ import annotations

import pytest
import torch
from maps import SHAPES, generated_map
from torch.nn import functional as F

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import upsample
from panscape.representations.centers import CenterDecoding, CenterOutputs, CenterRepresentation
from panscape.representations.centers import scores as center_scores
from panscape.representations.centers.scores import score_instances

STRIDE = 4


def random_outputs(seed: int, height: int, width: int) -> CenterOutputs:
    g = torch.Generator().manual_seed(seed)
    return CenterOutputs(
        3 * torch.randn(1, len(SHAPES), height, width, generator=g),
        0.5 + 0.5 * torch.randn(1, 1, height, width, generator=g),
        torch.randn(1, 2, height, width, generator=g),
    )


def by_hand(panoptic: PanopticMap, outputs: CenterOutputs, align_corners: bool, resize) -> list[float]:
    """Follow the published rule with whole probability maps, one segment after the other."""
    prob = resize(outputs.semantic).softmax(1)[0].double()
    heat = resize(outputs.center)[0, 0]
    scores = []
    for row, category in enumerate(panoptic.category.tolist()):
        y, x = (panoptic.ids == row + 1).nonzero(as_tuple=True)
        if len(y) == 0:
            scores.append(0.0)
            continue
        score = float(prob[category, y, x].mean())
        if SHAPES[category].is_thing:
            at_center = heat[int(y.double().mean()), int(x.double().mean())]
            score *= min(max(float(at_center), 0.0), 1.0)
        scores.append(score)
    return scores


@pytest.mark.parametrize("align_corners", [False, True])
def test_scores_follow_the_published_rule(align_corners: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(center_scores, "_VALUES_AT_ONCE", 7 * 128 * len(SHAPES))  # seven rows at a time
    clamped = set()
    for seed in range(8):
        panoptic, outputs = generated_map(seed, (90, 123)), random_outputs(seed, 24, 32)

        def ours(plane: torch.Tensor) -> torch.Tensor:
            return upsample(plane, (96, 128), (90, 123), align_corners)

        def torchs(plane: torch.Tensor) -> torch.Tensor:
            whole = F.interpolate(plane, (96, 128), mode="bilinear", align_corners=align_corners)
            return whole[..., :90, :123]

        came = score_instances(panoptic, outputs, SHAPES, (96, 128), align_corners)
        assert torch.equal(came.ids, panoptic.ids)
        assert torch.equal(came.category, panoptic.category)
        expected = torch.tensor(by_hand(panoptic, outputs, align_corners, ours))
        torch.testing.assert_close(came.score, expected, rtol=0, atol=1e-6)
        expected = torch.tensor(by_hand(panoptic, outputs, align_corners, torchs))
        torch.testing.assert_close(came.score, expected, rtol=0, atol=2e-5)
        clamped |= {bool(value == 0) for value in came.score}
    assert clamped == {True, False}  # some centres have a heat below 0


def test_rows_at_once_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    panoptic, outputs = generated_map(3, (90, 123)), random_outputs(3, 24, 32)
    whole = score_instances(panoptic, outputs, SHAPES, (96, 128), False).score
    for values in (1, 123 * len(SHAPES) * 4, 123 * len(SHAPES) * 89):
        monkeypatch.setattr(center_scores, "_VALUES_AT_ONCE", values)
        torch.testing.assert_close(
            score_instances(panoptic, outputs, SHAPES, (96, 128), False).score, whole, rtol=0, atol=1e-7
        )


def test_a_mean_position_outside_the_segment() -> None:
    """A ring's centre belongs to another segment; its heat counts all the same, as published."""
    ids = torch.zeros(16, 16, dtype=torch.int32)
    ids[2:13, 2:13] = 1
    ids[4:11, 4:11] = 0
    heat = torch.zeros(1, 1, 16, 16)
    heat[0, 0, 7, 7] = 0.75
    logits = torch.zeros(1, len(SHAPES), 16, 16)
    logits[:, 2] = torch.tensor(3.0).log()
    panoptic = PanopticMap(ids, torch.tensor([2]))
    scores = score_instances(
        panoptic, CenterOutputs(logits, heat, torch.zeros(1, 2, 16, 16)), SHAPES, (16, 16), False
    ).score
    torch.testing.assert_close(scores, torch.tensor([0.75 * 3 / 6]), rtol=0, atol=1e-6)


def test_segments_without_pixels_and_maps_without_segments() -> None:
    outputs = random_outputs(0, 2, 2)
    assert score_instances(PanopticMap.empty((8, 8)), outputs, SHAPES, (8, 8), False).score.tolist() == []
    unused = PanopticMap(torch.zeros(8, 8, dtype=torch.int32), torch.tensor([0, 3]))
    assert score_instances(unused, outputs, SHAPES, (8, 8), False).score.tolist() == [0, 0]


def test_decoding_gives_another_score() -> None:
    """Decoding assigns the heat at the centre, and 1 for stuff."""
    outputs = random_outputs(5, 24, 32)
    representation = CenterRepresentation(decoding=CenterDecoding(stuff_area=1))
    panoptic = representation.decode(outputs, [ImageGeometry.of((96, 128))], SHAPES)[0]
    scored = score_instances(panoptic, outputs, SHAPES, (96, 128), False)
    is_stuff = torch.tensor([not SHAPES[c].is_thing for c in panoptic.category.tolist()])
    assert set(panoptic.score[is_stuff].tolist()) == {1.0}
    assert bool((scored.score[is_stuff] < 1).all())
    assert scored.equals(panoptic)


def test_outputs_that_do_not_belong_to_the_map() -> None:
    outputs = random_outputs(0, 4, 4)
    with pytest.raises(InvalidArgumentError, match="expected the outputs of one image of 17x16, got outputs of 1"):
        score_instances(PanopticMap.empty((17, 16)), outputs, SHAPES, (16, 16), False)
    pair = CenterOutputs(*(torch.cat([part, part]) for part in outputs.tensors))
    with pytest.raises(InvalidArgumentError, match="got outputs of 2 of at most 16x16"):
        score_instances(PanopticMap.empty((16, 16)), pair, SHAPES, (16, 16), False)
    strange = PanopticMap(torch.ones(16, 16, dtype=torch.int32), torch.tensor([4]))
    with pytest.raises(InvalidArgumentError, match="expected categories below 4, for which there are logits, got 4"):
        score_instances(strange, outputs, SHAPES, (16, 16), False)
