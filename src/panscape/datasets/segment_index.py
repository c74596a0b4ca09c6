"""The segments of all images of a dataset in one table, for sampling by category and by size.

The table is built once and kept in the user's cache folder until the annotations change.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.atomic_io import atomic_write
from panscape.datasets.base import MapSources, PanopticDataset
from panscape.datasets.load import OnError, bad_sample, truth_of
from panscape.errors import PanscapeError
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.progress import ProgressBar
from panscape.user_cache import user_cache

_logger = logging.getLogger(__name__)

SEGMENT = np.dtype(
    [
        ("image", "<i4"),
        ("position", "<i4"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("category", "<u2"),
        ("crowd", "?"),
    ]
)
"""One segment in 19 bytes: index of its image in the dataset; its row in the map of the image (see
:class:`~panscape.panoptic.PanopticMap`); width and height of its box, in pixels of the image file; category id; and
whether it is a crowd."""

SegmentTable = NDArray[np.void]
"""Segments of the dtype :data:`SEGMENT` [S], ordered by image and position. All of them have pixels."""


def load_segment_index(
    dataset: PanopticDataset, *, on_error: OnError = "raise", folder: Path | None = None
) -> SegmentTable:
    """Return the segments of all images of a dataset, from the cache if its annotations have not changed.

    They are recognised by the names, sizes and times of their files (``map_sources()`` of the dataset). Tables of
    datasets without that method, and tables that lack skipped images, are not cached. A damaged cache is rebuilt.

    Args:
        dataset: if it has a method ``segments_of(index)`` that returns the segments of an image, as from a JSON, its
            maps are read only where the method returns None.
        on_error: "raise" raises the error of an image that cannot be read; "skip" leaves out its segments.
        folder: of the cache; by default ``segments`` in the user's cache, see :func:`panscape.user_cache.user_cache`.

    Raises:
        BadSampleError: an image cannot be read.
    """
    path = _cache_file(dataset, folder)
    if path is not None and (found := _load(path, len(dataset), len(dataset.labels))) is not None:
        return found
    segments, num_skipped = _read_all(dataset, on_error)
    if path is not None and not num_skipped:
        _save(path, segments)
    return segments


def segments_of_map(truth: PanopticMap) -> SegmentTable:
    """Return the segments of a map that have pixels; their image is 0."""
    rows, boxes = np.flatnonzero(truth.areas().cpu().numpy()), truth.boxes().cpu().numpy()
    segments = np.zeros(len(rows), SEGMENT)
    segments["position"] = rows
    segments["width"], segments["height"] = (boxes[:, 2:] - boxes[:, :2])[rows].T
    segments["category"] = truth.category.cpu().numpy()[rows]
    if truth.crowd is not None:
        segments["crowd"] = truth.crowd.cpu().numpy()[rows]
    return segments


def _read_all(dataset: PanopticDataset, on_error: OnError) -> tuple[SegmentTable, int]:
    """Return the segments and the number of images that were skipped."""
    known = getattr(dataset, "segments_of", None)
    parts, num_skipped = [np.zeros(0, SEGMENT)], 0
    _logger.info("reading the segments of %d training images", len(dataset))
    with ProgressBar("reading segments", len(dataset)) as bar:
        for index in range(len(dataset)):
            try:
                segments = None if known is None else known(index)
                if segments is None:
                    segments = segments_of_map(truth_of(dataset, index))
            except (PanscapeError, OSError) as error:
                if on_error == "raise":
                    raise bad_sample(error, f"image {index} of the dataset") from error
                num_skipped += 1
            else:
                segments["image"] = index
                parts.append(segments)
            bar.update(index + 1)
    return np.concatenate(parts), num_skipped


def _cache_file(dataset: PanopticDataset, folder: Path | None) -> Path | None:
    """Return the path of the cached table; None if it cannot be cached."""
    sources = getattr(dataset, "map_sources", None)
    if sources is None:
        return None
    try:
        if folder is None:
            folder = user_cache() / "segments"
        return folder / f"{_fingerprint(type(dataset).__name__, dataset.labels, sources())}.npy"
    except OSError:  # a file is missing, which its access reports; or there is no home folder
        return None


def _fingerprint(kind: str, labels: LabelSpace, sources: MapSources) -> str:
    categories = [(category.name, category.is_thing, category.source_id) for category in labels]
    head: list[Any] = [version("panscape"), SEGMENT.descr, kind, categories, sources.options]
    digest = hashlib.blake2b(json.dumps(head).encode(), digest_size=16)
    for path in sources.files:
        state = os.stat(path)  # noqa: PTH116 - one call for each of up to a hundred thousand files
        digest.update(f"{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())  # noqa: PTH100
    return digest.hexdigest()


def _load(path: Path, num_images: int, num_categories: int) -> SegmentTable | None:
    """Return a cached table; None if there is none, or if it is damaged."""
    try:
        found: SegmentTable = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if found.dtype != SEGMENT or found.ndim != 1:
        return None
    is_valid = (found["image"] >= 0) & (found["image"] < num_images) & (found["category"] < num_categories)
    is_valid &= (found["position"] >= 0) & (found["width"] > 0) & (found["height"] > 0)
    return found if is_valid.all() else None


def _save(path: Path, segments: SegmentTable) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            np.save(temporary, segments)
    except OSError as error:
        _logger.warning("the segments are read again next time, since %s cannot be written: %s", path, error)
