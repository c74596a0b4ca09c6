"""Results of predicted files; as lines of JSON they follow ``docs/schemas/predict.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from panscape.inference.sources import SourceFile
from panscape.serialization import to_plain


@dataclass(slots=True)
class Timings:
    """Milliseconds per image, or mean per frame of a video. Reading and writing overlap with the rest."""

    read: float = 0.0
    network: float = 0.0
    postprocess: float = 0.0
    write: float = 0.0


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A segment of a predicted image.

    Attributes:
        id: the value of its pixels in the map.
        category: category id, the position in the label space of the model.
        name: name of the category.
        is_thing: whether it is an object.
        score: confidence in 0..1.
        area: number of pixels.
        box: left, top, right, bottom in pixels, half-open.
    """

    id: int
    category: int
    name: str
    is_thing: bool
    score: float | None
    area: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result of a predicted source.

    Attributes:
        source: path of the file.
        name: name of its results.
        height: image height in pixels.
        width: image width in pixels.
        frames: number of frames; 1 for an image.
        num_segments: number of segments in the image, or mean per frame.
        num_things: number of thing segments among them.
        times: time of each stage.
        overlay: path of the overlay.
        map: path of the map of an image; None for a video.
        segments: segments of an image, in the order of their ids; None for a video.
        is_earlier: whether an earlier run made the results.
    """

    source: str
    name: str
    height: int
    width: int
    frames: int
    num_segments: float
    num_things: float
    times: Timings
    overlay: str
    map: str | None = None
    segments: Sequence[SegmentResult] | None = None
    is_earlier: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a line of JSON; times as ``read_ms`` and so on."""
        plain: dict[str, Any] = to_plain(self)
        times = plain.pop("times")
        return plain | {f"{stage}_ms": round(spent, 3) for stage, spent in times.items()}


def restored(fields: Mapping[str, Any], source: SourceFile, folder: Path) -> FileResult:
    """Return the result of an earlier run.

    Args:
        fields: of a :class:`FileResult` as plain JSON values, with paths relative to ``folder``.
        source: the source, whose path may have been given in another form.
        folder: the output folder.
    """
    segments = fields["segments"]
    return replace(
        FileResult(**fields),
        source=str(source.path),
        times=Timings(**fields["times"]),
        overlay=str(folder / fields["overlay"]),
        map=None if fields["map"] is None else str(folder / fields["map"]),
        segments=segments and [SegmentResult(**each | {"box": tuple(each["box"])}) for each in segments],
        is_earlier=True,
    )


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
        return dict(to_plain(self))


class ProgressCallback(Protocol):
    """Receives the progress of a prediction run."""

    def on_result(self, outcome: FileResult | FileError) -> None:
        """Report a finished or failed source."""

    def on_frame(self, source: SourceFile, index: int, num_frames: int | None) -> None:
        """Report that frame ``index`` (from 1) of a video is finished."""
