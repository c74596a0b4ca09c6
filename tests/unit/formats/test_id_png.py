"""The PNG of ids: read back by Pillow, which verifies its checksums, and small."""

from __future__ import annotations

import io

import numpy as np
import pytest
from maps import generated_map
from PIL import Image

from panscape.formats import encode_coco
from panscape.formats.id_png import encode_id_png


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (64, 33)])
def test_any_values_are_read_back(size):
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    data = encode_id_png(rgb)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        assert np.array_equal(image, rgb)


def test_ids_take_less_than_with_a_general_encoder():
    rgb = encode_coco(generated_map(3, (480, 640)))[0].numpy()
    general = io.BytesIO()
    Image.fromarray(rgb).save(general, "PNG", compress_level=1)
    assert len(encode_id_png(rgb)) < 0.8 * len(general.getvalue())
