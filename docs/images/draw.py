"""Make the images of the documentation.

With photos: ``uv run --with scikit-image --with scikit-learn python docs/images/draw.py AERIAL CAMVID``, where AERIAL
has the aerial images in the layout of ``panscape.datasets.aerial``, and CAMVID those of ``panscape.datasets.camvid``,
of which no pixel is shown. Without them, only the synthetic scenes are drawn. The comparison with transformers needs
``--with transformers``; it is left out without it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from panscape import LabelSpace, PanopticMap
from panscape.datasets import PanopticDataset, aerial, camvid
from panscape.datasets.town import Town
from panscape.images import resize_images, to_image_tensor
from panscape.metrics import PanopticQuality
from panscape.postprocess import map_from_queries
from panscape.representations.centers import CenterRepresentation
from panscape.visualize import draw, draw_heatmap, draw_offsets, draw_segments, make_grid
from panscape.zoo import load

SCENE = 17
README_SCENE = 6
TILES = ("tile7_001", "tile7_005")  # of the held-out images with buildings, those with the highest and lowest PQ
WINDOWS = ((850, 650, 960, 1160), (900, 0, 960, 1160))  # top, left, height and width of what is shown of each
HERE = Path(__file__).parent


def main() -> None:
    """Draw a scene of the town with its truth, its training targets, and a prediction; then what photos show."""
    labels = Town().labels
    sample = Town(SCENE + 1, size=(270, 480), view="street", seed=5)[SCENE]
    overlay = draw(sample.image, sample.truth, labels, names="none")
    save("town_map.jpg", [sample.image, overlay], ["an image", "its map, drawn over it"])

    targets = CenterRepresentation(sigma=6).encode(sample.truth, labels)
    images = {
        "image": sample.image,
        "ground truth": draw_segments(sample.truth, labels),
        "centres": draw_heatmap(targets.center),
        "directions of offsets": draw_offsets(targets.offset, mask=targets.offset_weight > 0),
        "weights of offsets": draw_heatmap(targets.offset_weight / 8),
        "weights of categories": draw_heatmap(targets.semantic_weight / 3),
    }
    save("town_targets.jpg", list(images.values()), list(images))

    scene = Town(README_SCENE + 1, size=(270, 480), view="street", seed=5)[README_SCENE]
    predicted = load("town").predict(scene.image)
    images = [scene.image, draw(scene.image, scene.truth, labels), draw(scene.image, predicted, labels)]
    save("readme.jpg", images, ["synthetic scene", "ground truth", "prediction of the model town"], columns=3)
    if importlib.util.find_spec("transformers"):
        draw_queries()
    if len(sys.argv) > 1:
        draw_aerial(aerial(sys.argv[1], "val"))
        draw_street()
        draw_errors(camvid(sys.argv[2], "val"))


def draw_queries() -> None:
    """Merge the logits of a perfect network with transformers and with panscape, alone and in a padded batch."""
    from transformers import Mask2FormerImageProcessor

    dataset = Town(SCENE + 1, size=(270, 480), view="street", seed=5)
    sample, labels = dataset[SCENE], dataset.labels
    truth = replace(sample.truth, labels=labels)
    category_logits = 9.0 * F.one_hot(truth.category, len(labels) + 1)
    images, titles = [], []
    for where, padded_size in (("alone", (272, 480)), ("in a batch", (480, 480))):
        masks = F.pad(truth.masks().float(), (0, 0, 0, padded_size[0] - truth.size.height))
        mask_logits = 16 * F.avg_pool2d(masks, 4) - 8
        (theirs,) = Mask2FormerImageProcessor().post_process_panoptic_segmentation(
            SimpleNamespace(class_queries_logits=category_logits[None], masks_queries_logits=mask_logits[None]),
            threshold=0.8,
            target_sizes=[truth.size],
            label_ids_to_fuse=set(labels.stuff_ids),
        )
        ours = map_from_queries(
            category_logits, mask_logits, truth.size, rule="mask2former", labels=labels, padded_size=padded_size
        )
        images.append(draw(sample.image, truth, names="none"))
        titles.append(f"ground truth, {where}")
        for name, found in (("transformers", PanopticMap.from_transformers(theirs, labels)), ("panscape", ours)):
            quality = PanopticQuality(labels)
            quality.update(found, truth)
            images.append(draw(sample.image, found, names="none"))
            titles.append(f"{name}, PQ {100 * quality.compute().all.pq:.1f}")
    print(titles)
    save("other_networks.jpg", images, titles, columns=3)


def draw_aerial(dataset: PanopticDataset) -> None:
    """Draw windows of held-out satellite images with their prediction, and the PQ of the whole images."""
    model, samples = load("aerial"), {s.name: s for s in (dataset[index] for index in range(len(dataset)))}
    for name, window, file in zip(TILES, WINDOWS, ("aerial_best.jpg", "aerial_worst.jpg"), strict=True):
        sample = samples[name]
        predicted = model.predict(sample.image)
        quality = PanopticQuality(model.labels)
        quality.update(predicted, sample.truth)
        top, left, height, width = window
        image = sample.image[:, top : top + height, left : left + width]
        overlay = over_half(image, predicted.crop(*window).compact(), model.labels)
        save(file, [half(image), overlay], ["photo", f"prediction, PQ {100 * quality.compute().all.pq:.0f}"])


def half(image: Tensor) -> Tensor:
    """Return an image at half its size."""
    size = (image.shape[1] // 2, image.shape[2] // 2)
    return resize_images(image[None] / 255, size)[0].mul(255).round().byte()


def over_half(image: Tensor, result: PanopticMap, labels: LabelSpace) -> Tensor:
    """Return a map drawn over its image at half their size."""
    small = half(image)
    return draw(small, result.resize(*small.shape[1:]).compact(), labels)


def draw_street() -> None:
    """Draw what the model of street scenes predicts for photos that are none."""
    from skimage.data import chelsea
    from sklearn.datasets import load_sample_image

    model = load("street")
    photos = [np.array(load_sample_image("china.jpg")), chelsea()[:, :, :3]]
    images = []
    for photo in photos:
        image = to_image_tensor(photo)
        images += [image, draw(image, model.predict(image), model.labels)]
    save("street_elsewhere.jpg", images, ["a pagoda", "prediction", "a cat", "prediction"])


def draw_errors(dataset: PanopticDataset) -> None:
    """Draw the maps of the model of street scenes with the highest and lowest PQ, and their wrong pixels."""
    model, found = load("street"), []
    for sample in (dataset[index] for index in range(len(dataset))):
        predicted, quality = model.predict(sample.image), PanopticQuality(model.labels)
        quality.update(predicted, sample.truth)
        found.append((100 * quality.compute().all.pq, sample.name, predicted, sample.truth))
    found.sort(key=lambda entry: entry[0])
    images, titles = [], []
    for pq, name, predicted, truth in (found[-1], found[0]):
        known = truth.semantic(void=-1)
        wrong = (known >= 0) & (predicted.semantic(void=-1) != known)
        colors = torch.tensor([[225, 225, 225], [200, 30, 30], [0, 0, 0]], dtype=torch.uint8)
        errors = colors[torch.where(known < 0, 2, wrong.long())].permute(2, 0, 1)
        images += [draw_segments(predicted, model.labels, names="category"), errors]
        titles += [f"{name}, PQ {pq:.0f}", "right, wrong (red), unlabelled (black)"]
    save("street_best_worst.jpg", images, titles)


def save(name: str, images: Sequence[Tensor], titles: Sequence[str], columns: int = 2) -> None:
    """Write images side by side as a JPEG, for they have the grain of photos."""
    sheet = make_grid(images, titles, columns=columns)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(HERE / name, quality=88, subsampling=0)


if __name__ == "__main__":
    main()
