"""Write datasets and predictions in COCO panoptic format: a folder of PNGs and one JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from panscape.atomic_io import atomic_write, write_json
from panscape.errors import InvalidArgumentError
from panscape.formats.coco_arrays import coco_arrays, coco_categories
from panscape.formats.id_png import encode_id_png
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays

if TYPE_CHECKING:
    from panscape.panoptic import PanopticMap


class WrittenMap(NamedTuple):
    """A map whose PNG is written, and its description for the JSON.

    Attributes:
        path: path of the PNG.
        image: entry of ``images``.
        annotation: entry of ``annotations``; its ``segments_info`` is that of :func:`panscape.formats.encode_coco`.
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

    def write(self, name: str, panoptic: PanopticMap | MapArrays, *, image: str | None = None) -> Path:
        """Write the PNG of one image and record its description.

        Args:
            name: of the image, without suffix; it may contain folders. Its id in the JSON is this name, or an integer
                if it consists of digits, as in COCO.
            panoptic: the map.
            image: file name of the image in the JSON; by default ``name`` with ``.png``.

        Returns:
            The path of the PNG.

        Raises:
            InvalidArgumentError: the name leaves the folder or was used before, or see
                :func:`panscape.formats.encode_coco`.
        """
        if image_id_of(name) in self._images:
            raise InvalidArgumentError(f"expected a unique name for each image, got {name!r} twice")
        written = self.write_png(name, panoptic, image=image)
        self.record(written)
        return written.path

    def write_png(self, name: str, panoptic: PanopticMap | MapArrays, *, image: str | None = None) -> WrittenMap:
        """Write the PNG of one image as :meth:`write` does, in any thread, without recording its description."""
        png = path_inside(name)
        path = self.folder / f"{png}.png"
        arrays = panoptic if isinstance(panoptic, MapArrays) else panoptic.arrays()
        rgb, segments = coco_arrays(arrays, self.labels)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as png_file:
            png_file.write_bytes(encode_id_png(rgb))
        image_id = image_id_of(name)
        described = coco_image(image_id, image or f"{png}.png", panoptic)
        return WrittenMap(path, described, coco_annotation(image_id, f"{png}.png", segments), panoptic.provenance)

    def record(self, written: WrittenMap) -> None:
        """Record the description of a map in the JSON, which lists maps in the order of these calls."""
        self._images[written.image["id"]] = written.image
        self._annotations.append(written.annotation)
        if written.provenance is not None and written.provenance not in self._made_by:
            self._made_by.append(written.provenance)

    def close(self) -> None:
        """Write the JSON; also done when the ``with`` block ends without an error."""
        write_json(
            self.json_path, coco_json(list(self._images.values()), self._annotations, self.labels, self._made_by)
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


def coco_json(
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    labels: LabelSpace | None,
    made_by: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the content of a JSON.

    Args:
        images: entries of ``images``.
        annotations: entries of ``annotations``.
        labels: adds the ``categories``.
        made_by: provenances of predicted maps.
    """
    content: dict[str, Any] = {"images": images, "annotations": annotations}
    if made_by:
        content = {"info": {"description": "Predictions of panscape", "weights": made_by}, **content}
    if labels is not None:
        content["label_space"] = labels.name  # not part of the format; restores the labels when the file is read
        content["categories"] = coco_categories(labels)
    return content


def image_id_of(name: str) -> int | str:
    """Return the id of an image: its name, or an integer if that consists of digits, as in COCO."""
    return int(name) if name.isdecimal() else name


def coco_image(image_id: int | str, file_name: str, panoptic: PanopticMap | MapArrays) -> dict[str, Any]:
    """Return an entry of ``images``."""
    return {"id": image_id, "file_name": file_name, "height": panoptic.size.height, "width": panoptic.size.width}


def coco_annotation(image_id: int | str, file_name: str, segments: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an entry of ``annotations``."""
    return {"image_id": image_id, "file_name": file_name, "segments_info": segments}
