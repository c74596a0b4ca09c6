"""Read COCO's JSON: images, categories, and annotations whose ``segments_info`` stays text until it is used.

Its content is untrusted: of fields, only the JSON syntax is known. A panoptic JSON of COCO has millions of segments;
typed decoding that leaves them as slices of the file needs a tenth of the time and memory of ``json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from panscape.errors import InvalidAnnotationError, InvalidLabelSpaceError, UnreadableFileError, shown
from panscape.formats.coco import bundled_if_same, labels_from_coco
from panscape.formats.keys import key_of
from panscape.input_files import parse_json, read_file
from panscape.labels import LabelSpace
from panscape.notes import note_once

_NO_SEGMENTS = msgspec.Raw()
_TRAILING_COMMA = re.compile(rb'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])', re.DOTALL)  # strings are matched to skip them


class CocoImage(msgspec.Struct, frozen=True, gc=False):
    """An entry of ``images``; missing fields are None."""

    id: Any = None
    file_name: Any = None
    height: Any = None
    width: Any = None


class CocoAnnotation(msgspec.Struct, frozen=True, gc=False):
    """An entry of ``annotations``; missing fields are None.

    Attributes:
        segments_info: JSON text; empty if the field is missing.
    """

    image_id: Any = None
    file_name: Any = None
    segments_info: msgspec.Raw = _NO_SEGMENTS

    @property
    def is_panoptic(self) -> bool:
        """Whether it has ``segments_info``, of any type."""
        return memoryview(self.segments_info).nbytes > 0

    @property
    def is_valid(self) -> bool:
        """Whether ``segments_info`` is a list."""
        return bytes(memoryview(self.segments_info)[:1]) == b"["

    def segments(self, json_path: Path) -> list[Any]:
        """Return the content of ``segments_info``.

        Raises:
            UnreadableFileError: its text cannot be decoded.
            InvalidAnnotationError: it is not a list.
        """
        text = bytes(self.segments_info)
        if not self.is_valid:
            raise InvalidAnnotationError(
                f"{json_path}: image {shown(self.image_id)}: expected a list as segments_info, got "
                f"{shown(parse_json(json_path, text)) if text else 'none'}"
            )
        segments: list[Any] = parse_json(json_path, text)
        return segments


class _Fields(msgspec.Struct, gc=False):
    annotations: list[CocoAnnotation] | None = None
    images: list[CocoImage] | None = None
    categories: Any = None
    label_space: Any = None
    info: Any = None


_decoder = msgspec.json.Decoder(_Fields | list[CocoAnnotation])


@dataclass(frozen=True, slots=True)
class CocoJson:
    """The content of a JSON.

    Attributes:
        path: the file.
        annotations: entries that are no objects are kept as they are; empty if there is no list.
        images: likewise.
        categories: of any type; None if missing.
        label_space: name of the label space in files that panscape wrote, of any type; None in others.
        info: of any type; None if missing.
    """

    path: Path
    annotations: Sequence[CocoAnnotation | object]
    images: Sequence[CocoImage | object]
    categories: object
    label_space: object = None
    info: object = None

    @property
    def provenance(self) -> dict[str, Any] | None:
        """What made all of the maps, as panscape writes it; None if that is not known, or differs."""
        made_by = self.info.get("weights") if isinstance(self.info, dict) else None
        return made_by[0] if isinstance(made_by, list) and len(made_by) == 1 and isinstance(made_by[0], dict) else None

    def require_panoptic(self) -> None:
        """Check that there are panoptic annotations.

        Raises:
            InvalidAnnotationError: no annotation has ``segments_info``.
        """
        if not any(isinstance(a, CocoAnnotation) and a.is_panoptic for a in self.annotations):
            raise InvalidAnnotationError(
                f"{self.path}: expected COCO panoptic JSON, 'annotations' with image_id, file_name and segments_info "
                "each, or a list of them; COCO instance or detection files have no segments_info"
            )

    def labels(self) -> LabelSpace | None:
        """Return the label space of ``categories``, the bundled one for COCO and Cityscapes; None without categories.

        Raises:
            InvalidAnnotationError: they are not valid; see :func:`panscape.formats.labels_from_coco`.
        """
        if not self.categories:
            return None
        try:
            name = self.label_space if isinstance(self.label_space, str) else self.path.stem
            return bundled_if_same(labels_from_coco(name, self.categories), "coco_panoptic", "cityscapes")
        except (InvalidAnnotationError, InvalidLabelSpaceError) as error:
            raise InvalidAnnotationError(f"{self.path}: {error}") from error


def images_by_key(content: CocoJson) -> dict[str, CocoImage]:
    """Return the entries of ``images`` by the keys of their ids, in their order.

    Raises:
        InvalidAnnotationError: an entry has no id or no file_name, or an id occurs twice.
    """
    images: dict[str, CocoImage] = {}
    for image in content.images:
        key = key_of(image.id) if isinstance(image, CocoImage) else None
        if not isinstance(image, CocoImage) or key is None or not isinstance(image.file_name, str):
            fields = {f: getattr(image, f) for f in ("id", "file_name")} if isinstance(image, CocoImage) else image
            raise InvalidAnnotationError(
                f"{content.path}: expected id and file_name of every image, got {shown(fields)}"
            )
        if key in images:
            raise InvalidAnnotationError(
                f"{content.path}: expected one image for each id, got two for {shown(image.id)}; remove one"
            )
        images[key] = image
    return images


def load_coco_json(path: Path) -> CocoJson:
    """Read the JSON of annotations or predictions in COCO's format, or a bare list of annotations.

    Commas after the last entry of a list or object, as some generators write them, are ignored with a warning.

    Raises:
        UnreadableFileError: the file is missing, not a regular file, or not JSON.
    """
    text = read_file(path)
    encoding = json.detect_encoding(text)
    try:
        plain = text if encoding == "utf-8" else text.decode(encoding).encode()
        content = _decoder.decode(plain)
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # not JSON, NaN, or entries of other types
        try:
            return _untyped(path, _parse_with_commas(path, text))
        except RecursionError as error:
            raise UnreadableFileError(path, f"expected JSON, but {error}") from error
    if isinstance(content, list):
        return CocoJson(path, content, (), None)
    annotations, images = content.annotations or (), content.images or ()
    return CocoJson(path, annotations, images, content.categories, content.label_space, content.info)


def _parse_with_commas(path: Path, text: bytes) -> Any:
    """Parse a JSON in which commas may follow the last entries."""
    try:
        return parse_json(path, text)
    except UnreadableFileError:
        plain = _TRAILING_COMMA.sub(lambda found: found[1] or b"", text)
        if plain == text:
            raise
        content = parse_json(path, plain)
        note_once(path, "is not JSON, as commas follow the last entries of lists; they are ignored")
        return content


def _untyped(path: Path, content: Any) -> CocoJson:
    fields = content if isinstance(content, dict) else {"annotations": content}
    annotations, images = (
        found if isinstance(found, list) else [] for found in (fields.get("annotations"), fields.get("images"))
    )
    return CocoJson(
        path,
        [_annotation(a) if isinstance(a, dict) else a for a in annotations],
        [CocoImage(*map(i.get, CocoImage.__struct_fields__)) if isinstance(i, dict) else i for i in images],
        fields.get("categories"),
        fields.get("label_space"),
        fields.get("info"),
    )


def _annotation(fields: dict[str, Any]) -> CocoAnnotation:
    text = json.dumps(fields["segments_info"]).encode() if "segments_info" in fields else b""
    return CocoAnnotation(fields.get("image_id"), fields.get("file_name"), msgspec.Raw(text))
