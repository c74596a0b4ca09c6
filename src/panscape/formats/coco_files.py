"""COCO panoptic files: PNG and JSON of one image, or of a whole dataset."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from panscape.atomic_io import atomic_write, write_json
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnreadableFileError
from panscape.formats.coco import coco_categories, decode_coco, encode_coco
from panscape.formats.coco_json import CocoAnnotation, load_coco_json
from panscape.formats.id_png import encode_id_png, load_id_png
from panscape.images import open_image
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
    image_id = _image_id(path.stem)
    image = _image(image_id, path.name, panoptic)
    made_by = [] if panoptic.provenance is None else [panoptic.provenance]
    content = _coco_json([image], [_annotation(image_id, path.name, segments)], labels, made_by)
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


class WrittenMap(NamedTuple):
    """A map whose PNG is written, and its description for the JSON.

    Attributes:
        path: path of the PNG.
        image: entry of ``images``.
        annotation: entry of ``annotations``; its ``segments_info`` is that of :func:`encode_coco`.
        provenance: what made the map; None if it is not known.
    """

    path: Path
    image: dict[str, Any]
    annotation: dict[str, Any]
    provenance: Mapping[str, Any] | None = None


class CocoPanopticWriter:
    """Writes a dataset in COCO panoptic format: a folder of PNGs and one JSON.

    The JSON is written when the ``with`` block ends without an error, so a dataset with a JSON is complete::

        with CocoPanopticWriter("out/panoptic.json", "out/panoptic", labels) as writer:
            for sample in dataset:
                writer.write(sample.name, model.predict(sample.image))

    Args:
        json_path: the JSON to write.
        folder: for the PNGs. It is created if it does not exist, like that of ``json_path``.
        labels: the label space of the maps.
    """

    def __init__(self, json_path: str | os.PathLike[str], folder: str | os.PathLike[str], labels: LabelSpace) -> None:
        self.json_path = Path(json_path)
        self.folder = Path(folder)
        self.labels = labels
        self._images: dict[int | str, dict[str, Any]] = {}
        self._annotations: list[dict[str, Any]] = []
        self._made_by: list[Mapping[str, Any]] = []
        for needed in (self.json_path.parent, self.folder):
            needed.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, panoptic: PanopticMap, *, image: str | None = None) -> Path:
        """Write the PNG of one image and record its description.

        Args:
            name: of the image, without suffix; it may contain folders. Its id in the JSON is this name, or an integer
                if it consists of digits, as in COCO.
            panoptic: the map.
            image: file name of the image in the JSON; by default ``name`` with ``.png``.

        Returns:
            The path of the PNG.

        Raises:
            InvalidArgumentError: the name leaves the folder or was used before, or see :func:`encode_coco`.
        """
        if _image_id(name) in self._images:
            raise InvalidArgumentError(f"expected a unique name for each image, got {name!r} twice")
        written = self.write_png(name, panoptic, image=image)
        self.record(written)
        return written.path

    def write_png(self, name: str, panoptic: PanopticMap, *, image: str | None = None) -> WrittenMap:
        """Write the PNG of one image as :meth:`write` does, in any thread, without recording its description."""
        png = path_inside(name)
        path = self.folder / f"{png}.png"
        rgb, segments = encode_coco(panoptic, self.labels)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as png_file:
            png_file.write_bytes(encode_id_png(rgb.numpy()))
        image_id = _image_id(name)
        described = _image(image_id, image or f"{png}.png", panoptic)
        return WrittenMap(path, described, _annotation(image_id, f"{png}.png", segments), panoptic.provenance)

    def record(self, written: WrittenMap) -> None:
        """Record the description of a map in the JSON, which lists maps in the order of these calls."""
        self._images[written.image["id"]] = written.image
        self._annotations.append(written.annotation)
        if written.provenance is not None and written.provenance not in self._made_by:
            self._made_by.append(written.provenance)

    def close(self) -> None:
        """Write the JSON; also done when the ``with`` block ends without an error."""
        write_json(
            self.json_path, _coco_json(list(self._images.values()), self._annotations, self.labels, self._made_by)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()


def path_inside(name: str) -> PurePosixPath:
    """Return the name of an image as a path relative to the folder that it is written to.

    Raises:
        InvalidArgumentError: it is no name, or it leaves the folder on any system.
    """
    path = PurePosixPath(name)
    is_outside = path.is_absolute() or ".." in path.parts or re.search(r"^[A-Za-z]:|[\\\0]", name)
    if is_outside or not path.name or path.as_posix() != name:
        raise InvalidArgumentError(f"expected the name of an image inside the folder to write, got {name!r}; rename it")
    return path


def _coco_json(
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    labels: LabelSpace | None,
    made_by: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    content: dict[str, Any] = {"images": images, "annotations": annotations}
    if made_by:
        content = {"info": {"description": "Predictions of panscape", "weights": made_by}, **content}
    if labels is not None:
        content["label_space"] = labels.name  # not part of the format; restores the labels when the file is read
        content["categories"] = coco_categories(labels)
    return content


def _image_id(name: str) -> int | str:
    # COCO files are named by their integer id; Cityscapes files have no number and use the name.
    return int(name) if name.isdecimal() else name


def _image(image_id: int | str, file_name: str, panoptic: PanopticMap) -> dict[str, Any]:
    return {"id": image_id, "file_name": file_name, "height": panoptic.size.height, "width": panoptic.size.width}


def _annotation(image_id: int | str, file_name: str, segments: list[dict[str, Any]]) -> dict[str, Any]:
    return {"image_id": image_id, "file_name": file_name, "segments_info": segments}
