"""Reader of arrays as returned by transformers, one file per image.

``NAME.npz`` contains ``segmentation``, integers [H, W], and ``segments_info``, the list as JSON text. Or the list is in
``NAME.json``, directly or under ``segments_info``, and ``NAME.npy`` or ``NAME.npz`` contains the segmentation.
"""

from __future__ import annotations

import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panscape.errors import (
    InvalidAnnotationError,
    InvalidArgumentError,
    UnreadableFileError,
    in_one_line,
    listed,
    shown,
)
from panscape.formats import map_from_id_image, merge_stuff_segments, parse_segments_info, to_integer_ids
from panscape.formats.issues import Issue, IssueKind
from panscape.formats.reading.base import (
    AnnotationSource,
    Entry,
    OtherSizeError,
    Reading,
    entries_of_files,
    require_size,
    unreadable,
)
from panscape.geometry import Size
from panscape.input_files import find_files, load_json, require_file
from panscape.labels import LabelSpace

_FORM = "arrays with segments_info"
_ENDINGS = (".npz", ".npy")
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, SyntaxError, TypeError, OverflowError, MemoryError, RuntimeError),
    *(NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
_MOST_BYTES = 8 * 2 * (Image.MAX_IMAGE_PIXELS or 2**27)  # the pixels that Pillow also treats as a decompression bomb
_LONGEST_TEXT = 4 * 2**24  # bytes, of 2**24 characters
_WIDEST_NUMBER = 16  # bytes
_KINDS = {"form": IssueKind.SHAPE, "collision": IssueKind.COLLISION, "category": IssueKind.CATEGORY}


def find_arrays(folder: Path) -> list[Path]:
    """Return the arrays of a folder and its subfolders, sorted by name."""
    return find_files(folder, _ENDINGS)


def open_arrays(folder: Path, files: list[Path]) -> AnnotationSource:
    """Return the source of the files found by :func:`find_arrays`, whose ``label_id`` is usually a position."""
    entries = entries_of_files(folder, files)
    return AnnotationSource(folder, _FORM, entries, None, [], _read, is_indexed=True)


def _read(entry: Entry, labels: LabelSpace, size: Size | None = None) -> Reading:
    if entry.fault is not None:
        return Reading(None, (entry.fault,))
    try:
        numbers, text = _load(entry.content, size)
        descriptions = _descriptions(entry.content, text)
        numbers = to_integer_ids(numbers)
    except UnreadableFileError as error:
        return unreadable(entry, error)
    except (InvalidAnnotationError, InvalidArgumentError) as error:
        return Reading(None, (Issue(entry.file, IssueKind.UNREADABLE, in_one_line(error, entry.file)),))
    segments, faults = parse_segments_info(descriptions, labels, use_source_ids=True)
    described = Counter(segment.category for segment in segments)
    numbers, segments = merge_stuff_segments(numbers, segments, labels)
    panoptic, undescribed = map_from_id_image(numbers, segments, {0, *(n for n in faults if n is not None)})
    ambiguous: dict[IssueKind, list[int | None]] = {}
    for number, fault in faults.items():
        ambiguous.setdefault(_KINDS[fault.kind], []).append(number)
    issues = []
    for kind, (first, *others) in ambiguous.items():
        what = faults[first].what + (f"; likewise the ids {listed(others)}" if others else "")
        issues.append(Issue(entry.file, kind, what))
    if undescribed:
        what = f"expected a description of every id in the segmentation, but there is none of {listed(undescribed)}"
        issues.append(Issue(entry.file, IssueKind.UNDESCRIBED, what))
    pieces = [labels[c].name for c, count in described.items() if count > 1 and not labels[c].is_thing]
    if pieces:
        what = f"several segments of {listed(pieces)} were merged, as a map has one segment of each stuff category"
        issues.append(Issue(entry.file, IssueKind.PIECES, what))
    return Reading(panoptic, tuple(issues), tuple(s.number for s in segments), (None,) * len(segments))


def _load(path: Path, size: Size | None) -> tuple[NDArray[Any], str | None]:
    """Return the segmentation, and the text of its descriptions if the file contains it.

    Raises:
        UnreadableFileError: the file is damaged, or reading it would run code or exhaust memory.
        OtherSizeError: the size in its header differs.
    """
    require_file(path)
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return _segmentation(path, file, os.fstat(file.fileno()).st_size, size), None
        with zipfile.ZipFile(path) as members:
            with members.open("segmentation.npy") as file:
                numbers = _segmentation(path, file, members.getinfo("segmentation.npy").file_size, size)
            if "segments_info.npy" not in members.namelist():
                return numbers, None
            with members.open("segments_info.npy") as file:
                num_bytes = members.getinfo("segments_info.npy").file_size
                info = _array(file, _header(file), num_bytes, _LONGEST_TEXT)
    except OtherSizeError:
        raise
    except _DAMAGE as error:
        raise UnreadableFileError(path, f"expected an array 'segmentation', but {in_one_line(error)}") from error
    if info.dtype.kind != "U" or info.ndim != 0:
        raise UnreadableFileError(
            path, f"expected segments_info as one string, got {info.dtype} {list(info.shape)}; save json.dumps of it"
        )
    return numbers, str(info)


def _segmentation(path: Path, file: IO[bytes], num_bytes: int, size: Size | None) -> NDArray[Any]:
    header = _header(file)
    if size is not None:
        if len(header.shape) != 2 or header.dtype.itemsize > _WIDEST_NUMBER:
            raise ValueError(f"it contains {header.dtype} {shown(header.shape)}, not integers [H, W]")
        require_size(path, Size(*header.shape), size)
    return _array(file, header, num_bytes, _MOST_BYTES)


class _Header(NamedTuple):
    """The header of an array."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]


def _header(file: IO[bytes]) -> _Header:
    """Read the header of an array; arrays of objects are rejected, as reading them runs code."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # others are for records of many fields, with headers of unlimited length
        raise ValueError(f"its format is version {version}")
    header = _Header(*np.lib.format.read_array_header_1_0(file))
    if header.dtype.hasobject:
        raise ValueError("it contains Python objects, which are not read; save segments_info as json.dumps of it")
    return header


def _array(file: IO[bytes], header: _Header, num_bytes: int, most: int) -> NDArray[Any]:
    """Read the data after the header, if it is below the limit and the file or archive member has that length."""
    needed = math.prod(header.shape) * header.dtype.itemsize
    if min(header.shape, default=0) < 0 or needed > most:
        raise ValueError(f"its shape {shown(header.shape)} of {header.dtype} is beyond the limit of {most} bytes")
    if file.tell() + needed > num_bytes:
        raise ValueError(f"it ends too early: {shown(header.shape)} of {header.dtype} are {needed} bytes")
    data = file.read(needed)
    if len(data) < needed:
        raise ValueError("it ends too early")
    return np.frombuffer(data, header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")


def _descriptions(path: Path, text: str | None) -> list[Any]:
    beside = path.with_suffix(".json")
    if text is None:
        content = load_json(beside)
    else:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UnreadableFileError(path, f"expected segments_info as JSON, but {error}") from error
    content = content.get("segments_info") if isinstance(content, dict) else content
    if not isinstance(content, list):
        raise InvalidAnnotationError(f"{path}: expected a list as segments_info, got {shown(content)}")
    return content
