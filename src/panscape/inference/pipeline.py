"""Predict many files: read, predict, write and report each one; an invalid file does not stop the others.

Only the network and post-processing run in the caller's thread. One thread reads ahead; others draw, encode and write.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import groupby
from time import perf_counter
from typing import Final, NamedTuple

from torch import Tensor

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidArgumentError, PanscapeError, UnreadableFileError
from panscape.formats.coco_files import WrittenMap
from panscape.images import load_image
from panscape.inference.ordered_map import ordered_map
from panscape.inference.output_folder import OutputFolder
from panscape.inference.predictor import Prediction, Predictor
from panscape.inference.prefetch import prefetch
from panscape.inference.results import FileError, FileResult, ProgressCallback, SegmentResult, Timings
from panscape.inference.sources import SourceFile, paths_from_common_folder
from panscape.inference.video import VideoFrame, VideoReader, import_av
from panscape.inference.video_writer import VideoWriter
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

_MAX_WRITERS = 8  # each holds an image, its map and its overlay in memory
_FILE_ERRORS: Final = (UnreadableFileError, InvalidArgumentError)


@dataclass(slots=True)
class _Tally:
    """Sums over the frames of one source."""

    height: int = 0
    width: int = 0
    frames: int = 0
    segments: int = 0
    things: int = 0
    times: Timings = field(default_factory=Timings)

    def add(self, image: Tensor, prediction: Prediction, labels: LabelSpace, read_ms: float) -> None:
        """Add a predicted frame."""
        self.frames += 1
        self.height, self.width = image.shape[-2:]
        self.segments += prediction.map.num_segments
        self.things += sum(labels[c].is_thing for c in prediction.map.category.tolist())
        self.times.read += read_ms
        self.times.network += prediction.network_ms
        self.times.postprocess += prediction.postprocess_ms


class _Image(NamedTuple):
    """A predicted image, to be written."""

    source: SourceFile
    image: Tensor
    map: PanopticMap
    panels: dict[str, Tensor] | None
    tally: _Tally


class _Frame(NamedTuple):
    """A predicted frame of a video, to be written; ``image`` becomes the overlay, and ``written`` the map."""

    image: Tensor
    map: PanopticMap
    number: int
    read: VideoFrame
    written: WrittenMap | None = None
    write_ms: float = 0.0


class PredictionRun:
    """Predicts sources and writes the results to a folder.

    Args:
        predictor: predicts single images.
        outputs: writes the results.
        panels: also write a sheet of the network's outputs for images.
        frame_maps: also write the map of every frame of videos.
        writers: number of threads that draw, encode and write; by default one per processor, at most 8.
    """

    def __init__(
        self,
        predictor: Predictor,
        outputs: OutputFolder,
        *,
        panels: bool = False,
        frame_maps: bool = False,
        writers: int | None = None,
    ) -> None:
        self._predictor = predictor
        self._outputs = outputs
        self._panels = panels
        self._frame_maps = frame_maps
        self._writers = writers or min(_MAX_WRITERS, os.cpu_count() or 1)
        self._recorded: dict[SourceFile, str] = {}  # image paths recorded in panoptic.json

    def predict_files(self, sources: Sequence[SourceFile], callback: ProgressCallback) -> list[FileError]:
        """Predict all sources, and report them in their order.

        Returns:
            The sources that failed.

        Raises:
            MissingExtraError: a source is a video and PyAV is not installed.
            InvalidArgumentError: the device is out of memory.
        """
        if any(s.is_video for s in sources):
            import_av()
        self._recorded = dict(zip(sources, paths_from_common_folder([s.path for s in sources]), strict=True))
        self._predictor.warm_up()  # else the timings of the first source would include start-up
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
            closing(prefetch(_read(s) for s in sources)) as items,
            closing(ordered_map(self._write_image, self._predict_images(items), self._writers)) as written,
        ):
            for outcome, written_map in written:
                if written_map is not None:
                    self._outputs.record(written_map)
                yield outcome

    def _predict_images(
        self, items: Iterable[tuple[SourceFile, Tensor | UnreadableFileError, float]]
    ) -> Iterator[_Image | FileError]:
        for source, image, read_ms in items:
            try:
                if isinstance(image, UnreadableFileError):
                    raise image
                prediction = self._predictor.predict(image)
                tally = _Tally()
                tally.add(image, prediction, self._outputs.labels, read_ms)
                started = perf_counter()
                panels = self._predictor.visualize(prediction) if self._panels else None
                tally.times.write += _milliseconds_since(started)
                predicted: _Image | FileError = _Image(source, image, prediction.map, panels, tally)
            except _FILE_ERRORS as error:
                predicted = _error(error, source)
            yield predicted

    def _write_image(self, item: _Image | FileError) -> tuple[FileResult | FileError, WrittenMap | None]:
        if isinstance(item, FileError):
            return item, None
        source, image, result, panels, tally = item
        started = perf_counter()
        try:
            overlay = self._outputs.write_overlay(source.name, image, result)
            written = self._outputs.write_map(source.name, result, self._recorded[source])
            if panels is not None:
                self._outputs.write_panels(source.name, image, result, panels)
        except _FILE_ERRORS as error:
            return _error(error, source), None
        tally.times.write += _milliseconds_since(started)
        segments = _segments(written, result, self._outputs.labels)
        return _done(source, tally, str(overlay), str(written.path), segments), written

    def _videos(
        self, sources: Iterable[SourceFile], callback: ProgressCallback
    ) -> Generator[FileResult | FileError, None, None]:
        for source in sources:
            try:
                yield self._video(source, callback)
            except _FILE_ERRORS as error:
                yield _error(error, source)

    def _video(self, source: SourceFile, callback: ProgressCallback) -> FileResult:
        tally = _Tally()
        path = self._outputs.folder / f"{source.name}.mp4"

        def draw(frame: _Frame) -> _Frame:
            started = perf_counter()
            written = None
            if self._frame_maps:
                name = f"{source.name}_{frame.number:06d}"
                written = self._outputs.write_map(name, frame.map, f"{self._recorded[source]}/{name}.png")
            overlay = self._outputs.overlay(frame.image, frame.map)
            return frame._replace(image=overlay, written=written, write_ms=_milliseconds_since(started))

        def encode(frame: _Frame) -> _Frame:
            started = perf_counter()
            writer.write(frame.image, frame.read)
            return frame._replace(write_ms=frame.write_ms + _milliseconds_since(started))

        with (
            VideoReader(source.path) as reader,
            atomic_write(path) as temporary,
            VideoWriter(temporary, reader.rate, reader) as writer,
            closing(prefetch(_timed(reader.frames()))) as frames,
            closing(ordered_map(draw, self._predict_frames(frames, tally), self._writers)) as drawn,
            closing(ordered_map(encode, drawn, workers=1)) as encoded,  # frames enter the video in order
        ):
            for frame in encoded:
                tally.times.write += frame.write_ms
                if frame.written is not None:
                    self._outputs.record(frame.written)
                callback.on_frame(source, frame.number, reader.num_frames)
        return _done(source, tally, str(path))

    def _predict_frames(self, frames: Iterable[tuple[VideoFrame, float]], tally: _Tally) -> Iterator[_Frame]:
        for frame, read_ms in frames:
            prediction = self._predictor.predict(frame.image)
            tally.add(frame.image, prediction, self._outputs.labels, read_ms)
            yield _Frame(frame.image, prediction.map, tally.frames, frame)


def _read(source: SourceFile) -> tuple[SourceFile, Tensor | UnreadableFileError, float]:
    started = perf_counter()
    image: Tensor | UnreadableFileError
    try:
        image = load_image(source.path)
    except UnreadableFileError as error:  # raised in its turn
        image = error
    return source, image, _milliseconds_since(started)


def _timed(frames: Iterator[VideoFrame]) -> Iterator[tuple[VideoFrame, float]]:
    started = perf_counter()
    for frame in frames:
        yield frame, _milliseconds_since(started)
        started = perf_counter()


def _milliseconds_since(started: float) -> float:
    return 1000 * (perf_counter() - started)


def _segments(written: WrittenMap, result: PanopticMap, labels: LabelSpace) -> list[SegmentResult]:
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


def _error(error: PanscapeError, source: SourceFile) -> FileError:
    """Return the message in one line, without the path, which is reported separately."""
    return FileError(str(source.path), " ".join(str(error).removeprefix(f"{source.path}: ").split()))
