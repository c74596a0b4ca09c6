"""Datasets in COCO panoptic format: COCO itself, Mapillary Vistas, and exports of panscape.

Source: the COCO data format, section "Panoptic Segmentation" (https://cocodataset.org/#format-data).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from panscape.datasets.base import Sample
from panscape.datasets.file_pairs import Pair, checked_sample
from panscape.datasets.splits import ImageFile, Splits
from panscape.errors import InvalidAnnotationError, UnreadableFileError
from panscape.formats import decode_coco, labels_from_coco, load_coco_json, load_coco_png
from panscape.geometry import Size
from panscape.images import load_image
from panscape.labels import LabelSpace

_TEST = "its annotations are not public"
COCO_SPLITS = Splits(
    "COCO",
    ("train", "val"),
    {"test": _TEST, "test-dev": _TEST},
    {"train2017": "train", "val2017": "val", "test2017": "test", "test-dev2017": "test-dev"},
    has_benchmark=True,
)
"""The splits of the published dataset, those of 2017."""


def coco_images(root: str | os.PathLike[str], split: str) -> list[ImageFile]:
    """Return the images of a split of COCO, with or without ground truth, in the order of the JSON.

    ::

        ROOT/annotations/panoptic_{train,val}2017.json  or image_info_{test,test-dev}2017.json
        ROOT/{train,val,test}2017/NAME.jpg              test-dev is a subset of test2017

    Raises:
        InvalidArgumentError: the split does not exist.
        UnreadableFileError: the JSON or an image listed in it is missing.
        InvalidAnnotationError: the JSON lists no images, or contradicts itself.
    """
    split = COCO_SPLITS.require(split)
    kind = "image_info" if split in COCO_SPLITS.without_truth else "panoptic"
    return listed_images(
        Path(root) / "annotations" / f"{kind}_{split}2017.json", Path(root) / f"{split.removesuffix('-dev')}2017"
    )


def listed_images(json_path: Path, folder: Path) -> list[ImageFile]:
    """Return the images listed in a COCO JSON, with or without annotations, in its order.

    Their names are the stems of their files.

    Raises:
        UnreadableFileError: the JSON or an image listed in it is missing.
        InvalidAnnotationError: the JSON lists no images, or contradicts itself.
    """
    try:
        content = json.loads(json_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UnreadableFileError(json_path, "no such file; expected the JSON that lists the images") from error
    except (OSError, ValueError) as error:
        raise UnreadableFileError(json_path, f"expected images as JSON, but {error}") from error
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise InvalidAnnotationError(f"{json_path}: expected 'images' with id and file_name each, found none")
    found = []
    for image_id, file_name in _named_images(images, json_path).items():
        path = folder / file_name
        if not path.is_file():
            raise UnreadableFileError(path, f"no such file, but {json_path} lists it; check the folder")
        found.append(ImageFile(path.stem, path, image_id=image_id))
    sizes = [Size(i["height"], i["width"]) if "height" in i and "width" in i else None for i in images]
    return [file._replace(size=size) for file, size in zip(found, sizes, strict=True)]


def _named_images(images: list[Any], json_path: Path) -> dict[int | str, str]:
    """Return the file names of the images by their ids."""
    named: dict[int | str, str] = {}
    for image in images:
        if not isinstance(image, dict) or "id" not in image or "file_name" not in image:
            raise InvalidAnnotationError(f"{json_path}: expected id and file_name of every image, got {image}")
        if image["id"] in named:
            raise InvalidAnnotationError(
                f"{json_path}: expected one image for each id, got two for {image['id']!r}; remove one"
            )
        named[image["id"]] = image["file_name"]
    return named


class CocoPanoptic:
    """Images with annotations in COCO panoptic format, in the order of the JSON's ``images``.

    The JSON defines the dataset; other files of the two folders are ignored.

    Args:
        json_path: with ``images`` and ``annotations``, for example ``panoptic_val2017.json``.
        annotations: the folder of the PNGs listed in the JSON.
        images: the folder of the images listed in the JSON.
        labels: the categories; by default, those listed in the JSON, in its order. If they are COCO's own 133, the
            bundled label space ``"coco_panoptic"`` is used, whose name selects the published settings of models.

    Raises:
        UnreadableFileError: the JSON or a file listed in it is missing, or the dataset is empty; on access, a file is
            damaged.
        InvalidAnnotationError: the JSON contradicts itself, or two images have one name; on access, image, PNG and
            description contradict each other.
    """

    def __init__(
        self,
        json_path: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        images: str | os.PathLike[str],
        labels: LabelSpace | None = None,
    ) -> None:
        self.json_path = Path(json_path)
        content = load_coco_json(self.json_path)
        self.labels = labels or self._listed_labels(content)
        described = self._annotations_by_image(content)
        self._pairs: list[Pair] = []
        # As text: worker processes copy every Python object that they access, and COCO has millions of them.
        self._segments: list[bytes] = []
        for image_id, file_name in _named_images(content.get("images", []), self.json_path).items():
            if image_id not in described:
                raise InvalidAnnotationError(
                    f"{self.json_path}: expected an annotation of image {image_id!r} ({file_name}), found none; "
                    "add it, or remove the image"
                )
            annotation = described.pop(image_id)
            # Images in several folders may have the same name; their maps are in one folder.
            name = Path(annotation["file_name"]).with_suffix("").as_posix()
            pair = Pair(name, Path(images) / file_name, Path(annotations) / annotation["file_name"])
            for path in (pair.image, pair.annotation):
                if not path.is_file():
                    raise UnreadableFileError(path, f"no such file, but {self.json_path} lists it; check the folder")
            self._pairs.append(pair)
            self._segments.append(json.dumps(annotation["segments_info"]).encode())
        if described:
            raise InvalidAnnotationError(
                f"{self.json_path}: expected image {next(iter(described))!r} in 'images', since it has an annotation; "
                "add it, or remove the annotation"
            )
        if not self._pairs:
            raise UnreadableFileError(self.json_path, "expected annotated images, found none; give another JSON")

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def image_files(self) -> list[ImageFile]:
        """The image files without ground truth, in the order of the samples."""
        return [ImageFile(pair.name, pair.image) for pair in self._pairs]

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[index]
        try:
            truth = decode_coco(load_coco_png(pair.annotation), json.loads(self._segments[index]), self.labels)
        except InvalidAnnotationError as error:
            raise InvalidAnnotationError(f"{pair.annotation}: {error}") from error
        return checked_sample(pair, load_image(pair.image), truth)

    def categories_of(self, index: int) -> frozenset[int]:
        """Return the category ids of the map at ``index`` from the JSON, without reading an image.

        Raises:
            InvalidAnnotationError: a category is not in the label space.
        """
        sources = {segment["category_id"] for segment in json.loads(self._segments[index])}
        unknown = sources - self.labels.id_of_source.keys()
        if unknown:
            raise InvalidAnnotationError(
                f"{self.json_path}: expected categories of label space {self.labels.name!r}, got category_id "
                f"{min(unknown)} for {self._pairs[index].annotation.name}; add it to the categories"
            )
        return frozenset(self.labels.id_of_source[source] for source in sources)

    def _listed_labels(self, content: dict[str, Any]) -> LabelSpace:
        if not content.get("categories"):
            raise InvalidAnnotationError(f"{self.json_path}: expected 'categories', found none; give labels=")
        try:
            listed = labels_from_coco(self.json_path.stem, content["categories"])
        except InvalidAnnotationError as error:
            raise InvalidAnnotationError(f"{self.json_path}: {error}") from error
        return bundled_if_same(listed, "coco_panoptic")

    def _annotations_by_image(self, content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
        described: dict[int | str, dict[str, Any]] = {}
        for annotation in content["annotations"]:
            if annotation["image_id"] in described:
                raise InvalidAnnotationError(
                    f"{self.json_path}: expected one annotation for each image, got two for "
                    f"{annotation['image_id']!r}; remove one"
                )
            described[annotation["image_id"]] = annotation
        return described


def bundled_if_same(listed: LabelSpace, name: str) -> LabelSpace:
    """Return the bundled label space ``name`` if ``listed`` equals it except for colors, else ``listed``.

    A model for the bundled label space then fits the dataset, whatever colors its JSON lists.
    """
    bundled = LabelSpace.load(name)
    return bundled if _without_colors(bundled) == _without_colors(listed) else listed


def _without_colors(labels: LabelSpace) -> list[tuple[str, bool, int]]:
    # The JSONs published by COCO have no colors.
    return [(c.name, c.is_thing, c.source_id) for c in labels]
