"""The output folder of a prediction: overlays, maps in COCO panoptic format, and the record of what made them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from panscape.atomic_io import remove_leftovers
from panscape.errors import InvalidArgumentError, UnwritableFileError, listed
from panscape.folder_lock import FolderLock
from panscape.formats.coco_writer import CocoPanopticWriter, WrittenMap
from panscape.image_files import IMAGE_SUFFIXES
from panscape.image_io import MAX_JPEG_SIDE, write_jpeg, write_png
from panscape.inference.result_log import LOG_NAME, LoggedResult, ResultLog, differences, digest_of, stamp
from panscape.inference.results import FileResult, restored
from panscape.inference.sources import SourceFile, name_key, paths_from_common_folder
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.notes import note_once
from panscape.serialization import to_plain
from panscape.visualize.draw_arrays import draw_overlay

_logger = logging.getLogger(__name__)

ImageFormat = Literal["png", "jpeg"]


class OutputFolder:
    """Writes results, and records what made them, so that a later run skips what it would make again.

    A context manager that keeps other processes out of the folder; its block begins with :meth:`begin`. Images, maps
    and sheets may be written by several threads at the same time.

    Layout: ``<name>.jpg`` (or ``.png``) is the overlay, ``panoptic/<name>.png`` the map, ``panoptic.json`` describes
    all maps (both in COCO panoptic format), ``<name>_panels.jpg`` (or ``.png``) is a sheet of the network's outputs,
    ``<name>.mp4`` the overlay of a video; ``predictions.jsonl`` is the record. Every file is written completely or not
    at all. ``panoptic.json`` is written at the end, also after an error or an interruption. It contains the maps of
    earlier runs, and at no time one that was replaced.

    ``file_name`` of an image in ``panoptic.json`` is its path relative to the common folder of all sources. For a video
    frame it is the name of the map, in a folder named like the video's path.

    Args:
        folder: created if it does not exist.
        labels: label space of the maps.
        style: options of :func:`panscape.draw` for the overlays, by name.
        legend: append a legend to the overlays of images, not of videos.
        image_format: encoding of the overlays of images and of the sheets.

    Raises:
        InvalidArgumentError: the path of the folder is a file, or an option of the overlays has an invalid value.
        UnwritableFileError: the folder cannot be created.
    """

    def __init__(
        self,
        folder: Path,
        labels: LabelSpace,
        *,
        style: Mapping[str, Any] | None = None,
        legend: bool = False,
        image_format: ImageFormat = "jpeg",
    ) -> None:
        self.labels = labels
        self._style: Callable[..., NDArray[np.uint8]] = partial(draw_overlay, **(style or {}))
        nothing = MapArrays(np.zeros((1, 1), np.int32), np.zeros(0, np.int64))
        self.overlay(np.zeros((3, 1, 1), np.uint8), nothing)  # checks the options
        make_folder(folder, "results")
        self.folder = folder
        self._legend = legend
        self._image_format = image_format
        self._options: dict[str, Any] = {**(style or {}), "legend": legend, "image_format": image_format}
        self._options["labels"] = f"{labels.name} {digest_of(labels.to_dict())}"
        self._json = folder / "panoptic.json"
        self._maps: CocoPanopticWriter | None = None
        log = folder / LOG_NAME
        if self._json.is_dir() or log.is_dir() or (folder / "panoptic").is_file():
            raise InvalidArgumentError(
                f"expected panoptic as a folder, and {self._json.name} and {log.name} as files, but one of "
                f"these names is taken by another kind in {folder}; give another --out"
            )
        self._digest = ""
        self._outdated: set[str] = set()  # keys of results that this run replaces, while panoptic.json has them
        self._is_described = False  # whether panoptic.json lists all maps
        self._lock = threading.Lock()
        self._folder_lock = FolderLock(folder / "predictions.lock", "prediction")

    def begin(
        self,
        sources: Sequence[SourceFile],
        options: Mapping[str, Any],
        *,
        provenance: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> dict[SourceFile, FileResult]:
        """Return the results of earlier runs that this run would make again.

        Args:
            sources: the sources of the run.
            options: what determines the maps, as plain JSON values by name.
            provenance: that of the maps; recorded, but not compared, as weights may have several names.
            overwrite: return none, and accept with a warning that maps of another label space are no longer described.

        Raises:
            InvalidArgumentError: ``panoptic.json`` is not of earlier runs, or contains maps of another label space that
                this run does not replace; not with ``overwrite``.
        """
        remove_leftovers(self.folder)
        remove_leftovers(self.folder / "panoptic")
        self._options |= options
        earlier = {source: self._log.get(source.name) for source in sources}
        self._require_compatible({result.name for result in earlier.values() if result}, overwrite)
        self._digest = digest_of(self._options)
        if provenance is not None:
            self._options["provenance"] = dict(provenance)
        done = [] if overwrite else [s for s in sources if self._log.is_done(s, self._digest)]
        replaced = {s: result for s, result in earlier.items() if result is not None and s not in set(done)}
        self._report(replaced, overwrite)
        self._outdated = {name_key(result.name) for result in replaced.values()}
        self._is_described = self._json.is_file()
        return {s: restored(result.result, s, self.folder) for s in done if (result := earlier[s]) is not None}

    def num_done(self, sources: Sequence[SourceFile]) -> int:
        """Return how many sources have complete results that this run, or one with the same options, has written."""
        return sum(self._log.is_done(source, self._digest) for source in sources)

    def _require_compatible(self, replaced: set[str], overwrite: bool) -> None:
        """Raise, or warn if it may, if ``panoptic.json`` contains what this run would remove from it."""
        if not self._json.exists():
            return
        others = [r for r in self._log.results if r.maps and r.name not in replaced and not self._fits(r)]
        if not self._log.results:
            found = f"{self._json} was not written by panscape predict"
        elif others:
            found = (
                f"{self._json} describes maps of {len(others)} other sources, such as {others[0].name}, with other "
                "categories than this model's"
            )
        else:
            return
        if not overwrite:
            raise InvalidArgumentError(f"{found}; give another --out, or replace it with --overwrite")
        _logger.warning("%s; --overwrite removes them from it, and keeps their files", found)

    def _fits(self, result: LoggedResult) -> bool:
        """Return whether results have the label space of this run."""
        return bool(self._log.options_of(result).get("labels") == self._options["labels"])

    def _report(self, replaced: Mapping[SourceFile, LoggedResult], overwrite: bool) -> None:
        """Log what this run replaces, and why."""
        others = [r for s, r in replaced.items() if r.source != self._log.source(s)]
        if others:
            _logger.warning(
                "replacing the results of %d other files of the same names in %s, such as those of %s",
                len(others),
                self.folder,
                os.path.normpath(self.folder / others[0].source),
            )
        changed = [r for r in replaced.values() if r not in others and r.options != self._digest]
        if changed and not overwrite:
            names = sorted({name for r in changed for name in differences(self._log.options_of(r), self._options)})
            what = f" ({listed(names)})" if names else ""
            _logger.info("%d results in %s are of other options%s; predicting again", len(changed), self.folder, what)

    def __enter__(self) -> Self:
        """Lock the folder, and read its record.

        Raises:
            InvalidArgumentError: another process writes into the folder.
            UnwritableFileError: the folder cannot be written.
        """
        self._folder_lock.acquire()
        try:
            self._log = ResultLog(self.folder)
        except BaseException:
            self._folder_lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._digest and not self._is_described:
                self._describe()
            self._log.close()
        except OSError:
            if error is None:
                raise
        finally:
            self._folder_lock.close()

    def replace(self, name: str) -> None:
        """Record that results of this name are about to be written."""
        with self._lock:
            if name_key(name) in self._outdated:  # once, not for every map
                self._describe(self._outdated)
                self._outdated = set()
            self._is_described = False
        self._log.remove(name)

    def finish(
        self,
        source: SourceFile,
        result: FileResult | None,
        files: Iterable[Path] = (),
        maps: Iterable[WrittenMap] = (),
    ) -> None:
        """Record the results of a source; ``result`` is None if they are not complete."""
        maps = list(maps)
        fields = {} if result is None else to_plain(result)
        for key in ("overlay", "map"):
            if fields.get(key):
                fields[key] = self._relative(fields[key])
        written = {self._relative(path): path.stat().st_size for path in (*files, *(m.path for m in maps))}
        self._log.add(
            LoggedResult(
                name=source.name,
                source=self._log.source(source),
                stamp=stamp(source.path),
                options=self._digest,
                is_complete=result is not None,
                files=written,
                maps=[[m.image, m.annotation] for m in maps],
                result=fields,
            ),
            self._options,
        )

    def _relative(self, path: str | Path) -> str:
        return Path(path).relative_to(self.folder).as_posix()

    def _describe(self, without: Collection[str] = ()) -> None:
        """Write ``panoptic.json``, if there is any map.

        Args:
            without: keys of the names of results that are left out.
        """
        results = [r for r in self._log.results if name_key(r.name) not in without and self._fits(r)]
        if not any(r.maps for r in results) and not self._json.is_file():
            return
        writer = CocoPanopticWriter(self._json, self.folder / "panoptic", self.labels)
        paths = paths_from_common_folder([self.folder / r.source for r in results])
        for path, result in zip(paths, results, strict=True):
            made_by = self._log.options_of(result).get("provenance")
            for image, annotation in result.maps:
                png = annotation["file_name"]
                if not (writer.folder / png).is_file():  # the user has removed it
                    continue
                name = path if png == f"{result.name}.png" else f"{path}/{png}"
                writer.record(WrittenMap(writer.folder / png, image | {"file_name": name}, annotation, made_by))
        writer.close()
        self._is_described = True

    def overlay(self, image: NDArray[np.uint8], result: MapArrays, *, legend: bool = False) -> NDArray[np.uint8]:
        """Draw a map over its image, uint8 [3, H, W], with the folder's options; uint8 [H, W, 3]."""
        return self._style(image, result, self.labels, legend=legend)

    def write_map(self, name: str, result: MapArrays) -> WrittenMap:
        """Write a map."""
        with self._lock:
            if self._maps is None:  # creates the folder
                self._maps = CocoPanopticWriter(self._json, self.folder / "panoptic", self.labels)
        return self._maps.write_png(name, result)

    def write_overlay(self, name: str, image: NDArray[np.uint8], result: MapArrays) -> Path:
        """Draw a map over its image and write the overlay."""
        return self.save_overlay(name, self.overlay(image, result, legend=self._legend))

    def save_overlay(self, name: str, overlay: NDArray[np.uint8]) -> Path:
        """Write an overlay, uint8 [H, W, 3]."""
        return self._save(name, overlay)

    def write_panels(self, name: str, image: NDArray[np.uint8], result: MapArrays, panels: Mapping[str, Any]) -> Path:
        """Write image, outputs (tensors by name), map and overlay as one sheet."""
        from panscape.inference.debug_sheet import debug_sheet_pixels

        return self._save(f"{name}_panels", debug_sheet_pixels(image, result, self.labels, panels))

    def _save(self, name: str, pixels: NDArray[np.uint8]) -> Path:
        encoding = self._image_format
        if encoding == "jpeg" and max(pixels.shape) > MAX_JPEG_SIDE:
            encoding = "png"
            note_once(name, f"its overlay is a PNG, as sides of a JPEG have at most {MAX_JPEG_SIDE} pixels")
        suffix, save = ("png", write_png) if encoding == "png" else ("jpg", write_jpeg)
        path = self.folder / f"{name}.{suffix}"
        save(path, pixels)
        return path


def require_folder(folder: Path, purpose: str) -> None:
    """Check that a path is a folder or can become one.

    Raises:
        InvalidArgumentError: as :func:`make_folder`.
    """
    if folder.suffix.lower() in IMAGE_SUFFIXES and not folder.exists():
        raise InvalidArgumentError(
            f"expected a folder for {purpose}, got {folder}, the name of an image; give a folder, in which "
            "results are named like their sources"
        )
    for path in (folder, *folder.parents):
        if os.path.lexists(path) and not path.is_dir():
            raise InvalidArgumentError(f"expected a folder for {purpose}, but {path} is a file; give another --out")


def make_folder(folder: Path, purpose: str) -> None:
    """Create a folder and its parents if they do not exist.

    Raises:
        InvalidArgumentError: the path or a parent is a file, or a new folder would have the name of an image; the
            message contains ``purpose``.
        UnwritableFileError: the folder cannot be created.
    """
    require_folder(folder, purpose)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableFileError(folder, f"{error.strerror or error}; give another --out") from error
