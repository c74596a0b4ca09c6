"""Arrays with segments_info, as transformers returns them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidAnnotationError, InvalidArgumentError
from panscape.formats import SegmentInfo, from_transformers, map_from_id_image, unique_ids
from panscape.metrics import PanopticQuality

SEGMENTATION = np.array([[1, 1, 0], [2, 2, 0]])


def segment(number: Any, label: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "label_id": label, **more}


@pytest.mark.parametrize("void", [0, -1])
@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float32, torch.int32, torch.int64])
def test_an_image(void: int, kind: Any) -> None:
    numbers = np.where(SEGMENTATION == 0, void, SEGMENTATION)
    segmentation = torch.from_numpy(numbers).to(kind) if isinstance(kind, torch.dtype) else numbers.astype(kind)
    panoptic = from_transformers(segmentation, [segment(2, 3, score=0.25), segment(1, 0, score=1.0)], SHAPES)
    assert panoptic.ids.tolist() == [[2, 2, 0], [1, 1, 0]]
    assert panoptic.category.tolist() == [3, 0]
    assert panoptic.score is not None
    assert panoptic.score.tolist() == [0.25, 1]
    assert panoptic.crowd is None


def test_ids_from_zero() -> None:  # as the instance processors and EoMT number them
    panoptic = from_transformers(np.array([[0, 1, -1]]), [segment(0, 2), segment(1, 2)], SHAPES)
    assert panoptic.ids.tolist() == [[1, 2, 0]]
    assert panoptic.score is None


def test_an_image_without_segments() -> None:  # torch.zeros(size) - 1 in transformers, which is floating
    panoptic = from_transformers(torch.zeros(2, 3) - 1, [], SHAPES)
    assert panoptic.equals(PanopticMap.empty((2, 3)))


def test_stuff_in_pieces_is_one_segment_and_scores_as_one() -> None:
    # Of label_ids_to_fuse=set(): two skies, a disc between them, and another disc.
    segmentation = np.array([[1, 1, 2, 3], [1, 1, 2, 4], [0, 0, 2, 4]])
    infos = [segment(1, 0, score=0.5), segment(2, 2, score=0.75), segment(3, 0, score=0.875), segment(4, 2, score=1.0)]
    panoptic = from_transformers(segmentation, infos, SHAPES)
    assert panoptic.ids.tolist() == [[1, 1, 2, 1], [1, 1, 2, 3], [0, 0, 2, 3]]
    assert panoptic.category.tolist() == [0, 2, 2]
    assert panoptic.score is not None
    assert panoptic.score.tolist() == [0.875, 0.75, 1.0]
    quality = PanopticQuality(SHAPES)
    quality.update(panoptic, a_map("AABA\nAABC\n..BC", {"A": 0, "B": 2, "C": 2}))
    assert quality.compute().per_category["sky"].pq == 1
    assert from_transformers(segmentation, infos).num_segments == 4  # without labels, stuff is unknown


def test_fused_descriptions_are_one_segment() -> None:
    fused = [segment(1, 0, was_fused=True, score=0.5), segment(1, 0, was_fused=True, score=0.75), segment(2, 2)]
    panoptic = from_transformers(SEGMENTATION, [{**s, "score": s.get("score", 0.25)} for s in fused], SHAPES)
    assert panoptic.category.tolist() == [0, 2]
    assert panoptic.score is not None
    assert panoptic.score.tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (
            [segment(1, 2), segment(2, 2), segment(2, 3)],
            "2 segments of label_id 2, 3 share the id 2; their pixels are",
        ),
        ([segment(1, 2), segment(2, 2), segment(2, 2)], "2 segments of label_id 2 share the id 2; their pixels are"),
        (
            [
                segment(1, 0, was_fused=True),
                segment(2, 2),
                segment(2, 1, was_fused=True),
                segment(2, 1, was_fused=True),
            ],
            "3 segments of label_id 1, 2 share the id 2",
        ),
        ([segment(1, 2)], "but 2 (one of 1) is not in segments_info"),
        (
            [segment(1, 2), segment(2, 9)],
            "id 2: expected a label_id in 0..3, the positions in label space 'shapes', got 9",
        ),
        ([segment(1, 2), segment(2, 24)], "got 24; it is a source id"),
        ([segment(1, 2), segment(-2, 2)], "id -2: expected ids from 0 on"),
        ([segment(1, 2), {"id": 2, "category_id": 1}], "expected integers 'id' and 'label_id' of every segment"),
        ([segment(1, 2), segment(True, 2)], "expected integers 'id' and 'label_id' of every segment"),
        ([segment(1, 2), segment(2, 2**70)], "expected integers 'id' and 'label_id' of every segment"),
    ],
)
def test_ambiguous_segments_are_named(segments: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidAnnotationError) as info:
        from_transformers(SEGMENTATION, segments, SHAPES)
    assert message in str(info.value)


@pytest.mark.parametrize(
    "segmentation",
    [np.zeros((2, 2, 1), int), np.array([[0.5]]), np.array([[np.nan]]), np.array([["a"]]), np.array([[1e300]])],
)
def test_other_arrays_are_refused(segmentation: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="segmentation of integers"):
        from_transformers(segmentation, [], SHAPES)


def test_source_ids() -> None:
    panoptic = from_transformers(SEGMENTATION, [segment(1, 11), segment(2, 26)], SHAPES, use_source_ids=True)
    assert panoptic.category.tolist() == [0, 3]
    with pytest.raises(InvalidAnnotationError, match=r"expected a label_id of label space 'shapes' .*, got 2"):
        from_transformers(SEGMENTATION, [segment(1, 11), segment(2, 2)], SHAPES, use_source_ids=True)


def as_transformers_numbers(labels: list[int], fused: set[int]) -> list[int]:
    """The rule by which transformers counts: after a fused segment the count goes on from the number of that one."""
    numbers, number, number_of = [], 0, {}
    for label in labels:
        number = number_of[label] if label in number_of else number + 1
        numbers.append(number)
        if label in fused:
            number_of[label] = number
    return numbers


def test_accepted_values_are_the_intended_ones() -> None:
    chance = random.Random(0)
    accepted = refused = 0
    for _ in range(400):
        labels = [chance.choice([0, 1, 2, 3]) for _ in range(chance.randint(1, 6))]
        numbers = as_transformers_numbers(labels, {0, 1})
        # Segment i is column i. What is meant: fused ones are one segment, all others are one each.
        segments = [segment(n, label, was_fused=label in {0, 1}) for n, label in zip(numbers, labels, strict=True)]
        meant = [label if label in {0, 1} else 10 + i for i, label in enumerate(labels)]
        owners = [{meant[i] for i, n in enumerate(numbers) if n == number} for number in numbers]
        segmentation = np.array([numbers])
        if any(len(owner) > 1 for owner in owners):
            refused += 1
            with pytest.raises(InvalidAnnotationError, match="indistinguishable"):
                from_transformers(segmentation, segments, SHAPES)
            continue
        accepted += 1
        panoptic = from_transformers(segmentation, segments, SHAPES)
        letters = "".join(chr(65 + sorted(set(meant)).index(m)) for m in meant)
        of_letter = {letter: labels[letters.index(letter)] for letter in letters}
        assert panoptic.equals(a_map(letters, of_letter))
    assert min(accepted, refused) > 30


def test_numbered_pixels_against_brute_force() -> None:
    for seed in range(20):
        truth = generated_map(seed, (20, 30))
        g = np.random.default_rng(seed)
        numbers_of = g.choice([3, 70, 256**3 - 1, 2**40, 9, 11, 12, 13, 14, 15], truth.num_segments, replace=False)
        numbers = np.concatenate([[0], numbers_of])[truth.ids.numpy()]
        rows = g.permutation(truth.num_segments)[:-1]
        described = [SegmentInfo(int(numbers_of[row]), int(truth.category[row])) for row in rows]
        panoptic, undescribed = map_from_id_image(numbers, described)
        for place, row in enumerate(rows):
            assert torch.equal(panoptic.ids == place + 1, truth.ids == int(row) + 1)
        left = set(numbers_of.tolist()) - {d.number for d in described}
        assert undescribed == sorted(left & set(np.unique(numbers).tolist()))
        assert unique_ids(numbers) == np.unique(numbers).tolist()
        assert map_from_id_image(numbers, described, void=(0, *left))[1] == []
    assert map_from_id_image(np.zeros((0, 5), int), [])[0].size == (0, 5)
