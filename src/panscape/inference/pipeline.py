"""Predict many files: read, predict, write and report each one; a file that fails does not stop the others.

Only the network and post-processing run in the caller's thread. One thread reads ahead; others draw, encode and write.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.atomic_io import atomic_write
from panscape.errors import PanscapeError, in_one_line
from panscape.formats.coco_writer import WrittenMap
from panscape.geometry import Size
from panscape.image_depth import require_bit_depth
from panscape.image_io import find_bit_depth, read_image
from panscape.inference.familiarity import note_if_unlike
from panscape.inference.image_predictor import ImagePrediction, ImagePredictor
from panscape.inference.ordered_map import ordered_map
from panscape.inference.output_folder import OutputFolder
from panscape.inference.prefetch import prefetch
from panscape.inference.results import FileError, FileResult, ProgressCallback, SegmentResult, Timings
from panscape.inference.sources import SourceFile
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays

if TYPE_CHECKING:
    from panscape.inference.video import VideoFrame

_logger = logging.getLogger(__name__)

ImageArray = NDArray[np.uint8]  # [3, H, W]

_MAX_WRITERS = 8  # each holds an image, its map and its overlay in memory
# ValueError: names that other libraries cannot encode, and their own checks.
_FILE_ERRORS: Final = (PanscapeError, OSError, ValueError)
_UNUSABLE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@dataclass(slots=True)
class _Tally:
    """Sums over the frames of one source."""

    height: int = 0
    width: int = 0
    frames: int = 0
    segments: int = 0
    things: int = 0
    times: Timings = field(default_factory=Timings)

    def add(self, image: ImageArray, prediction: ImagePrediction, labels: LabelSpace, read_ms: float) -> None:
        """Add a predicted frame."""
        self.frames += 1
        self.height, self.width = image.shape[-2:]
        self.segments += prediction.arrays.num_segments
        self.things += sum(labels[c].is_thing for c in prediction.arrays.category.tolist())
        self.times.read += read_ms
        self.times.network += prediction.network_ms
        self.times.postprocess += prediction.postprocess_ms


class _Image(NamedTuple):
    """A predicted image, to be written."""

    source: SourceFile
    image: ImageArray
    map: MapArrays
    panels: Any
    tally: _Tally


class _Frame(NamedTuple):
    """A predicted frame of a video, to be written; drawing adds ``overlay``, [H, W, 3], and ``written``, the map."""

    map: MapArrays
    number: int
    read: VideoFrame
    overlay: NDArray[np.uint8] | None = None
    written: WrittenMap | None = None
    write_ms: float = 0.0


class PredictionRun:
    """Predicts sources and writes the results to a folder.

    Args:
        predictor: predicts single images.
        outputs: writes the results.
        panels: also write a sheet of the network's outputs for images.
        frame_maps: also write the map of every frame of videos.
        overwrite: predict again what an earlier run with the same options has written.
        bit_depth: of images of 16 bits, see :func:`~panscape.image_io.read_image`; by default the same for all, as
            :func:`~panscape.image_io.find_bit_depth` finds it, and images that exceed it fail.
        writers: number of threads that draw, encode and write; by default one per processor, at most 8.

    Raises:
        InvalidArgumentError: ``bit_depth`` is out of range.
    """

    def __init__(
        self,
        predictor: ImagePredictor,
        outputs: OutputFolder,
        *,
        panels: bool = False,
        frame_maps: bool = False,
        overwrite: bool = False,
        bit_depth: int | None = None,
        writers: int | None = None,
    ) -> None:
        require_bit_depth(bit_depth)
        self._predictor = predictor
        self._outputs = outputs
        self._panels = panels
        self._frame_maps = frame_maps
        self._overwrite = overwrite
        self._bit_depth, self._may_clip = bit_depth, bit_depth is not None
        self._writers = writers or min(_MAX_WRITERS, os.cpu_count() or 1)
        self._is_warm = False
        self._earlier: dict[SourceFile, FileResult] = {}  # what an earlier run has already predicted

    def predict_files(self, sources: Sequence[SourceFile], callback: ProgressCallback) -> list[FileError]:
        """Predict all sources, and report them in their order.

        Returns:
            The sources that failed.

        Raises:
            MissingExtraError: all sources are videos and PyAV is not installed.
            InvalidArgumentError: the device is out of memory, or see :meth:`OutputFolder.begin`.
            OSError: the disk of the output folder is full or read-only.
        """
        if all(s.is_video for s in sources):
            from panscape.inference.video import import_av

            import_av()
        if self._bit_depth is None:
            self._bit_depth = find_bit_depth([s.path for s in sources if not s.is_video])
        own = {"panels": self._panels, "frame_maps": self._frame_maps, "bit_depth": self._bit_depth}
        options = {**self._predictor.options, **own}
        made_by = self._predictor.provenance
        self._earlier = self._outputs.begin(sources, options, provenance=made_by, overwrite=self._overwrite)
        failures = []
        for is_video, group in groupby(sources, key=lambda s: s.is_video):
            same = list(group)
            with closing(self._videos(same, callback) if is_video else self._images(same)) as outcomes:
                for outcome in outcomes:
                    callback.on_result(outcome)
                    if isinstance(outcome, FileError):
                        failures.append(outcome)
        return failures

    def _images(self, sources: Iterable[SourceFile]) -> Generator[FileResult | FileError, None, None]:
        with (
            closing(prefetch(self._read(s) for s in sources)) as items,
            closing(ordered_map(self._write_image, self._predict_images(items), self._writers)) as outcomes,
        ):
            yield from outcomes

    def _read(self, source: SourceFile) -> tuple[SourceFile, ImageArray | FileResult | FileError, float]:
        if source in self._earlier:
            return source, self._earlier[source], 0.0
        if source.fault is not None:
            return source, _error(source.fault, source), 0.0
        started = perf_counter()
        try:
            image = read_image(source.path, bit_depth=self._bit_depth, may_clip=self._may_clip)
        except Exception as error:  # noqa: BLE001 - decoders raise anything on a damaged file
            return source, _error(error, source), 0.0
        return source, image, _milliseconds_since(started)

    def _predict_images(
        self, items: Iterable[tuple[SourceFile, ImageArray | FileResult | FileError, float]]
    ) -> Iterator[_Image | FileResult | FileError]:
        for source, image, read_ms in items:
            if isinstance(image, FileResult | FileError):
                yield image
                continue
            try:
                prediction = self._predict(image, source)
                tally = _Tally()
                tally.add(image, prediction, self._outputs.labels, read_ms)
                started = perf_counter()
                panels = self._predictor.visualize(prediction) if self._panels else None
                tally.times.write += _milliseconds_since(started)
                predicted: _Image | FileError = _Image(source, image, prediction.arrays, panels, tally)
            except _FILE_ERRORS as error:
                predicted = _error(error, source)
            yield predicted

    def _predict(self, image: ImageArray, source: SourceFile) -> ImagePrediction:
        if not self._is_warm:  # else the timings of the first image would include start-up
            self._predictor.warm_up(Size(*image.shape[-2:]))
            self._is_warm = True
        prediction = self._predictor.predict_array(image)
        note_if_unlike(source.path, self._predictor.card, prediction)
        return prediction

    def _write_image(self, item: _Image | FileResult | FileError) -> FileResult | FileError:
        if not isinstance(item, _Image):
            return item
        source, image, result, panels, tally = item
        started = perf_counter()
        try:
            self._outputs.replace(source.name)
            files = [self._outputs.write_overlay(source.name, image, result)]
            written = self._outputs.write_map(source.name, result)
            if panels is not None:
                files.append(self._outputs.write_panels(source.name, image, result, panels))
            tally.times.write += _milliseconds_since(started)
            segments = _segments(written, result, self._outputs.labels)
            done = _done(source, tally, str(files[0]), str(written.path), segments)
            self._outputs.finish(source, done, files, [written])
        except _FILE_ERRORS as error:
            return _error(error, source)
        return done

    def _videos(
        self, sources: Iterable[SourceFile], callback: ProgressCallback
    ) -> Generator[FileResult | FileError, None, None]:
        for source in sources:
            try:
                yield self._earlier.get(source) or self._video(source, callback)
            except _FILE_ERRORS as error:
                yield _error(error, source)

    def _video(self, source: SourceFile, callback: ProgressCallback) -> FileResult:
        from panscape.inference.video import VideoReader
        from panscape.inference.video_writer import VideoWriter

        tally = _Tally()
        path = self._outputs.folder / f"{source.name}.mp4"
        maps: list[WrittenMap] = []

        def draw(frame: _Frame) -> _Frame:
            started = perf_counter()
            written = None
            if self._frame_maps:
                name = f"{source.name}_{frame.number:06d}"
                written = self._outputs.write_map(name, frame.map)
            overlay = self._outputs.overlay(frame.read.image.numpy(), frame.map)
            return frame._replace(overlay=overlay, written=written, write_ms=_milliseconds_since(started))

        def encode(frame: _Frame) -> _Frame:
            started = perf_counter()
            assert frame.overlay is not None  # noqa: S101 - it is drawn
            writer.write_pixels(frame.overlay, frame.read)
            return frame._replace(write_ms=frame.write_ms + _milliseconds_since(started))

        done = None
        try:
            with (
                VideoReader(source.path) as reader,
                atomic_write(path) as temporary,
                VideoWriter(temporary, reader.rate, reader) as writer,
                closing(prefetch(_timed(reader.frames()))) as frames,
                closing(ordered_map(draw, self._predict_frames(frames, tally, source), self._writers)) as drawn,
                closing(ordered_map(encode, drawn, workers=1)) as encoded,  # frames enter the video in order
            ):
                self._outputs.replace(source.name)
                for frame in encoded:
                    tally.times.write += frame.write_ms
                    if frame.written is not None:
                        maps.append(frame.written)
                    callback.on_frame(source, frame.number, reader.num_frames)
            done = _done(source, tally, str(path))
        finally:  # the maps of an interrupted or damaged video are described too
            if done or maps:
                self._outputs.finish(source, done, [path] if done else [], maps)
        return done

    def _predict_frames(
        self, frames: Iterable[tuple[VideoFrame, float]], tally: _Tally, source: SourceFile
    ) -> Iterator[_Frame]:
        for frame, read_ms in frames:
            image = frame.image.numpy()
            prediction = self._predict(image, source)
            tally.add(image, prediction, self._outputs.labels, read_ms)
            yield _Frame(prediction.arrays, tally.frames, frame)


def _timed(frames: Iterator[VideoFrame]) -> Iterator[tuple[VideoFrame, float]]:
    started = perf_counter()
    for frame in frames:
        yield frame, _milliseconds_since(started)
        started = perf_counter()


def _milliseconds_since(started: float) -> float:
    return 1000 * (perf_counter() - started)


def _segments(written: WrittenMap, result: MapArrays, labels: LabelSpace) -> list[SegmentResult]:
    """Describe the segments of a map by what was measured when it was written."""
    found = []
    category = result.category.tolist()
    for segment in written.annotation["segments_info"]:
        index = category[segment["id"] - 1]
        left, top, width, height = segment["bbox"]
        box = (left, top, left + width, top + height)
        name, is_thing = labels[index].name, labels[index].is_thing
        found.append(SegmentResult(segment["id"], index, name, is_thing, segment.get("score"), segment["area"], box))
    return found


def _done(
    source: SourceFile,
    tally: _Tally,
    overlay: str,
    map_path: str | None = None,
    segments: list[SegmentResult] | None = None,
) -> FileResult:
    count = tally.frames
    mean = Timings(**{stage: spent / count for stage, spent in asdict(tally.times).items()})
    num_segments, num_things = (n if count == 1 else round(n / count, 2) for n in (tally.segments, tally.things))
    return FileResult(
        source=str(source.path),
        name=source.name,
        height=tally.height,
        width=tally.width,
        frames=count,
        num_segments=num_segments,
        num_things=num_things,
        times=mean,
        overlay=overlay,
        map=map_path,
        segments=segments,
    )


def _error(error: Exception, source: SourceFile) -> FileError:
    """Return the message in one line, without the path, which is reported separately.

    Raises:
        OSError: the disk of the output folder is full or read-only, so that no file can succeed.
    """
    cause = error if isinstance(error, OSError) and error.errno else error.__cause__
    if isinstance(cause, OSError) and cause.errno in _UNUSABLE_DISK:
        raise error
    _logger.debug("%s", source.path, exc_info=error)
    text = in_one_line(error, str(getattr(error, "path", source.path)))
    is_ours = isinstance(error, PanscapeError)
    return FileError(str(source.path), text if is_ours else f"{type(error).__name__}: {text}")
