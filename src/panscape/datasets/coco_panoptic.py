"""Any dataset in COCO panoptic form: COCO itself, Mapillary Vistas, and what panscape writes in that form.

Source: the COCO data format, section "Panoptic Segmentation" (https://cocodataset.org/#format-data).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from panscape.codecs import decode_coco, labels_from_coco, load_coco_json, load_coco_png
from panscape.datasets.pairing import Pair, checked_sample
from panscape.datasets.sample import Sample
from panscape.errors import InvalidAnnotationError, UnreadableFileError
from panscape.images import load_image
from panscape.labels import LabelSpace


class CocoPanoptic:
    """Pictures with annotations in COCO panoptic form, in the order of the JSON's ``images``.

    The JSON says what belongs to the set; other files of the two folders are not looked at.

    Args:
        json_path: with ``images`` and ``annotations``, for example ``panoptic_val2017.json``.
        annotations: the folder of the PNGs that the JSON names.
        images: the folder of the pictures that the JSON names.
        labels: the categories; without them, those that the JSON lists, in its order. If they are COCO's own 133, the
            bundled label space ``"coco_panoptic"`` is taken, whose name tells models which published settings fit.

    Raises:
        UnreadableFileError: the JSON or a file it names is missing, or the set is empty; on access, a file is damaged.
        InvalidAnnotationError: the JSON contradicts itself, or two pictures have one name; on access, picture, PNG and
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
        # As text: in worker processes every Python object that is looked at gets copied, and COCO has millions of them.
        self._segments: list[bytes] = []
        for image_id, file_name in self._pictures(content).items():
            if image_id not in described:
                raise InvalidAnnotationError(
                    f"{self.json_path}: expected an annotation of image {image_id!r} ({file_name}), found none; "
                    "add it, or remove the image"
                )
            annotation = described.pop(image_id)
            # Pictures of several folders may share a name; their maps lie in one.
            name = Path(annotation["file_name"]).with_suffix("").as_posix()
            pair = Pair(name, Path(images) / file_name, Path(annotations) / annotation["file_name"])
            for path in (pair.picture, pair.annotation):
                if not path.is_file():
                    raise UnreadableFileError(path, f"no such file, though {self.json_path} names it; check the folder")
            self._pairs.append(pair)
            self._segments.append(json.dumps(annotation["segments_info"]).encode())
        if described:
            raise InvalidAnnotationError(
                f"{self.json_path}: expected image {next(iter(described))!r} in 'images', since it has an annotation; "
                "add it, or remove the annotation"
            )
        if not self._pairs:
            raise UnreadableFileError(self.json_path, "expected annotated pictures, found none; give another JSON")

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[index]
        try:
            truth = decode_coco(load_coco_png(pair.annotation), json.loads(self._segments[index]), self.labels)
        except InvalidAnnotationError as error:
            raise InvalidAnnotationError(f"{pair.annotation}: {error}") from error
        return checked_sample(pair, load_image(pair.picture), truth)

    def categories_of(self, index: int) -> frozenset[int]:
        """Return the ids of the categories in the map at ``index``, from the JSON alone; no picture is read.

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

    def _pictures(self, content: dict[str, Any]) -> dict[int | str, str]:
        pictures: dict[int | str, str] = {}
        for image in content.get("images", []):
            if not isinstance(image, dict) or "id" not in image or "file_name" not in image:
                raise InvalidAnnotationError(f"{self.json_path}: expected id and file_name of every image, got {image}")
            if image["id"] in pictures:
                raise InvalidAnnotationError(
                    f"{self.json_path}: expected one image for each id, got two for {image['id']!r}; remove one"
                )
            pictures[image["id"]] = image["file_name"]
        return pictures

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
    """Return the bundled label space ``name`` if ``listed`` has its categories, up to colors; else ``listed``.

    A model that was made for the bundled label space then fits the data, whatever colors the data list.
    """
    bundled = LabelSpace.load(name)
    return bundled if _without_colors(bundled) == _without_colors(listed) else listed


def _without_colors(labels: LabelSpace) -> list[tuple[str, bool, int]]:
    # The JSONs that COCO publishes leave colours out.
    return [(c.name, c.is_thing, c.source_id) for c in labels]
