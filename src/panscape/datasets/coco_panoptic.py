"""Datasets in COCO panoptic format: COCO itself, Mapillary Vistas, and exports of panscape.

Source: the COCO data format, section "Panoptic Segmentation" (https://cocodataset.org/#format-data).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from panscape.datasets.base import MapSources
from panscape.datasets.file_pairs import listed_files, pair_with_images
from panscape.datasets.paired_dataset import PairedDataset
from panscape.datasets.segment_index import SEGMENT, SegmentTable
from panscape.datasets.splits import ImageFile, Splits
from panscape.errors import InvalidAnnotationError
from panscape.formats import load_coco_json, parse_coco_segments
from panscape.formats.coco_json import CocoJson, images_by_key
from panscape.formats.issues import NOTES, IssueKind
from panscape.formats.reading.coco import coco_notes, coco_segments, coco_source, file_name_of, size_of
from panscape.formats.reading.numbering import listed_ids, with_ids
from panscape.formats.segments_info import SegmentInfo
from panscape.input_files import to_integer
from panscape.labels import LabelSpace
from panscape.notes import note_once

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
    images = images_by_key(load_coco_json(json_path)).values()
    if not images:
        raise InvalidAnnotationError(f"{json_path}: expected 'images' with id and file_name each, found none")
    paths = listed_files(folder, [image.file_name for image in images], json_path)
    return [
        ImageFile(path.stem, path, size_of(image), image.id if isinstance(image.id, str) else to_integer(image.id))
        for path, image in zip(paths, images, strict=True)
    ]


class CocoPanoptic(PairedDataset):
    """Images with annotations in COCO panoptic format, in the order of the JSON's ``images``.

    The JSON defines the dataset; other files of the two folders are ignored. Files may be symbolic links, also to other
    folders.

    Args:
        json_path: with ``images`` and ``annotations``, for example ``panoptic_val2017.json``; or its content.
        annotations: the folder of the PNGs listed in the JSON.
        images: the folder of the images listed in the JSON.
        labels: the categories; by default, those listed in the JSON, in its order. If they are COCO's 133 or the 19 of
            Cityscapes, that bundled label space is used, whose name selects the published settings of models. If the
            JSON lists categories of the same names with other ids, its ids are used.
        apply_orientation: rotate and mirror images as their EXIF tag says; False if labels were drawn on the stored
            pixels.
        undescribed_area: in pixels; segments of a PNG that the JSON does not describe are void if none is larger.

    Raises:
        UnreadableFileError: the JSON or a file listed in it is missing or outside its folder; on access, a file is
            damaged.
        InvalidAnnotationError: the JSON contradicts itself or is not in this format; on access, image, PNG and
            description contradict each other.
    """

    def __init__(
        self,
        json_path: str | os.PathLike[str] | CocoJson,
        annotations: str | os.PathLike[str],
        images: str | os.PathLike[str],
        labels: LabelSpace | None = None,
        *,
        apply_orientation: bool = True,
        undescribed_area: int = 0,
    ) -> None:
        content = json_path if isinstance(json_path, CocoJson) else load_coco_json(Path(json_path))
        self.json_path = content.path
        images_by_key(content)
        source = coco_source(content, Path(annotations), follow_links=True, undescribed_area=undescribed_area)
        found = labels or source.labels
        if found is None:
            missing = InvalidAnnotationError(f"{self.json_path}: expected 'categories', found none; give labels=")
            raise source.labels_fault or missing
        self.labels = found
        self.apply_orientation = apply_orientation
        self.bit_depth: int | None = None
        self._ids = found if labels is None else listed_ids(source, labels)
        of_entries = [entry.fault for entry in source.entries if entry.fault is not None]
        faults = [*(issue for issue in source.issues if not issue.is_note), *of_entries]
        if faults:
            others = f" (and {len(faults) - 1} more such errors)" if len(faults) > 1 else ""
            raise InvalidAnnotationError(f"{faults[0]}{others}")
        self._source = with_ids(source, self._ids)
        self._pairs = pair_with_images(source, Path(images))
        self._pngs = listed_files(Path(annotations), [file_name_of(entry) for entry in source.entries], self.json_path)
        for note in coco_notes(source, self._ids):
            if labels is None or note.kind is not IssueKind.FLAGS:
                note_once(note.file, note.what)

    def categories_of(self, index: int) -> frozenset[int]:
        """Return the category ids of the map at ``index`` from the JSON, without reading an image.

        Raises:
            InvalidAnnotationError: a category is not in the label space.
        """
        listed = coco_segments(self._pairs[index].truth)
        return frozenset(segment.category for segment in self._described(listed, index))

    def segments_of(self, index: int) -> SegmentTable | None:
        """Return the segments of the map at ``index`` from the JSON; None if it lacks an area or a box.

        Raises:
            InvalidAnnotationError: a category is not in the label space.
        """
        listed = coco_segments(self._pairs[index].truth)
        described = self._described(listed, index)
        boxes = {to_integer(fields["id"]): _box_size(fields.get("bbox")) for fields in listed}
        rows = []
        for position, segment in enumerate(described):
            size = boxes[segment.number]
            if size is None or segment.area is None:
                return None
            if segment.area > 0:
                rows.append((0, position, *size, segment.category, segment.is_crowd))
        return np.array(rows, SEGMENT)

    def map_sources(self) -> MapSources:
        """Return the JSON and the PNGs."""
        return MapSources([self.json_path, *self._pngs])

    def _described(self, listed: list[Any], index: int) -> list[SegmentInfo]:
        described = parse_coco_segments(listed, self._ids)
        for kind, what in described.issues.items():
            if kind not in NOTES:
                raise InvalidAnnotationError(f"{self._pairs[index].truth.file}: {what}")
        return described.segments


def _box_size(box: object) -> tuple[int, int] | None:
    """Return width and height of a ``bbox``; None if it is no box of whole pixels."""
    numbers = [to_integer(number) for number in box] if isinstance(box, list) and len(box) == 4 else []
    width, height = numbers[2:] or (None, None)
    return None if width is None or height is None or min(width, height) < 1 else (width, height)
