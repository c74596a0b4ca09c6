from __future__ import annotations

import pytest

from panscape import Size
from panscape.errors import InvalidArgumentError
from panscape.geometry import (
    ImageGeometry,
    min_area_pixels,
    padded_size,
    require_fits,
    round_up,
    size_with_longest_side,
)


def test_size_is_height_then_width():
    assert Size(2, 3) == (2, 3)
    assert (Size(2, 3).height, Size(2, 3).width, Size(2, 3).area) == (2, 3, 6)


def test_round_up_is_the_smallest_multiple():
    for value in range(40):
        for multiple in range(1, 9):
            assert round_up(value, multiple) == next(m for m in range(0, 99, multiple) if m >= value)


def test_padded_size():
    assert padded_size((1024, 2048), 32) == (1024, 2048)
    assert padded_size((427, 640), 32) == (448, 640)
    assert padded_size((1, 33), 32) == (32, 64)


def test_sizes_that_do_not_fit_are_refused():
    for fits in ((1, 1), (16, 20), (16, 1)):
        require_fits(fits, (16, 20))
    for strange in ((17, 20), (16, 21), (0, 20), (16, 0), (-1, 5)):
        with pytest.raises(InvalidArgumentError, match=f"within the padded size 16x20, got {strange[0]}x{strange[1]}"):
            require_fits(strange, (16, 20))


def test_an_image_is_neither_resized_nor_padded_by_default():
    plain = ImageGeometry.of((30, 40))
    assert (plain.size, plain.inference_size, plain.padded_size) == ((30, 40), (30, 40), (30, 40))
    assert not plain.is_resized
    half = ImageGeometry.of((30, 40), (15, 20)).padded_to((32, 32))
    assert (half.size, half.inference_size, half.padded_size) == ((30, 40), (15, 20), (32, 32))
    assert half.is_resized
    assert half == ImageGeometry(Size(30, 40), Size(15, 20), Size(32, 32))
    assert isinstance(half.padded_size, Size)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((9, 9), (33, 40), (32, 40)), "within the padded size 32x40, got 33x40"),
        (((9, 9), (0, 40), (32, 40)), "within the padded size 32x40, got 0x40"),
        (((9, 0), (32, 40), (32, 40)), "images of at least 1x1 pixels, got 9x0"),
        (((0, 9), None, None), "images of at least 1x1 pixels, got 0x9"),
    ],
)
def test_impossible_geometries_are_refused(sizes, message):
    with pytest.raises(InvalidArgumentError, match=message):
        ImageGeometry.of(*sizes)


def test_a_share_is_taken_as_it_is_written():
    assert 0.07 * 100 > 7  # why it is not left to floats
    assert min_area_pixels(0.07, (10, 10)) == 7
    assert min_area_pixels(0.071, (10, 10)) == 8
    assert min_area_pixels(0.0, (10, 10)) == 0


def test_longest_side():
    assert size_with_longest_side((1024, 2048), 512) == (256, 512)
    assert size_with_longest_side((640, 427), 1024) == (1024, 683)
    assert size_with_longest_side((1, 1000), 10) == (1, 10)
    with pytest.raises(InvalidArgumentError, match="positive sizes, got 0x5 scaled to 10 pixels"):
        size_with_longest_side((0, 5), 10)


def test_a_geometry_at_the_images_size_scales_the_padding() -> None:
    geometry = ImageGeometry.of((600, 900), (200, 300), (224, 320))
    assert geometry.at_image_size() == ImageGeometry.of((600, 900), padded_size=(672, 960))
    odd = ImageGeometry.of((101, 77), (33, 25), (64, 32)).at_image_size()
    assert odd.padded_size == (196, 99)  # 195.9 and 98.6
    same = ImageGeometry.of((33, 25), padded_size=(64, 32))
    assert same.at_image_size() == same
