"""Make the images of the documentation: ``python docs/images/draw.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from panscape.datasets.town import Town
from panscape.representations.centers import CenterRepresentation
from panscape.visualize import draw, draw_heatmap, draw_offsets, draw_segments, make_grid
from panscape.zoo import load

SCENE = 17
README_SCENE = 6
HERE = Path(__file__).parent


def main() -> None:
    """Draw a scene of the town with its truth, its training targets, and a prediction."""
    labels = Town().labels
    sample = Town(SCENE + 1, size=(270, 480), view="street", seed=5)[SCENE]
    overlay = draw(sample.image, sample.truth, labels, names="none")
    save("town_map.jpg", [sample.image, overlay], ["an image", "its map, drawn over it"])

    targets = CenterRepresentation(sigma=6).encode(sample.truth, labels)
    images = {
        "image": sample.image,
        "truth": draw_segments(sample.truth, labels),
        "centres": draw_heatmap(targets.center),
        "directions of offsets": draw_offsets(targets.offset, mask=targets.offset_weight > 0),
        "weights of offsets": draw_heatmap(targets.offset_weight / 8),
        "weights of categories": draw_heatmap(targets.semantic_weight / 3),
    }
    save("town_targets.jpg", list(images.values()), list(images))

    scene = Town(README_SCENE + 1, size=(270, 480), view="street", seed=5)[README_SCENE]
    predicted = load("town").predict(scene.image)
    images = [scene.image, draw(scene.image, scene.truth, labels), draw(scene.image, predicted, labels)]
    save("readme.jpg", images, ["a drawn scene", "its truth", "what the bundled model makes of it"], columns=3)


def save(name: str, images: Sequence[Tensor], titles: Sequence[str], columns: int = 2) -> None:
    """Write images side by side as a JPEG, for they have the grain of photos."""
    sheet = make_grid(images, titles, columns=columns)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(HERE / name, quality=88, subsampling=0)


if __name__ == "__main__":
    main()
