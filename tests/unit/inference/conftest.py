from __future__ import annotations

import pytest
from color_model import painted
from maps import generated_map

from panscape.images import save_png


@pytest.fixture
def photos(tmp_path):
    """A folder with three images of different widths."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        save_png(folder / f"{i}.png", painted(generated_map(i, (64, 96 + i))))
    return folder
