"""Expand images, folders, patterns and videos given by the user to a list of files with unique names."""

from __future__ import annotations

import difflib
import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.images import IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
"""File name suffixes of videos, in lower case."""

_PANELS = "_panels"  # suffix of the name of a sheet of panels


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to predict.

    Attributes:
        path: path of the file.
        name: name of its results, unique among the sources found together.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the file has the suffix of a video; every other file is treated as an image."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(given: Sequence[str | Path], *, leave_out: Path | None = None) -> list[SourceFile]:
    """Return the files that the arguments select, in the order given; within a folder or pattern, sorted by path.

    Args:
        given: files; folders, searched recursively for images and videos (hidden ones are skipped); patterns with
            ``*``, ``**``, ``?`` or ``[...]``.
        leave_out: the output folder; files that an earlier run wrote to it are skipped.

    Returns:
        Every file once, even if it was selected twice. Names are the files' stems. Where these clash, ignoring case,
        the suffix is added within one folder, and the names of folders are added otherwise.

    Raises:
        InvalidArgumentError: nothing was given, a folder or pattern has no image or video, or a file or folder is in
            the output folder, where results might replace it.
        UnreadableFileError: a file or folder does not exist, or a folder cannot be listed.
    """
    if not given:
        raise InvalidArgumentError("expected an image, folder, pattern or video, got nothing")
    forbidden = leave_out.resolve() if leave_out is not None else None
    found: dict[Path, Path] = {}
    for one in given:
        for path in _expand(str(one), forbidden):
            found.setdefault(path.resolve(), path)
    paths = list(found.values())
    return [SourceFile(path, name) for path, name in zip(paths, _unique_names(paths), strict=True)]


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


def _expand(given: str, forbidden: Path | None) -> list[Path]:
    path = Path(given)
    if path.exists() and _lies_in(path, forbidden):
        raise InvalidArgumentError(f"{path} is in the output folder {forbidden}; choose another output folder")
    if path.is_dir():
        paths = [p for p in _walk(path) if not _lies_in(p, forbidden)]
        if not paths:
            raise InvalidArgumentError(
                f"found no image or video in the folder {path} or its subfolders; "
                f"supported suffixes are {', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))}"
            )
        return paths
    if path.exists():
        return [path]
    if glob.has_magic(given):
        matches = sorted(Path(m) for m in glob.glob(given, recursive=True))  # noqa: PTH207 - Path.glob is relative
        files = [m for m in matches if m.is_file() and _is_wanted(m) and not _lies_in(m, forbidden)]
        if not files:
            raise InvalidArgumentError(f"no image or video matches the pattern {given!r}; check it, and quote it")
        return files
    if "://" in given:
        raise UnreadableFileError(given, "URLs are not supported; download the file and give its path")
    raise UnreadableFileError(given, f"no such file or folder{_nearest(path)} (working directory {Path.cwd()})")


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UnreadableFileError(error.filename, f"cannot list this folder: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (p for p in sorted(Path(parent, f) for f in files) if _is_wanted(p))


def _is_wanted(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _lies_in(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder)


def _nearest(path: Path) -> str:
    """Return a hint at a sibling with a similar name, or an empty string."""
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return a unique name for each path, such that ``<name>_panels`` does not clash either."""
    stems = Counter((p.parent, _key(p.stem)) for p in paths)
    bases = [f"{p.stem}_{p.suffix[1:]}" if p.suffix and _has_twin(p, stems) else p.stem for p in paths]
    names = list(bases)
    folders = [[part for part in p.absolute().parent.parts if part != p.absolute().anchor] for p in paths]
    for depth in range(1, max((len(f) for f in folders), default=0) + 1):
        clashing = _helped_by_folders(_clashing(names), names, paths)
        if not clashing:
            break
        for i in clashing:
            names[i] = "_".join([*folders[i][-depth:], bases[i]])
    # The remaining ones are in one folder (a.png, a.jpg and a_png.gif), or are equal once joined (a_b/c and a/b_c).
    for i in sorted(_clashing(names)):
        stem, number = names[i], 2
        if i not in _clashing(names[: i + 1]):
            continue
        while i in _clashing(names):
            names[i] = f"{stem}_{number}"
            number += 1
    return names


def _has_twin(path: Path, stems: Mapping[tuple[Path, str], int]) -> bool:
    """Return whether the stem of the path or of its panels clashes with another file of the same folder."""
    key = _key(path.stem)
    owner = key.removesuffix(_PANELS)
    is_taken = (path.parent, key + _PANELS) in stems or (owner != key and (path.parent, owner) in stems)
    return is_taken or stems[path.parent, key] > 1


def _helped_by_folders(clashing: set[int], names: Sequence[str], paths: Sequence[Path]) -> list[int]:
    """Return those of ``clashing`` that clash with a file of another folder."""
    parents: dict[str, set[Path]] = {}
    for i in clashing:
        parents.setdefault(_key(names[i]).removesuffix(_PANELS), set()).add(paths[i].parent)
    return [i for i in clashing if len(parents[_key(names[i]).removesuffix(_PANELS)]) > 1]


def _clashing(names: Sequence[str]) -> set[int]:
    """Return the names that clash on some file system, as a COCO image id, or with the name of a sheet of panels."""
    keys = [_key(n) for n in names]
    count = Counter(keys)
    return {
        i
        for i, key in enumerate(keys)
        if count[key] > 1 or key + _PANELS in count or (key.endswith(_PANELS) and key.removesuffix(_PANELS) in count)
    }


def _key(name: str) -> str:
    return str(int(name)) if name.isdecimal() else name.casefold()
