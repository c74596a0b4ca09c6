"""Make the pictures of the documentation: ``python docs/images/draw.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from panscape.datasets.town import Town
from panscape.representations.centers import CenterRepresentation
from panscape.visualize import draw, draw_heatmap, draw_offsets, draw_segments, side_by_side

SCENE = 17
HERE = Path(__file__).parent


def main() -> None:
    """Draw a scene of the town with its truth, and its training targets."""
    labels = Town().labels
    sample = Town(SCENE + 1, size=(270, 480), view="street", seed=5)[SCENE]
    overlay = draw(sample.image, sample.truth, labels, names=False)
    save("town_map.jpg", [sample.image, overlay], ["a picture", "its map, drawn over it"])

    targets = CenterRepresentation(sigma=6).encode(sample.truth, labels)
    pictures = {
        "picture": sample.image,
        "truth": draw_segments(sample.truth, labels),
        "centres": draw_heatmap(targets.center),
        "directions of offsets": draw_offsets(targets.offset, mask=targets.offset_weight > 0),
        "weights of offsets": draw_heatmap(targets.offset_weight / 8),
        "weights of categories": draw_heatmap(targets.semantic_weight / 3),
    }
    save("town_targets.jpg", list(pictures.values()), list(pictures))


def save(name: str, pictures: Sequence[Tensor], titles: Sequence[str]) -> None:
    """Write pictures in two columns as a JPEG, for they have the grain of photos."""
    sheet = side_by_side(pictures, titles, columns=2)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(HERE / name, quality=88, subsampling=0)


if __name__ == "__main__":
    main()
