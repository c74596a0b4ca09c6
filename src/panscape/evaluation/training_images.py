"""The images of a training, recorded in its run directory, and those of an evaluation that are among them."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from panscape.atomic_io import write_json
from panscape.datasets.base import PanopticDataset
from panscape.errors import InvalidArgumentError
from panscape.input_files import load_json

TRAINING_IMAGES = "training_images.json"
"""Name of the record in a run directory."""

_SAMPLE = 4096  # bytes from the middle of a file; equal ones are compared as a whole


def record_training_images(run: Path, dataset: PanopticDataset) -> None:
    """Write the names and sizes of the image files of a dataset; nothing if they are not known, as of synthetic scenes.

    Args:
        run: the run directory.
        dataset: the training images.

    Raises:
        OSError: the record cannot be written.
    """
    files = [(path, size) for path in _image_paths(dataset) if (size := _size(path)) is not None]
    if files:
        folder = os.path.commonpath([path.parent for path, _ in files])
        images = [[path.relative_to(folder).as_posix(), size] for path, size in files]
        write_json(run / TRAINING_IMAGES, {"folder": folder, "images": images})


def seen_in_training(run: Path, dataset: PanopticDataset) -> list[Path]:
    """Return the image files of a dataset whose content is that of a training image of a run.

    If a training image no longer exists, a file of its name and size counts as equal.

    Args:
        run: the run directory; without a record, no image was seen.
        dataset: the images of an evaluation.

    Raises:
        InvalidArgumentError: the record has another content.
        UnreadableFileError: it is no JSON.
    """
    record = run / TRAINING_IMAGES
    if not record.is_file():
        return []
    content = load_json(record)
    trained = defaultdict[int, list[Path]](list)
    try:
        for name, size in content["images"]:
            trained[int(size)].append(Path(content["folder"], name))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"{record}: expected the record of the training images of a run, got something else; remove the file to "
            "evaluate without it"
        ) from error
    found: list[Path] = []
    samples: dict[int, dict[bytes | None, list[Path]]] = {}
    for path in _image_paths(dataset):
        size = _size(path)
        if size is not None and size in trained:
            if size not in samples:
                samples[size] = _by_sample(trained[size], size)
            same_sample = samples[size].get(_sample(path, size), [])
            lost = samples[size].get(None, [])
            if any(path == other or filecmp.cmp(path, other, shallow=False) for other in same_sample) or any(
                path.name == other.name for other in lost
            ):
                found.append(path)
    return found


def _image_paths(dataset: PanopticDataset) -> Sequence[Path]:
    return [Path(os.path.abspath(file.path)) for file in getattr(dataset, "image_files", ())]  # noqa: PTH100 - keeps links


def _by_sample(paths: Iterable[Path], size: int) -> dict[bytes | None, list[Path]]:
    found = defaultdict[bytes | None, list[Path]](list)
    for path in paths:
        found[_sample(path, size)].append(path)
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # raised again when the image is used
        return None


def _sample(path: Path, size: int) -> bytes | None:
    """Return bytes from the middle of a file; None if it cannot be read or has another size by now."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                return None
            file.seek(size // 2)
            return file.read(_SAMPLE)
    except OSError:
        return None
