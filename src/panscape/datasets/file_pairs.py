"""Match images and annotations by name; missing files are reported before training starts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from panscape.datasets.base import Sample
from panscape.errors import InvalidAnnotationError, UnreadableFileError, shown
from panscape.formats.keys import city_key_of, key_of, match_keys
from panscape.formats.reading.base import AnnotationSource, Entry
from panscape.images import IMAGE_SUFFIXES, exif_orientation, load_image
from panscape.input_files import FileFolder, FileNameError, counts_by_suffix, find_files
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


class Pair(NamedTuple):
    """An image and its annotation on disk.

    Attributes:
        name: identifies both within their dataset.
        image: path of the image.
        truth: the annotation.
    """

    name: str
    image: Path
    truth: Entry


def files_by_name(
    folder: Path,
    layout: str,
    *,
    ending: str = "",
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    is_recursive: bool = False,
    with_folders: bool = False,
) -> dict[str, Path]:
    """Return the files of a folder by name, the stem without ``ending``.

    Args:
        folder: the folder.
        layout: expected layout of the dataset, for the error message.
        ending: of the stems; other files are ignored, like hidden ones. The case of names does not matter.
        suffixes: of the files, in lower case.
        is_recursive: search subfolders too.
        with_folders: names include the subfolders, as in ``"city/photo"``.

    Raises:
        UnreadableFileError: the folder does not exist or has no matching file; the message counts others by suffix.
        InvalidAnnotationError: two files have the same name.
    """
    if not folder.is_dir():
        raise UnreadableFileError(folder, f"no such folder; expected {layout}")
    found: dict[str, Path] = {}
    for path in find_files(folder, suffixes, ending, is_recursive=is_recursive):
        stem = path.relative_to(folder).with_suffix("").as_posix() if with_folders else path.stem
        name = stem[: len(stem) - len(ending)]
        if name in found:
            raise InvalidAnnotationError(
                f"{path}: expected one file called {name!r}, got {found[name].name} too; rename or remove one"
            )
        found[name] = path
    if not found:
        what = f"NAME{ending}" if ending else "images" if suffixes is IMAGE_SUFFIXES else "files"
        listed = "" if suffixes is IMAGE_SUFFIXES else f" ({', '.join(sorted(suffixes))})"
        raise UnreadableFileError(
            folder, f"expected {what}{listed}, found {counts_by_suffix(find_files(folder))}; expected {layout}"
        )
    return found


def pair_files(
    images: Mapping[str, Path], truths: Mapping[str, Entry], annotation_of: Callable[[Path], Path], folder: Path
) -> list[Pair]:
    """Return the pairs, sorted by name. Names that match nothing exactly may differ in case.

    Args:
        images: paths by name.
        truths: annotations by name.
        annotation_of: returns the expected path of an image's annotation, for the error message.
        folder: the folder of the images, for the error message.

    Raises:
        InvalidAnnotationError: an image has no annotation, or an annotation no image.
    """
    left = {name.casefold(): name for name in truths.keys() - images.keys()}
    truth_of = {name: truths.get(name) or truths.get(left.get(name.casefold(), "")) for name in images}
    unmatched = sorted(name for name, truth in truth_of.items() if truth is None)
    if unmatched:
        image = images[unmatched[0]]
        remedy = _remedy(unmatched, f"{len(images)} images", "add them, or remove the image")
        if len(unmatched) == len(images) > 1 and truths:
            remedy = f", nor any of the {len(images)} images; name them like these, not {min(truths)!r}"
        raise InvalidAnnotationError(f"{image}: expected its labels at {annotation_of(image)}, found none{remedy}")
    pairs = [Pair(name, images[name], truth) for name, truth in sorted(truth_of.items()) if truth is not None]
    unmatched = sorted(truths.keys() - {pair.truth.name for pair in pairs})
    if unmatched:
        raise InvalidAnnotationError(
            f"{truths[unmatched[0]].file}: expected the image {unmatched[0]!r} in {folder}, found none"
            f"{_remedy(unmatched, f'{len(truths)} label files', 'add it, or remove the labels')}"
        )
    return pairs


def with_plain_names(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs without the folders in their names, unless two would have the same name."""
    times = Counter(Path(pair.name).name for pair in pairs)
    return [
        pair._replace(name=plain if times[plain := Path(pair.name).name] == 1 else pair.name.replace("/", "_"))
        for pair in pairs
    ]


