"""Expand images, folders, patterns and videos given by the user to a list of files with unique names."""

from __future__ import annotations

import difflib
import glob
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.file_kinds import is_transport_stream
from panscape.image_files import IMAGE_SUFFIXES
from panscape.input_files import counts_by_suffix, find_files
from panscape.spread import evenly_spread

_logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
    }
)
"""File name suffixes of videos, in lower case."""

_PANELS = "_panels"  # suffix of the name of a sheet of panels
_LONGEST_NAME = 200  # bytes; file systems allow 255, and results append numbers and suffixes


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to predict.

    Attributes:
        path: path of the file.
        name: name of its results, unique among the sources found together.
        fault: why it cannot be predicted, for what is missing, empty or a folder that cannot be listed.
    """

    path: Path
    name: str
    fault: UnreadableFileError | None = None

    @property
    def is_video(self) -> bool:
        """Whether the file has the suffix of a video; every other file is treated as an image."""
        return self.fault is None and self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(given: Sequence[str | Path], *, leave_out: Path | None = None) -> list[SourceFile]:
    """Return the files that the arguments select, in the order given; within a folder or pattern, sorted by path.

    Args:
        given: files; folders, searched recursively for images and videos (hidden ones are skipped); patterns with
            ``*``, ``**``, ``?`` or ``[...]``.
        leave_out: the output folder; files that an earlier run wrote to it are skipped.

    Returns:
        Every file once, even if it was selected twice. Names are the files' stems. Where these clash, ignoring case,
        the suffix is added within one folder, and the names of folders below the common one are added otherwise. Long
        names are cut off. Last come, with their ``fault`` and without a name: files and folders that do not exist,
        folders and patterns without an image or video, and folders that cannot be listed.

    Raises:
        InvalidArgumentError: nothing or an empty name was given, or a file or folder is in the output folder, where
            results might replace it.
        UnreadableFileError: nothing was found; the first ``fault``.
    """
    if not given:
        raise InvalidArgumentError("expected an image, folder, pattern or video, got nothing")
    forbidden = None if leave_out is None else _real(leave_out)
    found: dict[Path, Path] = {}
    faults: dict[Path, UnreadableFileError] = {}
    for one in given:
        for path in _expand(str(one), forbidden, faults):
            found.setdefault(_real(path), path)
    if not found:
        raise next(iter(faults.values()))
    paths = list(found.values())
    failed = {_real(path): SourceFile(path, "", fault) for path, fault in faults.items()}
    return [*map(SourceFile, paths, _unique_names(paths)), *failed.values()]


def images_in(folder: Path, limit: int) -> list[Path]:
    """Return the images of a folder, which is searched recursively.

    Args:
        folder: the folder.
        limit: maximum number of images, which are evenly spread.

    Raises:
        InvalidArgumentError: it has only videos.
        UnreadableFileError: it does not exist, has no image, or a folder in it cannot be listed.
    """
    found = find_sources([folder])
    fault = next((source.fault for source in found if source.fault is not None), None)
    if fault is not None:
        raise fault
    images = [source.path for source in found if not source.is_video]
    if not images:
        raise InvalidArgumentError(f"expected images in {folder}, got only videos; give another folder")
    return [images[i] for i in evenly_spread(len(images), limit)]


def paths_from_common_folder(paths: Sequence[Path]) -> list[str]:
    """Return the paths relative to the deepest common folder of all files, with ``/`` as separator.

    Without a common folder, as on two drives, they are absolute.
    """
    absolute = [Path(os.path.abspath(p)) for p in paths]  # noqa: PTH100 - without ``..``, but links stay as given
    try:
        common = os.path.commonpath([p.parent for p in absolute])
    except ValueError:
        return [p.as_posix() for p in absolute]
    return [p.relative_to(common).as_posix() for p in absolute]


def _expand(given: str, forbidden: Path | None, faults: dict[Path, UnreadableFileError]) -> list[Path]:
    """Return the files of an argument; add it to ``faults`` without any, and its folders that cannot be listed."""
    if not given:  # Path("") would be the working directory
        raise InvalidArgumentError(
            "expected an image, folder, pattern or video, got an empty name; use . for this folder"
        )
    path = Path(given)
    if _lies_in(path, forbidden) and os.path.lexists(path):
        raise InvalidArgumentError(f"{path} is in the output folder {forbidden}; choose another output folder")
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises an error for names that are too long
        unlisted: dict[Path, UnreadableFileError] = {}
        files = [p for p in find_files(path, faults=unlisted) if not _lies_in(p, forbidden)]
        faults |= {folder: fault for folder, fault in unlisted.items() if not _lies_in(folder, forbidden)}
        wanted = _wanted_of(files, given)
        if not wanted and not unlisted:
            what = f"no image or video, but {counts_by_suffix(files)}" if files else "an empty one"
            faults[path] = UnreadableFileError(
                path,
                f"expected a folder with images or videos, got {what}; supported are the usual formats of images ("
                "JPEG, PNG, TIFF, WebP, AVIF, HEIC, JPEG 2000, ...) and videos (MP4, MOV, AVI, ...)",
            )
        return wanted
    if os.path.lexists(path):
        return [path]
    if glob.has_magic(given):
        matches = sorted(Path(m) for m in glob.glob(given, recursive=True))  # noqa: PTH207 - Path.glob is relative
        files = [m for m in matches if not m.name.startswith(".") and not m.is_dir() and not _lies_in(m, forbidden)]
        wanted = _wanted_of(files, given)
        if not wanted:
            faults[path] = UnreadableFileError(path, "no image or video matches this pattern; check it, and quote it")
        return wanted
    if "://" in given:
        reason = "URLs are not supported; download the file and give its path"
    else:
        reason = f"no such file or folder{_nearest(path)} (working directory {Path.cwd()})"
    faults[path] = UnreadableFileError(given, reason)
    return []


def _wanted_of(files: Sequence[Path], given: str) -> list[Path]:
    wanted = [p for p in files if _is_wanted(p)]
    if wanted and len(wanted) < len(files):
        others = counts_by_suffix(set(files) - set(wanted))
        _logger.info("%s: skipped files without the suffix of an image or video: %s", given, others)
    return wanted


def _is_wanted(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES and (suffix != ".ts" or is_transport_stream(path))


def _lies_in(path: Path, folder: Path | None) -> bool:
    return folder is not None and _real(path).is_relative_to(folder)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises an error for a link to itself


def _nearest(path: Path) -> str:
    """Return a hint at a sibling with a similar name, or an empty string."""
    siblings: list[str] = []
    with suppress(OSError):
        siblings = os.listdir(path.parent)  # noqa: PTH208 - names are enough
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return a unique name for each path, such that ``<name>_panels`` does not clash either."""
    stems = Counter((p.parent, name_key(p.stem)) for p in paths)
    bases = [f"{p.stem}_{p.suffix[1:]}" if p.suffix and _has_twin(p, stems) else p.stem for p in paths]
    names = list(bases)
    parents = [Path(path).parent for path in paths_from_common_folder(paths)]
    folders = [[part for part in parent.parts if part != parent.anchor] for parent in parents]
    for depth in range(1, max((len(f) for f in folders), default=0) + 1):
        clashing = _helped_by_folders(_clashing(names), names, paths)
        if not clashing:
            break
        for i in clashing:
            names[i] = "_".join([*folders[i][-depth:], bases[i]])
    names = [_shortened(name) for name in names]
    # The remaining ones are in one folder (a.png, a.jpg and a_png.gif), are equal once joined (a_b/c and a/b_c), or
    # differ after the longest name only.
    for i in sorted(_clashing(names)):
        stem, number = names[i], 2
        if i not in _clashing(names[: i + 1]):
            continue
        while i in _clashing(names):
            names[i] = f"{stem}_{number}"
            number += 1
    return names


