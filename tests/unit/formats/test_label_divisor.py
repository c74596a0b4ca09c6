from __future__ import annotations

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidAnnotationError, InvalidArgumentError
from panscape.formats import decode_label_divisor, encode_label_divisor

# Sky and ground are stuff, 0 and 1; discs and boxes are things, 2 and 3.
SCENE = a_map("AABC\nDDE.", {"A": 0, "B": 2, "C": 3, "D": 1, "E": 2})


def test_objects_are_numbered_from_one_within_their_category() -> None:
    assert encode_label_divisor(SCENE, SHAPES).tolist() == [[0, 0, 2001, 3001], [1000, 1000, 2002, -1]]


def test_or_all_together() -> None:
    encoded = encode_label_divisor(SCENE, SHAPES, numbering="of_image", divisor=256, void=255 * 256)
    assert encoded.tolist() == [[0, 0, 513, 770], [256, 256, 515, 65280]]


def test_or_with_the_numbers_of_the_files() -> None:
    encoded = encode_label_divisor(SCENE, SHAPES, use_source_ids=True)
    assert encoded.tolist() == [[11000, 11000, 24001, 26001], [7000, 7000, 24002, -1]]
    assert decode_label_divisor(encoded, SHAPES, use_source_ids=True).category.tolist() == [1, 0, 2, 2, 3]


def test_reading_does_not_ask_how_objects_were_numbered() -> None:
    found = decode_label_divisor(np.array([[0, 2001, 2007], [3002, 1000, -1]], dtype=np.int32), SHAPES)
    assert found.ids.tolist() == [[1, 3, 4], [5, 2, 0]]
    assert found.category.tolist() == [0, 1, 2, 2, 3]
    assert found.crowd is None


@pytest.mark.parametrize("numbering", ["of_category", "of_image"])
@pytest.mark.parametrize("use_source_ids", [False, True])
def test_written_maps_are_read_back(numbering: str, use_source_ids: bool) -> None:
    for seed in range(3):
        panoptic = generated_map(seed, crowd=seed == 2)
        encoded = encode_label_divisor(panoptic, SHAPES, numbering=numbering, use_source_ids=use_source_ids)
        for values in (encoded, torch.from_numpy(encoded), encoded.astype(np.int32)):
            found = decode_label_divisor(values, SHAPES, use_source_ids=use_source_ids)
            assert torch.equal(found.semantic(void=-1), panoptic.semantic(void=-1))
            pairs = torch.unique(torch.stack([found.ids.flatten(), panoptic.ids.flatten()]), dim=1)
            if seed < 2:
                assert len(pairs[0].unique()) == len(pairs[1].unique()) == pairs.shape[1]
    assert panoptic.crowd is not None
    assert found.crowd is not None
    is_crowd, found_crowd = (torch.cat([torch.tensor([False]), m.crowd])[m.ids] for m in (panoptic, found))
    assert torch.equal(is_crowd, found_crowd)


def test_segments_that_the_format_cannot_distinguish() -> None:
    panoptic = a_map("ABCD", {"A": 0, "B": 0, "C": 2, "D": 2}, crowd="CD")
    assert encode_label_divisor(panoptic, SHAPES).tolist() == [[0, 0, 2000, 2000]]
    assert decode_label_divisor(np.array([[7, 0, 2000]]), SHAPES).ids.tolist() == [[1, 1, 2]]


def test_an_empty_map() -> None:
    assert encode_label_divisor(PanopticMap.empty((2, 3)), SHAPES, void=9).tolist() == [[9] * 3] * 2
    assert decode_label_divisor(np.full((2, 3), 9), SHAPES, void=9).equals(PanopticMap.empty((2, 3)))


def test_numbers_that_cannot_be() -> None:
    with pytest.raises(InvalidArgumentError, match="a divisor of 2 allows at most 1 objects"):
        encode_label_divisor(SCENE, SHAPES, divisor=2)
    with pytest.raises(
        InvalidArgumentError, match="void value that no segment has, got 0, which is a segment of 'sky'"
    ):
        encode_label_divisor(SCENE, SHAPES, void=0)
    with pytest.raises(InvalidArgumentError, match='numbering "of_category" or "of_image", got \'global\''):
        encode_label_divisor(SCENE, SHAPES, numbering="global")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"categories 0\.\.3 of label space 'shapes', got 4"):
        encode_label_divisor(a_map("A", {"A": 4}), SHAPES)
    with pytest.raises(InvalidAnnotationError, match="4 categories of 'shapes' times 1000, or -1 for void, got 255000"):
        decode_label_divisor(np.array([[0, 255_000]]), SHAPES)
    with pytest.raises(InvalidArgumentError, match=r"as integers \[H, W\], got float64 \[1, 1\]"):
        decode_label_divisor(np.array([[0.0]]), SHAPES)
    with pytest.raises(InvalidArgumentError, match="a divisor of at least 1, got 0"):
        decode_label_divisor(np.array([[0]]), SHAPES, divisor=0)
