"""The law of every representation: decoding an encoded truth gives the truth back. A new one adds its line to LAWS."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap
from panscape.representations.centers import CenterDecoding, CenterOutputs, CenterRepresentation


def centers_round_trip(truth: PanopticMap) -> PanopticMap:
    """Encode, take the targets for perfect outputs of a network of stride 1, decode."""
    representation = CenterRepresentation(decoding=CenterDecoding(stuff_area=1))
    targets = representation.encode(truth, SHAPES)
    # Void has no channel: no network can say it, so these pixels are compared no further.
    semantic = torch.nn.functional.one_hot((targets.semantic - 1).clamp_min(0), len(SHAPES)).permute(2, 0, 1).float()
    outputs = CenterOutputs(semantic[None], targets.center[None, None], targets.offset[None])
    return representation.decode(outputs, [truth.size], SHAPES, 1)[0]


LAWS: dict[str, Callable[[PanopticMap], PanopticMap]] = {"centers": centers_round_trip}


def _centroids_apart(truth: PanopticMap, distance: float = 8.0) -> bool:
    """Whether no two objects have centres in one suppression window: the exception that the next test pins."""
    y, x = torch.meshgrid(*(torch.arange(s).float() for s in truth.size), indexing="ij")
    points = torch.stack(
        [
            torch.stack([y[m].mean(), x[m].mean()])
            for m, c in zip(truth.masks(), truth.category, strict=True)
            if SHAPES[int(c)].is_thing
        ]
        or [torch.zeros(2)]
    )
    gaps = (points[:, None] - points[None]).abs().amax(-1) + torch.eye(len(points)) * 1e6
    return bool(gaps.min() > distance)


@pytest.mark.parametrize("name", LAWS)
def test_decoding_an_encoded_truth_gives_it_back(name: str) -> None:
    tried = 0
    for seed in range(60):
        truth = generated_map(seed, void=False, smallest=6, objects=5)
        if not _centroids_apart(truth):
            continue
        tried += 1
        assert LAWS[name](truth).equals(truth), seed
    assert tried >= 25


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 5)])
def test_the_law_holds_on_odd_sizes(name: str, size: tuple[int, int]) -> None:
    for category in (0, 3):
        truth = PanopticMap(torch.ones(size, dtype=torch.int32), torch.tensor([category]))
        assert LAWS[name](truth).equals(truth)


def test_centers_exception_two_objects_with_one_centre_become_one() -> None:
    ring = a_map("\n".join(["AAAAAAAAA"] * 3 + ["AAABBBAAA"] * 3 + ["AAAAAAAAA"] * 3), {"A": 2, "B": 3})
    found = centers_round_trip(ring)
    assert found.num_segments == 1
    assert found.category.tolist() == [2]  # 72 pixels outvote 9


def test_centers_exception_a_crowd_is_returned_as_an_object() -> None:
    crowd = PanopticMap(torch.ones(20, 20, dtype=torch.int32), torch.tensor([2]), None, torch.tensor([True]))
    found = centers_round_trip(crowd)
    assert found.category.tolist() == [2]
    assert found.crowd is None
