from __future__ import annotations

import numpy as np
import pytest
from image_writers import file_of, png, ramp, tiff
from PIL import Image

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.images import find_bit_depth, load_image, to_image_tensor


def grey_file(tmp_path, values, name="image.png"):
    path = tmp_path / name
    Image.fromarray(np.array([values])).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    deep = np.array([0, 128, 129, 257, 32896, 65535], np.uint16)
    image = load_image(grey_file(tmp_path, deep, f"image.{suffix}"))
    assert image[0, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert np.array_equal(image[0], image[2])


@pytest.mark.parametrize(
    ("highest", "white"),
    [(200, 255), (255, 255), (256, 1023), (1023, 1023), (1024, 2047), (3000, 4095), (9000, 16383), (20000, 65535)],
)
def test_the_values_show_their_number_of_bits(tmp_path, highest, white):
    image = load_image(grey_file(tmp_path, np.array([0, highest // 3, highest], np.uint16)))
    assert image[1, 0].tolist() == [0, *(int(v * 255 / white + 0.5) for v in (highest // 3, highest))]


FILES = {
    "png": png,
    "tiff": tiff,
    "big-endian tiff": lambda pixels: tiff(pixels, order=">"),
    "compressed tiff": lambda pixels: tiff(pixels, compression=8),
    "compressed big-endian tiff": lambda pixels: tiff(pixels, compression=8, order=">"),
}


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
@pytest.mark.parametrize("highest", [1023, 4095, 65535])
def test_colors_are_read_at_full_depth(tmp_path, write, highest):
    pixels = ramp(5, 7, 3, highest)
    want = (pixels / highest * 255 + 0.5).astype(np.uint8)
    assert np.array_equal(load_image(file_of(tmp_path, write(pixels))), want.transpose(2, 0, 1))


def test_the_bit_depth_of_a_run_is_that_of_its_brightest_image(tmp_path, caplog):
    paths = [grey_file(tmp_path, np.array([0, v], np.uint16), f"{v}.png") for v in (300, 3000, 40)]
    paths += [grey_file(tmp_path, np.array([0, 9], np.uint8), "shallow.png"), tmp_path / "missing.png"]
    assert find_bit_depth(paths) == 12
    assert caplog.messages == [
        f"{paths[0]}: a file of 16 bits, of which the images use 8 (in 1), 10 (in 1), 12 (in 1): the value 4095 "
        "becomes white in all, unless --bit-depth (in training --data.bit-depth) gives another number (logged once; "
        "other files may be alike)"
    ]
    assert load_image(paths[0], bit_depth=12)[0, 0].tolist() == [0, 19]  # 300 / 4095 * 255 = 18.7
    assert load_image(paths[3], bit_depth=12)[0, 0].tolist() == [0, 9]
    assert find_bit_depth(paths[3:]) is None
    late = [paths[3]] * 18 + [paths[1], paths[3]]  # some of the last are read too
    assert find_bit_depth(late) == 12
    caplog.clear()
    deep = grey_file(tmp_path, np.array([0, 50000], np.uint16))
    assert find_bit_depth([deep]) == 16
    assert caplog.messages == []
    assert find_bit_depth([deep, paths[1], paths[1]]) == 16
    assert "of which the images use 12 (in 1), 16 (in 1): the value 65535 becomes white in all" in caplog.text


def test_values_above_the_given_bit_depth_are_clipped_with_a_note(tmp_path, caplog):
    path = grey_file(tmp_path, np.array([0, 1023, 2000], np.uint16))
    assert load_image(path, bit_depth=10)[0, 0].tolist() == [0, 255, 255]
    assert "exceed the 10 bits of the other images and are clipped; set --bit-depth" in caplog.text
    with pytest.raises(UnreadableFileError, match=r"bits of the other images, up to 2000; give all .* --bit-depth 11"):
        load_image(path, bit_depth=10, may_clip=False)
    for bits in (7, 17):
        with pytest.raises(InvalidArgumentError, match=f"a bit depth of 8 to 16, got {bits}"):
            load_image(path, bit_depth=bits)


def test_grey_of_thirty_two_bits_is_scaled_while_it_fits_sixteen(tmp_path):
    path = grey_file(tmp_path, np.array([0, 257, 65535], np.int32), "image.tif")
    assert load_image(path)[0, 0].tolist() == [0, 1, 255]
    too_deep = grey_file(tmp_path, np.array([0, 65536], np.int32), "deep.tif")
    with pytest.raises(
        UnreadableFileError, match=r"deep\.tif: expected grey values of 16 bits, 0\.\.65535, got 0\.\.65536"
    ):
        load_image(too_deep)


def test_floating_grey_is_refused():
    message = "expected an image of integers, got floating-point values of unknown range; save it with 8 or 16 bits"
    with pytest.raises(InvalidArgumentError) as caught:
        to_image_tensor(Image.fromarray(np.zeros((2, 2), np.float32)))
    assert str(caught.value) == message


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    bands = len(mode)
    pixels = np.zeros((1, 3, bands), np.uint8)
    pixels[0, :, : bands - 1] = 100
    pixels[0, :, bands - 1] = [0, 51, 255]  # 51 / 255 is a fifth
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    image = load_image(path)
    # 255, then 100 / 5 + 255 * 4 / 5 = 224, then 100
    assert image[0, 0].tolist() == pytest.approx([255, 224, 100], abs=1)
    assert np.array_equal(image[0], image[1])
    assert np.array_equal(image[0], image[2])


def test_grey_with_transparency_is_read_at_full_depth(tmp_path):
    grey, alpha = [0, 300, 1023, 300, 0], [65535, 65535, 65535, 0, 13107]  # the last is a fifth
    image = load_image(file_of(tmp_path, png(np.array([list(zip(grey, alpha, strict=True))], np.uint16)), "image.png"))
    assert image[:, 0].tolist() == [[0, 75, 255, 255, 204]] * 3  # 300 / 1023 * 255 = 74.8


@pytest.mark.parametrize("compression", [1, 8])
def test_a_negative_of_sixteen_bits_is_inverted(tmp_path, compression):
    grey = np.array([[[0], [257], [65535]]], np.uint16)
    path = file_of(tmp_path, tiff(grey, photometric=0, compression=compression))
    assert load_image(path)[1, 0].tolist() == [255, 254, 0]
    with Image.open(path) as image:
        assert to_image_tensor(image)[1, 0].tolist() == [255, 254, 0]


NEAR_INFRARED = np.array([[10, 90, 255], [120, 0, 200]])
NOWHERE_OPAQUE = np.array([[0, 0, 0], [0, 0, 254]])
CUT_OUT = np.array([[255, 255, 0], [0, 0, 100]])


@pytest.mark.parametrize(
    ("fourth", "is_transparency"), [(NEAR_INFRARED, False), (NOWHERE_OPAQUE, False), (CUT_OUT, True)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fourth_band_that_varies_is_no_transparency(tmp_path, caplog, fourth, is_transparency, dtype):
    factor = 257 if dtype == np.uint16 else 1
    pixels = np.dstack([ramp(2, 3, 3, 250, np.uint8), fourth]).astype(dtype)
    path = file_of(tmp_path, tiff(pixels * factor, extra=(2,)))  # 2: GDAL calls the fourth of four bands alpha
    image = load_image(path).numpy().transpose(1, 2, 0)
    if is_transparency:
        share = fourth[..., None] / 255
        assert np.abs(image - (pixels[..., :3] * share + 255 * (1 - share))).max() <= 1
        assert caplog.messages == []
    else:
        assert np.array_equal(image, pixels[..., :3])
        assert "its alpha band varies like a color or is nowhere opaque; it is not used as transp" in caplog.text
