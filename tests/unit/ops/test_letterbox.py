from __future__ import annotations

import pytest
import torch

from panscape.errors import InvalidArgumentError
from panscape.ops.letterbox import Letterbox


@pytest.mark.parametrize(
    ("size", "input_size", "resized", "offset"),
    [
        ((480, 640), (416, 416), (312, 416), (52, 0)),
        ((640, 427), (416, 416), (416, 277), (0, 69)),  # 277.55 rounded down; 139 columns of grey, 69 of them left
        ((1024, 2048), (512, 1024), (512, 1024), (0, 0)),
        ((30, 20), (64, 96), (64, 42), (0, 27)),
        ((1, 5000), (320, 320), (1, 320), (159, 0)),
    ],
)
def test_an_image_keeps_its_aspect_ratio_and_is_centred(
    size: tuple[int, int], input_size: tuple[int, int], resized: tuple[int, int], offset: tuple[int, int]
) -> None:
    letterbox = Letterbox.of(size, input_size)
    assert (letterbox.resized, letterbox.offset) == (resized, offset)


def test_pixels_around_are_grey_and_corners_are_those_of_the_image() -> None:
    image = torch.rand(3, 30, 20, generator=torch.Generator().manual_seed(0))
    found = Letterbox.of((30, 20), (64, 96)).apply(image)
    assert found.shape == (3, 64, 96)
    assert (found[:, :, :27] == 0.5).all()
    assert (found[:, :, 69:] == 0.5).all()
    torch.testing.assert_close(found[:, [0, 0, -1, -1], [27, 68, 27, 68]], image[:, [0, 0, -1, -1], [0, -1, 0, -1]])
    # Aligned corners: position 10 of 42 columns lies at 10 * 19 / 41 of 20.
    at = 10 * 19 / 41
    left, share = int(at), at % 1
    torch.testing.assert_close(found[:, 0, 37], (1 - share) * image[:, 0, left] + share * image[:, 0, left + 1])


def test_boxes_return_to_the_image_and_are_clipped() -> None:
    letterbox = Letterbox.of((480, 640), (416, 416))
    boxes = torch.tensor([[0, 52, 416, 364], [104, 130, 208, 208], [-50, 0, 10, 62], [500, 400, 600, 410]]).float()
    expected = [[0, 0, 640, 480], [160, 120, 320, 240], [0, 0, 200 / 13, 200 / 13], [640, 480, 640, 480]]
    torch.testing.assert_close(letterbox.undo(boxes), torch.tensor(expected))


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"at least 1 pixel, got an image \(0, 5\)"):
        Letterbox.of((0, 5), (32, 32))