def _shortened(name: str) -> str:
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONGEST_NAME else encoded[:_LONGEST_NAME].decode(errors="ignore")


def _has_twin(path: Path, stems: Mapping[tuple[Path, str], int]) -> bool:
    """Return whether the stem of the path or of its panels clashes with another file of the same folder."""
    key = name_key(path.stem)
    owner = key.removesuffix(_PANELS)
    is_taken = (path.parent, key + _PANELS) in stems or (owner != key and (path.parent, owner) in stems)
    return is_taken or stems[path.parent, key] > 1


def _helped_by_folders(clashing: set[int], names: Sequence[str], paths: Sequence[Path]) -> list[int]:
    """Return those of ``clashing`` that clash with a file of another folder."""
    parents: dict[str, set[Path]] = {}
    for i in clashing:
        parents.setdefault(name_key(names[i]).removesuffix(_PANELS), set()).add(paths[i].parent)
    return [i for i in clashing if len(parents[name_key(names[i]).removesuffix(_PANELS)]) > 1]


def _clashing(names: Sequence[str]) -> set[int]:
    """Return the names that clash on some file system, as a COCO image id, or with the name of a sheet of panels."""
    keys = [name_key(n) for n in names]
    count = Counter(keys)
    return {
        i
        for i, key in enumerate(keys)
        if count[key] > 1 or key + _PANELS in count or (key.endswith(_PANELS) and key.removesuffix(_PANELS) in count)
    }


def name_key(name: str) -> str:
    """Return a key that is equal for names which clash on some file system or as a COCO image id."""
    return str(int(name)) if name.isdecimal() else name.casefold()