def listed_files(folder: Path, names: Sequence[object], json_path: Path) -> list[Path]:
    """Return the paths of files that the JSON of a dataset lists; links in the folder are followed.

    Raises:
        UnreadableFileError: a name leaves the folder, or files are missing; the message has their number.
    """
    found = FileFolder(folder, follow_links=True)
    try:
        paths = [found.find(name) for name in names]
    except FileNameError as error:
        raise UnreadableFileError(json_path, str(error).removeprefix(f"{folder}: ")) from error
    missing = [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113 - Path.is_file raises without permission
    if missing:
        others = f", nor {len(missing) - 1} more of its {len(paths)} files" if len(missing) > 1 else ""
        remedy = "; unpack the archive again, or give the right folder" if others else "; check the folder"
        raise UnreadableFileError(missing[0], f"no such file, but {json_path} lists it{others}{remedy}")
    return paths


def pair_with_images(source: AnnotationSource, folder: Path) -> list[Pair]:
    """Return the annotations of a source with their images, in its order.

    The images are those that the source lists. If it lists none that exists, as in the JSON of Cityscapes' own
    preparation, they are found by the names of the annotations.

    Raises:
        UnreadableFileError: a listed image or a PNG is missing, or its name leaves its folder.
        InvalidAnnotationError: an annotation has no image.
    """
    listed = [entry.image for entry in source.entries]
    known = FileFolder(folder, follow_links=True)
    if not any(_exists(known, name) for name in listed) and (images := _images_by_key(source, folder)):
        return [Pair(entry.name, path, entry) for entry, path in zip(source.entries, images, strict=True)]
    for entry in source.entries:
        if entry.image is None:
            raise InvalidAnnotationError(
                f"{source.path}: expected image {shown(entry.keys[0])} in 'images', since it has an annotation; add "
                "it, or remove the annotation"
            )
    paths = listed_files(folder, listed, source.path)
    return [Pair(entry.name, path, entry) for entry, path in zip(source.entries, paths, strict=True)]


def _exists(folder: FileFolder, name: str | None) -> bool:
    try:
        return name is not None and folder.find(name).is_file()
    except FileNameError:
        return True  # reported as such


def _images_by_key(source: AnnotationSource, folder: Path) -> list[Path]:
    """Return the images of all entries by the names of their annotations; empty if one has none."""
    files = find_files(folder, IMAGE_SUFFIXES) if folder.is_dir() else []
    stems = [path.relative_to(folder).with_suffix("").as_posix() for path in files]
    keys = [(key_of(stem), city_key_of(Path(stem).name)) for stem in stems]
    places = match_keys([(entry.keys[1], entry.keys[-1]) for entry in source.entries], keys)
    return [] if None in places else [files[place] for place in places if place is not None]


def load_truth(pair: Pair, source: AnnotationSource, labels: LabelSpace) -> PanopticMap:
    """Read the ground truth of a pair, a map of ``labels``.

    Raises:
        UnreadableFileError: a file is missing or damaged.
        InvalidAnnotationError: the annotation contradicts itself.
    """
    return replace(source.read(pair.truth, labels).require_map(), labels=labels)


def load_pair(
    pair: Pair,
    source: AnnotationSource,
    labels: LabelSpace,
    *,
    apply_orientation: bool = True,
    bit_depth: int | None = None,
) -> Sample:
    """Read image and ground truth of a pair.

    Args:
        pair: the files.
        source: of the ground truth.
        labels: the categories.
        apply_orientation: see :func:`panscape.images.load_image`.
        bit_depth: likewise.

    Raises:
        UnreadableFileError: a file is missing or damaged.
        InvalidAnnotationError: the annotation contradicts itself, or differs from the image in size.
    """
    truth = load_truth(pair, source, labels)
    image = load_image(pair.image, apply_orientation=apply_orientation, bit_depth=bit_depth)
    height, width = image.shape[1:]
    if truth.size != (height, width):
        orientation = exif_orientation(pair.image)
        remedy = "do not resize them; find the labels of this image"
        if truth.size == (width, height) and orientation != 1:
            option = "--data.no-apply-orientation" if apply_orientation else "--data.apply-orientation"
            remedy = f"the image has EXIF orientation {orientation}: if the labels are right otherwise, use {option}"
        raise InvalidAnnotationError(
            f"{pair.truth.file}: expected labels of {height}x{width} pixels like {pair.image}, "
            f"got {truth.size.height}x{truth.size.width}; {remedy}"
        )
    return Sample(image, truth, pair.name)


def _remedy(unmatched: Sequence[str], of: str, remedy: str) -> str:
    others = len(unmatched) - 1
    return f", nor for {others} more of the {of}; unpack the archive again, or {remedy}" if others else f"; {remedy}"
