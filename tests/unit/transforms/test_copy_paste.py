"""Copy-paste: results by hand on drawn maps, and invariants on generated ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from maps import SHAPES, a_map, generated_map
from torch import Generator, Tensor

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.transforms import CopyPaste

ALL_IN_PLACE = CopyPaste((2, 3), share=(1, 1), flip=0, shift=0, min_area=1, soften=False)
"""Pastes every object at its own position, with hard edges."""

CATEGORIES = {"S": 0, "G": 1, "a": 2, "b": 3, "c": 2, "d": 3, "e": 3}


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def flat(truth: PanopticMap, color: int) -> Tensor:
    return torch.full((3, *truth.size), color, dtype=torch.uint8)


def noise(seed: int, size: tuple[int, int] = (96, 128)) -> Tensor:
    return torch.randint(0, 256, (3, *size), generator=seeded(seed), dtype=torch.uint8)


def paste(transform: CopyPaste, below: PanopticMap, above: PanopticMap, seed: int = 0) -> tuple[Tensor, PanopticMap]:
    return transform(flat(below, 10), below, flat(above, 210), above, seeded(seed))


def test_objects_lie_on_top_and_stuff_is_left_behind() -> None:
    below = a_map("SSSS\naaGG\naaGG", CATEGORIES)
    above = a_map("GGGG\nGbb.\nGGGc", CATEGORIES)
    image, truth = paste(ALL_IN_PLACE, below, above)
    assert truth.equals(a_map("SSSS\nabbG\naaGc", CATEGORIES))
    assert image.eq(210).all(0).tolist() == [[False] * 4, [False, True, True, False], [False] * 3 + [True]]
    assert image[:, 0].eq(10).all()


def test_completely_covered_segments_are_removed_and_ids_stay_dense() -> None:
    below = a_map("aaSS\nbbSS", CATEGORIES)
    image, truth = paste(ALL_IN_PLACE, below, a_map("cc..\n....", CATEGORIES))
    assert truth.equals(a_map("ccSS\nbbSS", CATEGORIES))
    assert truth.num_segments == 3
    assert sorted(truth.ids.unique().tolist()) == [1, 2, 3]
    assert image.eq(210).sum() == 6


def test_specks_of_objects_become_void_but_not_of_stuff_or_of_what_was_not_covered() -> None:
    below = a_map("aaaS\nSSSS\nbSSS\nGGGG", CATEGORIES)
    above = a_map("cc..\ndddd\n....\nddd.", CATEGORIES)
    transform = CopyPaste((2, 3), share=(1, 1), flip=0, shift=0, min_area=2, soften=False)
    _, truth = paste(transform, below, above)
    # Of a one pixel is left of three; b had one before; of the ground one is left, and stuff has no smallest area.
    assert truth.equals(a_map("cc.S\ndddd\nbSSS\ndddG", CATEGORIES))


def test_small_objects_and_crowds_are_not_pasted_and_flags_are_kept() -> None:
    below = a_map("aaSS\naaSS", CATEGORIES, crowd="a")
    above = a_map("bb.c\nbb.d", CATEGORIES, crowd="d")
    transform = CopyPaste((2, 3), share=(1, 1), flip=0, shift=0, min_area=2, soften=False)
    _, truth = paste(transform, below, above)
    assert truth.equals(a_map("bbSS\nbbSS", CATEGORIES, crowd=" "))
    above = a_map("b..c\nb..d", CATEGORIES, crowd="d")
    _, truth = paste(ALL_IN_PLACE, below, above)
    assert truth.equals(a_map("baSc\nbaSS", CATEGORIES, crowd="a"))
    _, truth = paste(ALL_IN_PLACE, a_map("aaSS\naaSS", CATEGORIES), above)
    assert truth.equals(a_map("baSc\nbaSS", CATEGORIES))


@pytest.mark.parametrize("above", ["SSG.", "....", "aaGG"])
def test_without_an_object_to_paste_both_are_returned_as_they_are(above: str) -> None:
    below, other = a_map("SSab", CATEGORIES), a_map(above, CATEGORIES, crowd="a" if "a" in above else "")
    image = flat(below, 10)
    assert ALL_IN_PLACE(image, below, flat(other, 210), other, seeded(0)) == (image, below)


def test_flip_and_shift_move_image_and_truth_alike() -> None:
    below = a_map("\n".join(["S" * 9] * 8), CATEGORIES)
    above = a_map("\n".join(["." * 9] * 3 + ["...ab....", "...aa...."] + ["." * 9] * 3), CATEGORIES)
    other = noise(1, (8, 9))
    seen = set()
    transform = CopyPaste((2, 3), share=(1, 1), flip=0.5, shift=0.25, min_area=1, soften=False)
    for seed in range(200):
        image, truth = transform(flat(below, 10), below, other, above, seeded(seed))
        y, x = (truth.semantic(void=-1) >= 2).nonzero().T
        top, left = int(y.min()), int(x.min())
        flipped = truth.semantic(void=-1)[top, left] == 3
        window = other[:, 3:5, 3:5].flip(2) if flipped else other[:, 3:5, 3:5]
        assert torch.equal(image[:, top : top + 2, left : left + 2], window)
        assert image.ne(10).any(0).sum() <= 4
        seen.add((top, left - 1 if flipped else left))
    assert seen == {(y, x) for y in range(1, 6) for x in range(1, 6)}  # two rows and columns to each side


def test_objects_cut_off_by_the_border_stay_at_the_border() -> None:
    below = a_map("\n".join(["S" * 8] * 8), CATEGORIES)
    above = a_map("\n".join(["...aa..."] * 2 + ["." * 8] * 6), CATEGORIES)
    transform = CopyPaste((2, 3), share=(1, 1), flip=0.5, shift=0.25, min_area=1)
    heights = set()
    for seed in range(60):
        _, truth = paste(transform, below, above, seed)
        thing = truth.semantic(void=-1) == 2
        heights.add(int(thing.any(1).sum()))
        assert thing[0].any() or not thing.any()
    assert heights == {0, 1, 2}


def test_how_many_objects_are_taken() -> None:
    below = a_map("S" * 10, CATEGORIES)
    letters = "abcdefghij"
    above = a_map(letters, dict.fromkeys(letters, 2))

    def numbers(**settings: object) -> set[int]:
        transform = CopyPaste((2,), flip=0, shift=0, min_area=1, soften=False, **settings)  # type: ignore[arg-type]
        return {int((paste(transform, below, above, seed)[1].category == 2).sum()) for seed in range(150)}

    assert numbers() == set(range(1, 11))
    assert numbers(share=(0.3, 0.5)) == {3, 4, 5}
    assert numbers(share=(0, 0)) == {1}
    assert numbers(max_objects=4) == {1, 2, 3, 4}


def test_every_object_is_taken_equally_often() -> None:
    below, above = a_map("SSSS", CATEGORIES), a_map("abcd", dict.fromkeys("abcd", 2))
    transform = CopyPaste((2,), share=(0.5, 0.5), flip=0, shift=0, min_area=1)
    taken = sum((paste(transform, below, above, seed)[1].semantic(void=-1) == 2).int() for seed in range(200))
    assert torch.as_tensor(taken).div(200).sub(0.5).abs().max() < 0.1


@pytest.mark.parametrize("soften", [False, True])
def test_nothing_changes_outside_of_what_is_pasted(soften: bool) -> None:
    transform = CopyPaste(SHAPES.thing_ids, soften=soften)
    changed = 0
    for seed in range(30):
        below, above = generated_map(seed, crowd=seed % 2 == 0), generated_map(seed + 100, crowd=seed % 3 == 0)
        image, other = noise(seed), noise(seed + 100)
        before = (image.clone(), below.ids.clone(), other.clone(), above.ids.clone())
        result, truth = transform(image, below, other, above, seeded(seed))
        assert all(map(torch.equal, before, (image, below.ids, other, above.ids)))  # inputs are left as they were
        assert (truth.areas() > 0).all()
        # Pasted are the last segments. Below them a pixel is what it was, or has become void with its whole segment.
        shown = torch.where(truth.ids > 0, truth.ids - 1, 0).long()
        new = (result != image).any(0)
        pasted = torch.isin(shown, shown[new].unique()) & (truth.ids > 0)
        same = truth.semantic(void=-1) == below.semantic(void=-1)
        assert (same | pasted | (truth.ids == 0))[~new].all()
        changed += int(new.any())
        lost = (truth.ids == 0) & (below.ids > 0)
        assert not new[lost].any()
    assert changed > 20


def test_soft_edges_mix_only_the_outermost_pixel_and_a_half_at_most() -> None:
    below = a_map("\n".join(["S" * 7] * 6), CATEGORIES)
    above = a_map("......b\n.aaaa.b\n.aaaa.b\n.aaaa.b\n......b\n..a...b", CATEGORIES)
    soft = CopyPaste((2, 3), share=(1, 1), flip=0, shift=0, min_area=1)
    image, truth = soft(flat(below, 10), below, flat(above, 190), above, seeded(0))
    h, c, e, m = 100, 100, 130, 190  # a half; corners, 4/9 raised to a half; 6/9, and a line on the border; the middle
    assert truth.semantic(void=-1)[1:4, 1:5].eq(2).all()
    assert image[0].tolist() == [
        [10, 10, 10, 10, 10, 10, e],
        [10, c, e, e, c, 10, e],
        [10, e, m, m, e, 10, e],
        [10, c, e, e, c, 10, e],
        [10, 10, 10, 10, 10, 10, e],
        [10, 10, h, 10, 10, 10, e],
    ]
    hard, _ = ALL_IN_PLACE(flat(below, 10), below, flat(above, 190), above, seeded(0))
    assert hard.unique().tolist() == [10, 190]


def test_a_segment_that_fills_the_image_has_no_edge() -> None:
    below, above = a_map("SSS\nSSS", CATEGORIES), a_map("aab\naab", CATEGORIES)
    soft = CopyPaste((2, 3), share=(1, 1), flip=0, shift=0, min_area=1)
    assert paste(soft, below, above)[0].eq(210).all()


def test_the_seed_decides_everything() -> None:
    below, above = generated_map(1), generated_map(2)
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        results.append(CopyPaste(SHAPES.thing_ids)(noise(1), below, noise(2), above, seeded(3)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1].ids, results[1][1].ids)
    others = [CopyPaste(SHAPES.thing_ids)(noise(1), below, noise(2), above, seeded(seed))[0] for seed in range(4)]
    assert any(not torch.equal(other, results[0][0]) for other in others)


def test_images_of_different_sizes() -> None:
    with pytest.raises(InvalidArgumentError, match="same size, got 1x2 and 1x3; crop both"):
        paste(ALL_IN_PLACE, a_map("SS"), a_map("SSS"))
    truth = a_map("SS")
    with pytest.raises(InvalidArgumentError, match="an image of 1x3 and a ground truth of 1x2"):
        ALL_IN_PLACE(flat(truth, 0), truth, torch.zeros(3, 1, 3, dtype=torch.uint8), truth, seeded(0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CopyPaste((1,), 1.5), "probability in 0..1, got 1.5"),
        (lambda: CopyPaste((1,), flip=-1), "in 0..1, got -1"),
        (lambda: CopyPaste((1,), share=(0.5, 0.2)), r"a share as \(low, high\), got \(0.5, 0.2\)"),
        (lambda: CopyPaste((1,), share=(0.5, 2)), r"share\[1\] in 0\.\.1, got 2"),
        (lambda: CopyPaste((1,), max_objects=0), "max_objects of 1 or more, got 0"),
        (lambda: CopyPaste((1,), shift=1.1), "shift in 0..1"),
    ],
)
def test_settings_that_make_no_sense(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        build()
