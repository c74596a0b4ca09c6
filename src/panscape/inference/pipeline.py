"""Predict many files: read, predict, write and report each one; an invalid file does not stop the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import groupby
from time import perf_counter
from typing import Any, Protocol

from torch import Tensor

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidArgumentError, PanscapeError, UnreadableFileError
from panscape.images import load_image
from panscape.inference.output_folder import OutputFolder
from panscape.inference.predictor import Predictor
from panscape.inference.prefetch import prefetch
from panscape.inference.sources import SourceFile, paths_from_common_folder
from panscape.inference.video import VideoReader, VideoWriter, import_av


@dataclass(slots=True)
class Timings:
    """Milliseconds per image, or mean per frame of a video. Reading overlaps with the rest."""

    read: float = 0.0
    network: float = 0.0
    postprocess: float = 0.0
    write: float = 0.0


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result of a predicted source.

    Attributes:
        source: path of the file.
        name: name of its results.
        height: image height in pixels.
        width: image width in pixels.
        frames: number of frames; 1 for an image.
        segments: number of segments in the image, or mean per frame.
        things: number of thing segments among them.
        times: time of each stage.
        output: path of the overlay.
    """

    source: str
    name: str
    height: int
    width: int
    frames: int
    segments: float
    things: float
    times: Timings
    output: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a line of JSON; times as ``read_ms`` and so on."""
        plain = asdict(self)
        times = plain.pop("times")
        return plain | {f"{stage}_ms": round(spent, 3) for stage, spent in times.items()}


@dataclass(frozen=True, slots=True)
class FileError:
    """A source that could not be predicted.

    Attributes:
        source: path of the file.
        error: why, in one line.
    """

    source: str
    error: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a line of JSON."""
        return asdict(self)


class ProgressCallback(Protocol):
    """Receives the progress of a prediction run."""

    def on_result(self, outcome: FileResult | FileError) -> None:
        """Report a finished or failed source."""

    def on_frame(self, source: SourceFile, index: int, num_frames: int | None) -> None:
        """Report that frame ``index`` (from 1) of a video is finished."""


@dataclass(slots=True)
class _Tally:
    """Sums over the frames of one source."""

    height: int = 0
    width: int = 0
    frames: int = 0
    segments: int = 0
    things: int = 0
    times: Timings = field(default_factory=Timings)


class PredictionRun:
    """Predicts sources and writes the results to a folder.

    Args:
        predictor: predicts single images.
        outputs: writes the results.
        panels: also write a sheet of the network's outputs for images.
        frame_maps: also write the map of every frame of videos.
    """

    def __init__(
        self, predictor: Predictor, outputs: OutputFolder, *, panels: bool = False, frame_maps: bool = False
    ) -> None:
        self._predictor = predictor
        self._outputs = outputs
        self._panels = panels
        self._frame_maps = frame_maps
        self._recorded: dict[SourceFile, str] = {}  # image paths recorded in panoptic.json

    def predict_files(self, sources: Sequence[SourceFile], callback: ProgressCallback) -> list[FileError]:
        """Predict all sources in order.

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
            for outcome in self._videos(group, callback) if is_video else self._images(group):
                callback.on_result(outcome)
                if isinstance(outcome, FileError):
                    failures.append(outcome)
        return failures

    def _images(self, sources: Iterable[SourceFile]) -> Iterator[FileResult | FileError]:
        with closing(prefetch(_read(s) for s in sources)) as items:
            for source, image, read_ms in items:
                try:
                    if isinstance(image, PanscapeError):
                        raise image
                    yield self._image(source, image, read_ms)
                except (UnreadableFileError, InvalidArgumentError) as error:
                    yield FileError(str(source.path), _without_path(error, source))

    def _image(self, source: SourceFile, image: Tensor, read_ms: float) -> FileResult:
        tally = _Tally()
        prediction = self._predict(image, read_ms, tally)
        started = perf_counter()
        path = self._outputs.write_overlay(source.name, image, prediction.map)
        self._outputs.write_map(source.name, prediction.map, self._recorded[source])
        if self._panels:
            self._outputs.write_panels(source.name, image, prediction.map, self._predictor.visualize(prediction))
        tally.times.write += 1000 * (perf_counter() - started)
        return _done(source, tally, str(path))

    def _videos(self, sources: Iterable[SourceFile], callback: ProgressCallback) -> Iterator[FileResult | FileError]:
        for source in sources:
            try:
                yield self._video(source, callback)
            except (UnreadableFileError, InvalidArgumentError) as error:
                yield FileError(str(source.path), _without_path(error, source))

    def _video(self, source: SourceFile, callback: ProgressCallback) -> FileResult:
        tally = _Tally()
        path = self._outputs.folder / f"{source.name}.mp4"
        with (
            VideoReader(source.path) as reader,
            atomic_write(path) as temporary,
            VideoWriter(temporary, reader.rate) as writer,
            closing(prefetch(_timed(reader.frames()))) as frames,
        ):
            for image, read_ms in frames:
                prediction = self._predict(image, read_ms, tally)
                started = perf_counter()
                writer.write(self._outputs.overlay(image, prediction.map))
                if self._frame_maps:
                    name = f"{source.name}_{tally.frames:06d}"
                    self._outputs.write_map(name, prediction.map, f"{self._recorded[source]}/{name}.png")
                tally.times.write += 1000 * (perf_counter() - started)
                callback.on_frame(source, tally.frames, reader.num_frames)
        return _done(source, tally, str(path))

    def _predict(self, image: Tensor, read_ms: float, tally: _Tally) -> Any:
        prediction = self._predictor.predict(image)
        is_thing = [c.is_thing for c in self._outputs.labels]
        tally.frames += 1
        tally.height, tally.width = image.shape[-2:]
        tally.segments += prediction.map.num_segments
        tally.things += sum(is_thing[c] for c in prediction.map.category.tolist())
        tally.times.read += read_ms
        tally.times.network += prediction.network_ms
        tally.times.postprocess += prediction.postprocess_ms
        return prediction


def _read(source: SourceFile) -> tuple[SourceFile, Tensor | UnreadableFileError, float]:
    started = perf_counter()
    image: Tensor | UnreadableFileError
    try:
        image = load_image(source.path)
    except UnreadableFileError as error:  # raised in its turn
        image = error
    return source, image, 1000 * (perf_counter() - started)


def _timed(frames: Iterator[Tensor]) -> Iterator[tuple[Tensor, float]]:
    started = perf_counter()
    for frame in frames:
        yield frame, 1000 * (perf_counter() - started)
        started = perf_counter()


def _done(source: SourceFile, tally: _Tally, output: str) -> FileResult:
    count = tally.frames
    mean = Timings(**{stage: spent / count for stage, spent in asdict(tally.times).items()})
    segments, things = (n if count == 1 else round(n / count, 2) for n in (tally.segments, tally.things))
    return FileResult(str(source.path), source.name, tally.height, tally.width, count, segments, things, mean, output)


def _without_path(error: PanscapeError, source: SourceFile) -> str:
    """Return the message in one line, without the path, which is reported separately."""
    return " ".join(str(error).removeprefix(f"{source.path}: ").split())
