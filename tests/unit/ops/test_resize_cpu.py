"""Images resized by the compiled kernel are those of torch's anti-aliased interpolation in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from panscape.ops.resize_cpu import resized_pixels

sides = st.one_of(st.integers(1, 12), st.integers(1, 90))


def noise(*size: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (3, *size), np.uint8)


def in_double(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float64]:
    if size[1] == 1 < size[0]:  # torch 2.15 takes wrong rows for a result of one column, but not for one of one row
        return in_double(image.swapaxes(1, 2), (1, size[0])).swapaxes(1, 2)
    values = torch.from_numpy(image)[None].double() / 255
    resized: NDArray[np.float64] = F.interpolate(values, size, mode="bilinear", antialias=True)[0].numpy()
    return resized


@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_it_is_the_interpolation_of_torch(height: int, width: int, rows: int, columns: int, seed: int) -> None:
    image = noise(height, width, seed=seed)
    found = resized_pixels(image, (rows, columns))
    assert found.shape == (3, rows, columns)
    np.testing.assert_allclose(found, in_double(image, (rows, columns)), rtol=0, atol=4e-7)


@pytest.mark.parametrize(
    ("own_size", "size"),
    [((300, 480), (200, 320)), ((200, 640), (200, 320)), ((300, 40), (900, 40)), ((1, 2000), (1, 3)), ((1, 1), (9, 5))],
)
def test_it_is_as_near_to_double_precision_as_torch_is(own_size: tuple[int, int], size: tuple[int, int]) -> None:
    image = noise(*own_size)
    exact, found = in_double(image, size), resized_pixels(image, size)
    single = F.interpolate(torch.from_numpy(image)[None].float() / 255, size, mode="bilinear", antialias=True)[0]
    assert np.abs(found - exact).max() < np.abs(single.numpy() - exact).max() + 2e-7


def test_weights_by_hand() -> None:
    image = np.repeat(np.array([[[0, 30, 60, 255]]], np.uint8), 3, axis=0)
    # Half the pixels: each output weights 0.75, 0.75 and 0.25 within two pixels of its position, 1 and 3.
    halves = [(0.75 * 0 + 0.75 * 30 + 0.25 * 60) / 1.75, (0.25 * 30 + 0.75 * 60 + 0.75 * 255) / 1.75]
    np.testing.assert_allclose(resized_pixels(image, (1, 2)), np.array([[halves]] * 3) / 255, rtol=0, atol=1e-7)
    # Twice the pixels: a quarter of the way to the neighbour; those at the edges are repeated.
    doubled = [0, 7.5, 22.5, 37.5, 52.5, 108.75, 206.25, 255]
    np.testing.assert_allclose(resized_pixels(image, (1, 8)), np.array([[doubled]] * 3) / 255, rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", [(37, 90), (200, 31), (161, 230)])
def test_pillow_rounds_the_same_values(size: tuple[int, int]) -> None:
    image = noise(120, 161, seed=1)
    photo = Image.fromarray(image.transpose(1, 2, 0)).resize(size[::-1], Image.Resampling.BILINEAR)
    # Pillow rounds to bytes twice, after each axis.
    assert np.abs(255 * resized_pixels(image, size) - np.asarray(photo).transpose(2, 0, 1)).max() < 1.01


def test_at_its_own_size_an_image_is_divided_as_in_torch() -> None:
    image = np.arange(3 * 256, dtype=np.uint8).reshape(3, 16, 16)
    found = resized_pixels(image, (16, 16))
    assert found.dtype == np.float32
    assert np.array_equal(found, (torch.from_numpy(image).float() / 255).numpy())


def test_white_stays_in_the_range_of_the_network() -> None:
    white = np.full((3, 97, 131), 255, np.uint8)
    for size in ((31, 44), (200, 301), (96, 131)):
        found = resized_pixels(white, size)
        assert 1 - 4e-7 < found.min() <= found.max() <= 1
    assert not resized_pixels(np.zeros_like(white), (31, 44)).any()


def test_the_order_of_axes_in_memory_does_not_matter() -> None:
    image = noise(40, 50)
    stored_by_pixel = np.ascontiguousarray(image.transpose(1, 2, 0)).transpose(2, 0, 1)
    read_only = image.copy()
    read_only.flags.writeable = False
    for same in (stored_by_pixel, read_only, image[:, ::-1][:, ::-1]):
        assert np.array_equal(resized_pixels(same, (13, 60)), resized_pixels(image, (13, 60)))
