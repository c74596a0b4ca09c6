"""Sample images: the position of each cell, found by its color."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES, generated_map

from panscape.errors import InvalidArgumentError
from panscape.images import load_image
from panscape.panoptic import PanopticMap
from panscape.training.logging.sample_images import contact_sheet, draw_progress, save_progress
from panscape.visualize import category_colors


def plain(value: int, size=(40, 60)) -> torch.Tensor:
    return torch.full((3, *size), value, dtype=torch.uint8)


def of_one_category(category: int, size=(40, 60)) -> PanopticMap:
    return PanopticMap(torch.ones(size, dtype=torch.int32), torch.tensor([category]))


def where(sheet: torch.Tensor, color: tuple[int, int, int], at_least: int = 1) -> tuple[int, int, int, int]:
    """Top, left, bottom, right (half-open) of all pixels of a color."""
    y, x = torch.nonzero((sheet == torch.tensor(color, dtype=torch.uint8)[:, None, None]).all(0), as_tuple=True)
    assert len(y) >= at_least
    return int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1


def a_sheet(panels: int, size=(40, 60), longest_side=60) -> tuple[torch.Tensor, list[tuple[int, int, int, int]]]:
    """A sheet, and the boxes of its cells in order."""
    values = [20 + 10 * i for i in range(panels)]
    sheet = draw_progress(
        plain(10, size),
        of_one_category(0, size),
        of_one_category(1, size),
        {f"panel {v}": plain(v, size) for v in values},
        SHAPES,
        longest_side=longest_side,
    )
    drawn = category_colors(SHAPES).tolist()
    colors = [(10, 10, 10), drawn[0], drawn[1], *((v, v, v) for v in values)]
    return sheet, [where(sheet, color) for color in colors]


def test_everything_is_there_whole_and_in_reading_order():
    sheet, boxes = a_sheet(3)
    assert sheet.dtype == torch.uint8
    assert [(bottom - top, right - left) for top, left, bottom, right in boxes] == [(40, 60)] * 6
    image, truth, prediction, *panels = boxes
    assert image[0] == truth[0] == prediction[0]
    assert image[1] < truth[1] < prediction[1]
    assert [panel[1] for panel in panels] == [image[1], truth[1], prediction[1]]
    assert panels[0][0] == panels[1][0] == panels[2][0] > image[2]


@pytest.mark.parametrize(
    ("panels", "size", "columns"),
    [
        (0, (40, 60), 3),
        (1, (40, 40), 3),  # 3:2, not 4:1
        (1, (60, 20), 4),  # 4:3, not 1:2
        (3, (40, 40), 3),  # 3:2
        (3, (60, 20), 6),  # 2:1, not 1:2
        (3, (20, 60), 3),  # never fewer
        (4, (40, 40), 4),  # 4:2, not 3:3
        (6, (40, 40), 5),  # 5:2 misses 1.6 by less than 3:3
    ],
)
def test_rows_fit_a_screen_and_keep_truth_beside_prediction(panels, size, columns):
    _, boxes = a_sheet(panels, size)
    tops = [box[0] for box in boxes]
    assert tops.count(tops[0]) == columns


def test_large_images_are_made_smaller_before_names_are_drawn():
    size = (200, 600)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    truth = generated_map(0, size)
    small = draw_progress(image, truth, truth, {}, SHAPES, longest_side=300)
    by_torch = torch.nn.functional.interpolate(image[None].float(), (100, 300), mode="bilinear", antialias=True)[0]
    resized = truth.resize(100, 300)
    expected = draw_progress(by_torch.round().byte(), resized, resized, {}, SHAPES, longest_side=300)
    assert small.shape == expected.shape
    assert (small.int() - expected.int()).abs().max() <= 1


def test_small_images_are_shown_a_whole_number_of_times_as_large():
    _, boxes = a_sheet(1, (20, 30), longest_side=100)
    assert {(bottom - top, right - left) for top, left, bottom, right in boxes} == {(60, 90)}


def test_parts_of_different_sizes_are_refused():
    truth = of_one_category(0)
    with pytest.raises(InvalidArgumentError, match="of the image's size 40x60, got the prediction of 40x61"):
        draw_progress(plain(1), truth, of_one_category(0, (40, 61)), {}, SHAPES)
    with pytest.raises(InvalidArgumentError, match="got the panel 'semantic' of 10x15"):
        draw_progress(plain(1), truth, truth, {"semantic": plain(1, (10, 15))}, SHAPES)


def test_sheets_of_several_samples_lie_below_each_other():
    sheets = [plain(10), plain(30, (20, 50)), plain(90)]
    stacked = contact_sheet(sheets)
    boxes = [where(stacked, (v, v, v), at_least=s[0].numel()) for v, s in zip((10, 30, 90), sheets, strict=True)]
    assert boxes[0][2] <= boxes[1][0] < boxes[1][2] <= boxes[2][0]


def test_the_file_is_named_after_step_and_name_and_holds_the_image(tmp_path):
    image = torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    path = save_progress(tmp_path, 1200, "val", image)
    assert path == tmp_path / "images" / "step_00001200_val.png"
    assert torch.equal(load_image(path), image)
    save_progress(tmp_path, 1200, "val", image.flip(1))
    assert torch.equal(load_image(path), image.flip(1))
    assert [p.name for p in path.parent.iterdir()] == [path.name]
