"""COCO panoptic files: PNG and JSON of one image, or of a whole dataset."""

from __future__ import annotations

import json
import os

import numpy as np
from numpy.typing import NDArray

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.formats.coco import decode_coco, encode_coco
from panscape.formats.coco_json import CocoAnnotation, load_coco_json
from panscape.formats.coco_writer import coco_annotation, coco_image, coco_json, image_id_of
from panscape.formats.id_png import encode_id_png, load_id_png
from panscape.image_files import open_image
from panscape.input_files import require_file, to_path
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


def save_coco(panoptic: PanopticMap, path: str | os.PathLike[str], labels: LabelSpace | str | None = None) -> None:
    """Write ``path`` (.png) in COCO panoptic format, and next to it a JSON that describes this image.

    Both files are written completely before either replaces an existing one.

    Args:
        panoptic: the map.
        path: ends in ``.png``; its folder must exist. The JSON has the same name with ``.json``. ``images`` has the
            name of the PNG, as the image file is not known here. ``info`` has the provenance of a predicted map.
        labels: as in :func:`encode_coco`; also writes the ``categories``.

    Raises:
        InvalidArgumentError: ``path`` does not end in ``.png``, its folder does not exist, or see :func:`encode_coco`.
    """
    path = to_path(path)
    if path.suffix.lower() != ".png":
        raise InvalidArgumentError(f"expected a path that ends in .png, as ids need lossless compression, got {path}")
    labels = None if labels is None else LabelSpace.of(labels)
    rgb, segments = encode_coco(panoptic, labels)
    image_id = image_id_of(path.stem)
    image = coco_image(image_id, path.name, panoptic)
    made_by = [] if panoptic.provenance is None else [panoptic.provenance]
    content = coco_json([image], [coco_annotation(image_id, path.name, segments)], labels, made_by)
    # The PNG first: if the folder is missing, the error names the requested file.
    with atomic_write(path) as png_file, atomic_write(path.with_suffix(".json")) as json_file:
        json_file.write_text(json.dumps(content), encoding="utf-8")
        png_file.write_bytes(encode_id_png(rgb.numpy()))


def load_coco(path: str | os.PathLike[str], labels: LabelSpace | str | None = None) -> PanopticMap:
    """Read a map written by :func:`save_coco`, or one of a dataset or of ``panscape predict``.

    Args:
        path: the PNG; its description is the JSON of the same name, or that of its folder, such as ``panoptic.json``
            beside ``panoptic/``.
        labels: the label space to read it in; None for that of the ``categories`` in the JSON, if it has them.

    Raises:
        UnreadableFileError: one of the two files is missing or unreadable.
        InvalidAnnotationError: they contradict each other, or a category is not in ``labels``.
    """
    path = to_path(path)
    require_file(path)
    if path.suffix.lower() == ".json":
        raise UnreadableFileError(path, "expected the PNG of a map, got its description; give the PNG")
    folder = path.absolute().parent
    candidates = path.with_suffix(".json"), folder.parent / f"{folder.name}.json"
    json_path = next((p for p in candidates if p.is_file()), None)
    if json_path is None:
        raise UnreadableFileError(
            path,
            f"expected a saved map, a PNG with its description in {candidates[0].name} beside it, or in "
            f"{candidates[1].name} beside its folder; both are missing",
        )
    content = load_coco_json(json_path)
    content.require_panoptic()
    for annotation in content.annotations:
        if isinstance(annotation, CocoAnnotation) and annotation.file_name == path.name:
            segments = annotation.segments(json_path)
            space = content.labels() if labels is None else LabelSpace.of(labels)
            return decode_coco(load_coco_png(path), segments, space).with_provenance(content.provenance)
    raise InvalidAnnotationError(
        f"{json_path}: expected the description of {path.name}, got {len(content.annotations)} others; "
        "keep the original names of a PNG and its JSON"
    )


def load_coco_png(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read the PNG of a COCO panoptic annotation, uint8 [H, W, 3].

    Raises:
        UnreadableFileError: the file is missing, damaged or does not have three channels.
    """
    plain = load_id_png(path)
    if plain is not None and plain.ndim == 3:
        return plain
    with open_image(path) as image:
        mode = image.mode
        pixels = np.array(image.convert("RGB"))  # lossless for a palette; other modes are rejected below
    if mode not in ("RGB", "P"):
        raise UnreadableFileError(
            path, f"expected a PNG of three channels with segment ids, got mode {mode}; write it as RGB"
        )
    return pixels
