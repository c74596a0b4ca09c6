"""Small datasets on disk in the layouts of the real ones, written without panscape's encoders, with the truth known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from maps import SHAPES, a_map
from PIL import ExifTags, Image

from panscape import LabelSpace, PanopticMap

# A and E are stuff, B and D objects of one thing category, C of another; objects touch no object of their category.
DRAWINGS = {
    "000001": "AAAAAA\nABADAC\nEEEDEC\nEEEE..",
    "000002": "AAAA\nACEE\n..EB",
    "000010": "EEEEE\nEBAAD",
}


@dataclass(frozen=True)
class Tree:
    """What was written.

    Attributes:
        labels: of the maps.
        truths: the map of each image, by name.
        colors: each image is of one colour, by name.
        images: paths, by name.
        annotations: paths, by name.
    """

    labels: LabelSpace
    truths: dict[str, PanopticMap]
    colors: dict[str, tuple[int, int, int]]
    images: dict[str, Path]
    annotations: dict[str, Path]


def drawn_truths(labels: LabelSpace, crowd: str = "") -> dict[str, PanopticMap]:
    """Draw the truths; every character is a square of 12 x 12 pixels, more than the smallest object of any dataset."""
    stuff, things = labels.stuff_ids, labels.thing_ids
    categories = {"A": stuff[0], "E": stuff[-1], "B": things[0], "D": things[0], "C": things[-1]}
    maps = {name: a_map(drawing, categories, crowd) for name, drawing in DRAWINGS.items()}
    return {name: m.resize(12 * m.size.height, 12 * m.size.width) for name, m in maps.items()}


def category_masks(root: Path, labels: LabelSpace = SHAPES, split: str = "train", void: int = 255) -> Tree:
    """images/SPLIT/NAME.jpg and labels/SPLIT/NAME.png with one category a pixel."""
    truths = drawn_truths(labels)

    def annotate(name: str, path: Path) -> None:
        numbers = np.full(truths[name].size, void, np.uint8)
        for category, mask in zip(truths[name].category, truths[name].masks(), strict=True):
            numbers[mask.numpy()] = labels[category].source_id
        Image.fromarray(numbers).save(path)

    return _written(
        labels, truths, annotate, lambda n: root / f"images/{split}/{n}.jpg", lambda n: root / f"labels/{split}/{n}.png"
    )


def cityscapes(root: Path, split: str = "train") -> Tree:
    """leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png and gtFine/SPLIT/CITY/NAME_gtFine_instanceIds.png; C is a crowd."""
    labels = LabelSpace.load("cityscapes")
    truths = {f"aachen_{name}_000019": truth for name, truth in drawn_truths(labels, crowd="C").items()}

    def annotate(name: str, path: Path) -> None:
        truth = truths[name]
        numbers = np.full(truth.size, 4, np.uint16)  # "static", none of the 19 categories
        for row, (category, mask) in enumerate(zip(truth.category, truth.masks(), strict=True)):
            is_object = labels[category].is_thing and not truth.crowd[row]
            source = labels[category].source_id
            numbers[mask.numpy()] = source * 1000 + row if is_object else source
        Image.fromarray(numbers).save(path)

    return _written(
        labels,
        truths,
        annotate,
        lambda n: root / f"leftImg8bit/{split}/aachen/{n}_leftImg8bit.png",
        lambda n: root / f"gtFine/{split}/aachen/{n}_gtFine_instanceIds.png",
    )


def idd(root: Path, split: str = "train") -> Tree:
    """leftImg8bit/SPLIT/DRIVE/NAME_leftImg8bit.jpg, gtFine/SPLIT/DRIVE/NAME_gtFine_polygons.json; C is a crowd.

    Drives have files of the same name. Stuff is painted square by square, objects over it as rectangles.
    """
    labels = LabelSpace.load("idd_26")
    truths = {f"{i}_frame{i // 2:04}": truth for i, truth in enumerate(drawn_truths(labels, crowd="C").values())}

    def annotate(name: str, path: Path) -> None:
        truth = truths[name]
        objects = [_polygon("ego vehicle", (0, 0, *truth.size))]
        for row in sorted(range(truth.num_segments), key=lambda row: labels[truth.category[row]].is_thing):
            category, (left, top, right, bottom) = labels[truth.category[row]], truth.boxes()[row].int().tolist()
            if category.is_thing:
                label = category.name + "group" * bool(truth.crowd is not None and truth.crowd[row])
                objects.append(_polygon(label, (top, left, bottom, right)))
                continue
            squares = [(y, x) for y in range(top, bottom, 12) for x in range(left, right, 12)]
            objects += [
                _polygon(category.name, (y, x, y + 12, x + 12)) for y, x in squares if truth.ids[y, x] == row + 1
            ]
        content = {"imgHeight": truth.size.height, "imgWidth": truth.size.width, "objects": objects}
        path.write_text(json.dumps(content))

    def place(kind: str, name: str, ending: str) -> Path:
        drive, _, frame = name.partition("_")
        return root / kind / split / drive / f"{frame}_{ending}"

    return _written(
        labels,
        truths,
        annotate,
        lambda n: place("leftImg8bit", n, "leftImg8bit.jpg"),
        lambda n: place("gtFine", n, "gtFine_polygons.json"),
    )


def ade20k(root: Path, split: str = "train", segments: str = "panoptic") -> Tree:
    """images, annotations and annotations_instance, each below {training,validation}/NAME.

    Objects cover stuff, and void is a thing of the semantic map that is no object.
    """
    panoptic, folder = LabelSpace.load("ade20k_150"), {"train": "training", "val": "validation"}[split]
    stuff_only = LabelSpace("ade20k_150_semantic", tuple(replace(c, is_thing=False) for c in panoptic))
    truths = {f"ADE_{split}_{name}": truth for name, truth in drawn_truths(panoptic).items()}
    first_stuff = panoptic.stuff_ids[0]

    def annotate(name: str, path: Path) -> None:
        truth = truths[name]
        semantic, objects = np.zeros(truth.size, np.uint8), np.zeros((*truth.size, 3), np.uint8)
        for row, (category, mask) in enumerate(zip(truth.category.tolist(), truth.masks().numpy(), strict=True)):
            is_object = segments == "panoptic" and panoptic[category].is_thing
            semantic[mask] = 1 + (first_stuff if is_object else category)
            if is_object:
                objects[mask] = 1 + panoptic.thing_ids.index(category), row + 1, 7
        semantic[(semantic == 0) & (segments == "panoptic")] = 1 + panoptic.thing_ids[3]  # of no object: void
        Image.fromarray(semantic).save(path)
        if segments == "panoptic":
            place = root / "annotations_instance" / folder / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(objects).save(place)

    return _written(
        panoptic if segments == "panoptic" else stuff_only,
        truths if segments == "panoptic" else {n: _united(truth) for n, truth in truths.items()},
        annotate,
        lambda n: root / f"images/{folder}/{n}.jpg",
        lambda n: root / f"annotations/{folder}/{n}.png",
    )


def _united(truth: PanopticMap) -> PanopticMap:
    """Return the map with one segment for each category."""
    category, segment = torch.unique(truth.category, return_inverse=True)
    table = torch.cat([torch.zeros(1, dtype=torch.int64), segment + 1]).int()
    return PanopticMap(table[truth.ids.long()], category)


def _polygon(label: str, box: tuple[int, int, int, int], deleted: int = 0) -> dict[str, object]:
    """Describe the pixels of a half-open box (top, left, bottom, right): outlines belong to polygons."""
    top, left, bottom, right = box
    corners = [[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]
    return {"label": label, "polygon": corners, "deleted": deleted, "draw": True, "verified": 0}


def coco_panoptic(
    root: Path,
    labels: LabelSpace = SHAPES,
    crowd: str = "C",
    *,
    json_path: str = "panoptic.json",
    pngs: str = "panoptic",
    images: str = "images",
) -> Tree:
    """panoptic.json, panoptic/NAME.png with ids of three bytes, and images/NAME.jpg."""
    truths = drawn_truths(labels, crowd)
    annotations: list[dict[str, object]] = []

    def annotate(name: str, path: Path) -> None:
        truth = truths[name]
        rgb = np.zeros((*truth.size, 3), np.uint8)
        segments = []
        for row, (category, mask) in enumerate(zip(truth.category, truth.masks(), strict=True)):
            rgb[mask.numpy()] = (row, 7 * row, 255 - row)
            segments.append(
                {
                    "id": row + 256 * 7 * row + 65536 * (255 - row),
                    "category_id": labels[category].source_id,
                    "iscrowd": int(truth.crowd is not None and bool(truth.crowd[row])),
                }
            )
        Image.fromarray(rgb).save(path)
        annotations.append({"image_id": int(name), "file_name": path.name, "segments_info": segments})

    tree = _written(labels, truths, annotate, lambda n: root / images / f"{n}.jpg", lambda n: root / pngs / f"{n}.png")
    content = {
        "images": [{"id": int(name), "file_name": f"{name}.jpg"} for name in truths],
        "annotations": annotations[::-1],  # nothing promises the same order
        "categories": [
            {"id": c.source_id, "name": c.name, "isthing": int(c.is_thing), "color": c.color} for c in labels
        ],
    }
    (root / json_path).write_text(json.dumps(content))
    return tree


def coco_2017(root: Path, split: str = "train", labels: LabelSpace = SHAPES, year: str = "2017") -> Tree:
    """annotations/panoptic_SPLIT2017.json, annotations/panoptic_SPLIT2017/NAME.png and SPLIT2017/NAME.jpg."""
    pngs = f"annotations/panoptic_{split}{year}"
    return coco_panoptic(root, labels, json_path=f"{pngs}.json", pngs=pngs, images=f"{split}{year}")


def coco_test(root: Path, split: str = "test-dev") -> Path:
    """TEST2017/NAME.jpg and annotations/image_info_SPLIT2017.json, without annotations; the path of the JSON."""
    images = []
    for name, truth in drawn_truths(LabelSpace.load("coco_panoptic")).items():
        write_image(root / f"test2017/{name}.jpg", truth.size, (0, 200, 100))
        size = {"height": truth.size.height, "width": truth.size.width}
        images.append({"id": int(name), "file_name": f"{name}.jpg", **size})
    path = root / f"annotations/image_info_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "person"}]}))
    return path


def bsb(root: Path, split: str = "train") -> Tree:
    """As COCO, without the year."""
    return coco_2017(root, split, year="")


def vistas(root: Path, split: str = "train", version: str = "") -> Tree:
    """training/images/NAME.jpg, training/panoptic/panoptic_2018.json and training/panoptic/NAME.png."""
    folder = {"train": "training", "val": "validation"}[split]
    pngs = f"{folder}/{version}/panoptic" if version else f"{folder}/panoptic"
    return coco_panoptic(root, json_path=f"{pngs}/panoptic_2018.json", pngs=pngs, images=f"{folder}/images")


def own_masks(root: Path, labels: LabelSpace = SHAPES) -> Tree:
    """Category masks, train and val, with categories.json; the tree of train."""
    category_masks(root, labels, "val")
    (root / "categories.json").write_text(json.dumps(labels.to_dict()))
    return category_masks(root, labels, "train")


def own_coco(root: Path) -> Tree:
    """COCO panoptic format, train and val; the tree of train."""
    bsb(root, "val")
    return bsb(root, "train")


def _written(
    labels: LabelSpace,
    truths: dict[str, PanopticMap],
    annotate: Callable[[str, Path], None],
    image_of: Callable[[str], Path],
    annotation_of: Callable[[str], Path],
) -> Tree:
    tree = Tree(
        labels,
        truths,
        {name: (50 * i, 200, 100) for i, name in enumerate(truths)},
        {name: image_of(name) for name in truths},
        {name: annotation_of(name) for name in truths},
    )
    for name, truth in truths.items():
        write_image(tree.images[name], truth.size, tree.colors[name])
        tree.annotations[name].parent.mkdir(parents=True, exist_ok=True)
        annotate(name, tree.annotations[name])
    return tree


def write_image(path: Path, size: tuple[int, int], color: tuple[int, int, int], orientation: int = 1) -> None:
    """Write an image of one colour; its EXIF orientation may not be 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation != 1:
        exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (size[1], size[0]), color).save(path, exif=exif)


def image_of_color(color: tuple[int, int, int], size: tuple[int, int]) -> torch.Tensor:
    """Return the image as a tensor."""
    return torch.tensor(color, dtype=torch.uint8)[:, None, None].expand(3, *size)
