"""mIoU of models for CamVid on photos of Cityscapes: how they do on streets and cameras that they have never seen.

::

    python benchmarks/unseen_photos.py CITYSCAPES MODEL...

``CITYSCAPES`` contains ``leftImg8bit`` and ``gtFine`` with ``*_labelIds.png``; photos without labels are left out.
Cityscapes' classes are grouped as CamVid groups its 32 classes in 11. Numbers are of maps, at the size of the photos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import panscape

GROUPS = {
    "sky": (23,),
    "building": (11, 12),  # wall
    "pole": (17,),
    "road": (7,),
    "pavement": (8,),
    "tree": (21, 22),  # terrain
    "sign": (19, 20),  # traffic lights
    "fence": (13,),
    "car": (26, 27, 28, 29, 30),  # trucks, buses, caravans, trailers
    "pedestrian": (24,),
    "bicyclist": (25, 32, 33),  # motorcycles, bicycles
}
_VOID = 255


def confusion(model: panscape.PanopticModel, root: Path) -> np.ndarray:
    """Return the pixels by category of the truth and of the map, whose last column is void."""
    table = np.full(256, _VOID)
    for i, category in enumerate(model.labels.categories):
        table[list(GROUPS.get(category.name, ()))] = i
    num = len(model.labels)
    counts = np.zeros((num, num + 1), np.int64)
    for photo in sorted((root / "leftImg8bit").rglob("*_leftImg8bit.png")):
        name = photo.name.replace("_leftImg8bit", "_gtFine_labelIds")
        for file in (root / "gtFine").rglob(name):
            truth = table[np.asarray(Image.open(file))]
            found = model.predict(photo).semantic(void=num).numpy()
            is_known = truth != _VOID
            pairs = truth[is_known] * (num + 1) + found[is_known]
            counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)
    return counts


def category_ious(counts: np.ndarray) -> np.ndarray:
    """Return the IoU of each category; nan for those without a pixel in the truth."""
    hits, total = np.diag(counts), counts.sum(1)
    union = total + counts[:, : len(hits)].sum(0) - hits
    return np.where(total > 0, hits / np.maximum(1, union), np.nan)


def mean_iou(counts: np.ndarray) -> float:
    """Return the mean IoU of the categories that the truth has."""
    return float(np.nanmean(category_ious(counts)))


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cityscapes", type=Path)
    parser.add_argument("models", nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        model = panscape.load(name)
        counts = confusion(model, options.cityscapes)
        parts = zip(model.labels.categories, category_ious(counts), strict=True)
        by_category = ", ".join(f"{category.name} {100 * iou:.1f}" for category, iou in parts if not np.isnan(iou))
        print(f"{name}: mIoU {100 * mean_iou(counts):.1f}; {by_category}")


if __name__ == "__main__":
    main()
