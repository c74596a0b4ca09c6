from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from maps import SHAPES

from panscape import PanopticMap
from panscape.formats import decode_cityscapes, decode_coco, encode_cityscapes, encode_coco


@st.composite
def panoptic_maps(draw, one_segment_per_stuff=False):
    """Any map: void, unused descriptions, crowds, scores."""
    num_segments = draw(st.integers(0, 12))
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    ids = draw(arrays.arrays(np.int32, size, elements=st.integers(0, num_segments)))
    category = draw(st.lists(st.integers(0, len(SHAPES) - 1), min_size=num_segments, max_size=num_segments))
    crowd = draw(st.none() | st.lists(st.booleans(), min_size=num_segments, max_size=num_segments))
    score = draw(st.none() | st.lists(st.floats(0, 1, width=32), min_size=num_segments, max_size=num_segments))
    panoptic = PanopticMap(
        torch.from_numpy(ids),
        torch.tensor(category, dtype=torch.int64),
        None if score is None else torch.tensor(score, dtype=torch.float32),
        None if crowd is None else torch.tensor(crowd, dtype=torch.bool),
    )
    if not one_segment_per_stuff:
        return panoptic
    # Cityscapes represents objects, one crowd for each thing category, one segment for each stuff category.
    seen, keep, flags = set(), [], []
    for row, c in enumerate(category):
        is_crowd = bool(crowd and crowd[row]) and SHAPES[c].is_thing
        keep.append((c, is_crowd) not in seen)
        flags.append(is_crowd)
        if is_crowd or not SHAPES[c].is_thing:
            seen.add((c, is_crowd))
    whole = PanopticMap(panoptic.ids, panoptic.category, None, torch.tensor(flags, dtype=torch.bool))
    return whole.select(torch.tensor(keep, dtype=torch.bool))


@given(panoptic_maps())
def test_coco_gives_every_map_back(panoptic):
    back = decode_coco(*encode_coco(panoptic, SHAPES), SHAPES)
    assert back.equals(panoptic)
    if panoptic.score is not None and back.score is not None:
        assert torch.equal(back.score, panoptic.compact().score)
    assert (back.score is None) == (panoptic.score is None or back.num_segments == 0)


@given(panoptic_maps(one_segment_per_stuff=True))
def test_cityscapes_gives_every_map_back_that_it_can_hold(panoptic):
    assert decode_cityscapes(encode_cityscapes(panoptic, SHAPES), SHAPES).equals(panoptic)


@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_instance_ids_decode_to_the_category_of_each_pixel(values):
    panoptic = decode_cityscapes(values, SHAPES)
    source = np.where(values < 1000, values, values // 1000)
    known = SHAPES.id_of_source
    want = np.vectorize(lambda v: known.get(int(v), 255), otypes=[np.int64])(source)
    assert np.array_equal(panoptic.semantic(void=255).numpy(), want)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_any_colours_decode_to_their_ids(rgb):
    ids = rgb.astype(np.int64) @ [1, 256, 65536]
    segments = [{"id": int(i), "category_id": 7} for i in np.unique(ids) if i]
    panoptic = decode_coco(rgb, segments, SHAPES)
    numbers = np.array([0, *(s["id"] for s in segments)])
    assert np.array_equal(numbers[panoptic.ids.numpy()], ids)
