"""Detect the format at a path, determine the label space, and pair predictions with ground truth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from panscape.errors import (
    InvalidAnnotationError,
    InvalidArgumentError,
    PanscapeError,
    UnreadableFileError,
    listed,
    shown,
)
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.keys import match_keys
from panscape.formats.reading.base import AnnotationSource, Entry
from panscape.formats.reading.cityscapes import find_instance_ids, open_cityscapes
from panscape.formats.reading.coco import COCO_FORM, open_coco
from panscape.formats.reading.idd import find_idd, open_idd
from panscape.formats.reading.masks import CATEGORIES, find_masks, open_masks
from panscape.formats.reading.transformers import find_arrays, open_arrays
from panscape.image_files import open_image
from panscape.input_files import find_files
from panscape.labels import LabelSpace

FORMS = """the JSON of COCO panoptic format; or a folder with one such JSON, with *_instanceIds.png of Cityscapes, \
with *_gtFine_polygons.json of IDD, with arrays (.npz, or .npy with .json), or with semantic masks (.png, .tif or \
.bmp)"""


class EntryPair(NamedTuple):
    """The files of one image.

    Attributes:
        name: of the image, unique.
        truth: the entry of the ground truth.
        prediction: the entry of the prediction; None if it is missing.
    """

    name: str
    truth: Entry
    prediction: Entry | None


def find_source(
    path: Path, *, pngs: Path | None = None, min_area: int = 50, void: int | None = None
) -> AnnotationSource:
    """Detect the format of the maps at a path.

    Args:
        path: a JSON or a folder.
        pngs: folder of the PNGs of a JSON, if not next to it.
        min_area: for masks: smaller connected components of a thing category are void, pixels.
        void: for masks: see :func:`panscape.formats.reading.masks.open_masks`.

    Raises:
        UnreadableFileError: the path does not exist or has no known format, or the JSON cannot be read.
        InvalidAnnotationError: the JSON is not COCO panoptic format, or there are several.
        InvalidArgumentError: ``pngs`` is passed for a source without JSON, or the path is a folder of the PNGs of one.
    """
    if path.is_dir():
        instance_ids = find_instance_ids(path)
        idd = [] if instance_ids else find_idd(path)
        arrays = [] if instance_ids or idd else find_arrays(path)
        masks = [] if instance_ids or idd or arrays or _jsons(path) else find_masks(path)
        if (instance_ids or idd or arrays or masks) and pngs is not None:
            raise InvalidArgumentError(
                f"expected a folder of PNGs for a JSON only, but {path} has no JSON; omit {pngs}"
            )
        if instance_ids:
            return open_cityscapes(path, instance_ids)
        if idd:
            return open_idd(path, idd)
        if arrays:
            return open_arrays(path, arrays)
        if masks:
            _refuse_pngs_of_json(path, masks[0])
            return open_masks(path, masks, min_area=min_area, void=void)
        path = _only_json(path)
    elif not path.exists():
        raise UnreadableFileError(path, f"no such file or folder; expected {FORMS}")
    elif path.suffix.lower() != ".json":
        raise UnreadableFileError(path, f"expected {FORMS}")
    return open_coco(path, pngs)


def _refuse_pngs_of_json(folder: Path, png: Path) -> None:
    """Refuse the PNGs of a JSON in COCO panoptic format, which is beside their folder and has its name."""
    json = folder.with_suffix(".json")
    if json.is_file() and _is_colored(png):
        raise InvalidArgumentError(
            f"{folder}: expected masks with one number per pixel, got colored PNGs, probably those of {json.name} "
            f"beside the folder; give {json}"
        )


def _is_colored(path: Path) -> bool:
    try:
        with open_image(path) as image:
            return image.mode == "RGB"
    except PanscapeError:
        return False  # reading reports it


def _jsons(folder: Path) -> list[Path]:
    return [p for p in find_files(folder, {".json"}, is_recursive=False) if p.name != CATEGORIES]


def _only_json(folder: Path) -> Path:
    found = _jsons(folder)
    if not found:
        raise UnreadableFileError(folder, f"expected {FORMS}; found none of them")
    if len(found) > 1:
        raise InvalidAnnotationError(
            f"{folder}: expected one JSON, got {found[0].name} and {len(found) - 1} more; use the path of the JSON"
        )
    return found[0]


def label_space(name: str | None, truth: AnnotationSource) -> LabelSpace:
    """Return the label space for the evaluation.

    Args:
        name: of a bundled label space, or the path of one; None uses that of the ground truth.
        truth: the source of the ground truth.

    Raises:
        InvalidArgumentError: the ground truth contains no categories.
        InvalidAnnotationError: its categories are invalid.
        UnknownNameError: no label space has this name.
    """
    if name is not None:
        return LabelSpace.load(name)
    if truth.labels_fault is not None:
        raise truth.labels_fault
    if truth.labels is None:
        raise InvalidArgumentError(
            f"{truth.path}: expected categories in the ground truth, found none in {truth.form}; set the label space "
            f"with --labels: {', '.join(LabelSpace.bundled())}, or the path of one as JSON; if this is "
            "a prediction, swap --gt and --predictions"
        )
    return truth.labels


def paired(predictions: AnnotationSource, truth: AnnotationSource) -> tuple[list[EntryPair], list[Issue]]:
    """Pair every image of the ground truth with its prediction, in the order of the ground truth.

    Images are identified by the id in the JSON, by the file names, or by Cityscapes' city, sequence and frame. The key
    that matches most predictions is used.

    Returns:
        The pairs, and the issues of predictions that belong to no image.

    Raises:
        InvalidAnnotationError: no prediction belongs to an image of the ground truth.
    """
    best = match_keys([entry.keys for entry in predictions.entries], [entry.keys for entry in truth.entries])
    if all(place is None for place in best):
        names = [_example(source) for source in (predictions, truth)]
        raise InvalidAnnotationError(
            f"{predictions.path}: expected predictions of the images of {truth.path}, got none with a matching id or "
            f"name: {names[0]} and {names[1]}; use the ground truth of these images, or fix the names"
        )
    issues = []
    prediction_of: dict[int, Entry] = {}
    for entry, place in zip(predictions.entries, best, strict=True):
        if place is None:
            what = f"expected an image of the ground truth, but {truth.path} has none with the name {entry.name}"
            issues.append(Issue(entry.file, IssueKind.UNKNOWN_IMAGE, what))
        elif place in prediction_of:
            other = prediction_of[place]
            what = f"expected one prediction for {truth.entries[place].name}, got {other.file} as well; remove one"
            fault = Issue(entry.file, IssueKind.DUPLICATE, what)
            prediction_of[place] = Entry(other.name, other.file, other.keys, other.content, fault)
        else:
            prediction_of[place] = entry
    others = [
        f"{shown(entry.keys[0])} instead of {shown(truth.entries[place].keys[0])}"
        for entry, place in zip(predictions.entries, best, strict=True)
        if place is not None and truth.entries[place].keys[0] != entry.keys[0] != entry.keys[1]  # its own name is no id
    ]
    if others and predictions.form == truth.form == COCO_FORM:
        what = f"expected the image ids of {truth.path}, got {listed(others)}; images are paired by file name"
        issues.append(Issue(str(predictions.path), IssueKind.IMAGE_ID, what))
    times = Counter(entry.name for entry in truth.entries)
    pairs = [
        EntryPair(entry.name if times[entry.name] == 1 else f"{entry.name} ({entry.keys[0]})", entry, prediction)
        for entry, prediction in ((entry, prediction_of.get(place)) for place, entry in enumerate(truth.entries))
    ]
    return pairs, issues


def _example(source: AnnotationSource) -> str:
    return repr(source.entries[0].keys[0]) if source.entries else "nothing"
