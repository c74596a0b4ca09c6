"""Maps as arrays, as transformers returns them, one file a picture.

``NAME.npz`` holds ``segmentation``, whole numbers [H, W], and ``segments_info``, its list as JSON text; or the list is
in ``NAME.json``, on its own or under ``segments_info``, and ``NAME.npy`` or ``NAME.npz`` has the numbers.
"""

from __future__ import annotations

import json
import struct
import tokenize
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panscape.codecs import map_of_numbers, tell_apart, whole_numbers
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, UnreadableFileError, listed, shown
from panscape.labels import LabelSpace
from panscape.scoring.coco_source import read_json
from panscape.scoring.entries import Entry, Reading, Source, city_key_of, key_of, require_file, unreadable
from panscape.scoring.problems import Kind, Problem, in_one_line

_FORM = "arrays with segments_info"
_ENDINGS = (".npz", ".npy")
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, SyntaxError, TypeError, OverflowError, MemoryError, RuntimeError),
    *(NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
_MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**27)  # where Pillow, too, takes pictures for decompression bombs
_LONGEST_TEXT = 2**24


def find_arrays(folder: Path) -> list[Path]:
    """Return the arrays of a folder and of those in it, by name."""
    return sorted(p for p in folder.rglob("*") if p.suffix in _ENDINGS and not p.name.startswith("."))


def open_arrays(folder: Path, files: list[Path], *, by_source_id: bool = False) -> Source:
    """Describe the arrays that :func:`find_arrays` found.

    Args:
        folder: of the arrays.
        files: in it.
        by_source_id: each ``label_id`` is the number that the dataset's files use, not a position.
    """
    entries: dict[str, Entry] = {}
    for path in files:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        fault = None
        if stem in entries:
            what = f"expected one file of {stem}, got {entries[stem].file} too; remove one"
            fault = Problem(str(path), Kind.DUPLICATE, what)
        keys = (key_of(stem), key_of(path.stem), None, city_key_of(path.stem))
        entries[stem] = Entry(stem, str(path), keys, path, fault)
    return Source(folder, _FORM, list(entries.values()), None, [], partial(_read, by_source_id))


def _read(by_source_id: bool, entry: Entry, labels: LabelSpace) -> Reading:
    if entry.fault is not None:
        return Reading(None, (entry.fault,))
    try:
        numbers, text = _load(entry.content)
        descriptions = _descriptions(entry.content, text)
        numbers = whole_numbers(numbers)
    except (UnreadableFileError, InvalidAnnotationError) as error:
        return unreadable(entry, error)
    except InvalidArgumentError as error:
        return Reading(None, (Problem(entry.file, Kind.UNREADABLE, in_one_line(error, entry.file)),))
    segments, doubts = tell_apart(descriptions, labels, by_source_id=by_source_id)
    panoptic, undescribed = map_of_numbers(numbers, segments, {0, *(n for n in doubts if n is not None)})
    in_doubt: dict[Kind, list[int | None]] = {}
    for number, what in doubts.items():
        in_doubt.setdefault(_kind(what), []).append(number)
    problems = []
    for kind, (first, *others) in in_doubt.items():
        what = doubts[first] + (f"; likewise the ids {listed(others)}" if others else "")
        problems.append(Problem(entry.file, kind, what))
    if undescribed:
        what = f"expected a description of every number in the segmentation, but there is none of {listed(undescribed)}"
        problems.append(Problem(entry.file, Kind.UNDESCRIBED, what))
    return Reading(panoptic, tuple(problems), tuple(s.number for s in segments), (None,) * len(segments))


def _kind(doubt: str) -> Kind:
    if "have the id" in doubt:
        return Kind.COLLISION
    return Kind.SHAPE if "expected integers" in doubt or "ids from 0 on" in doubt else Kind.CATEGORY


def _load(path: Path) -> tuple[NDArray[Any], str | None]:
    """Return the segmentation and the text of its descriptions, if that is in the file.

    Raises:
        UnreadableFileError: the file is damaged, or would run something or fill the memory when read.
    """
    require_file(path)
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return _array(file, _MOST_PIXELS), None
        with zipfile.ZipFile(path) as members:
            with members.open("segmentation.npy") as file:
                numbers = _array(file, _MOST_PIXELS)
            if "segments_info.npy" not in members.namelist():
                return numbers, None
            with members.open("segments_info.npy") as file:
                info = _array(file, _LONGEST_TEXT)
    except _DAMAGE as error:
        raise UnreadableFileError(path, f"expected an array 'segmentation', but {in_one_line(error, '')}") from error
    if info.dtype.kind != "U" or info.ndim != 0:
        raise UnreadableFileError(
            path, f"expected segments_info as one text, got {info.dtype} {list(info.shape)}; save json.dumps of it"
        )
    return numbers, str(info)


def _array(file: IO[bytes], most: int) -> NDArray[Any]:
    """Read an array after a look at its header: no objects, which run code, and no more than fits."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its format is version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read; save segments_info as json.dumps of it")
    count = 1
    for length in shape:
        count *= length
    if not 0 <= count * max(1, dtype.itemsize // 8) <= most or min(shape, default=0) < 0:
        raise ValueError(f"its shape {shown(shape)} is beyond the limit of {most} numbers")
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise ValueError("it ends too early")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _descriptions(path: Path, text: str | None) -> list[Any]:
    beside = path.with_suffix(".json")
    if text is None:
        content = read_json(beside)
    else:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UnreadableFileError(path, f"expected segments_info as JSON, but {error}") from error
    content = content.get("segments_info") if isinstance(content, dict) else content
    if not isinstance(content, list):
        raise InvalidAnnotationError(f"{path}: expected a list as segments_info, got {shown(content)}")
    return content
