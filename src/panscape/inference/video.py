"""Read videos frame by frame with PyAV (the extra "video"), with only a few frames in memory."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import MissingExtraError, UnreadableFileError
from panscape.file_kinds import kind_of
from panscape.image_files import open_image, require_within_limit
from panscape.input_files import require_file

_logger = logging.getLogger(__name__)

# Containers of videos. Others are playlists of FFmpeg, which open further files and addresses.
_FORMATS = "asf,avi,flv,matroska,webm,mov,mp4,mpeg,mpegts,mpegvideo,mxf,ogg"
_DURATION = re.compile(r"(\d{1,6}):(\d\d):(\d\d\.\d+)", re.ASCII)
_MISSING_SECONDS = 0.5  # a video that ends earlier than it says by more than this is cut off


class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        image: upright, uint8 [3, H, W].
        time: when it is shown, in seconds after the beginning of the video.
        duration: how long it is shown, in seconds.
        pixel_aspect: width of a pixel divided by its height, as displayed.
    """

    image: Tensor
    time: Fraction
    duration: Fraction
    pixel_aspect: Fraction


def import_av() -> ModuleType:
    """Return PyAV.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "video", "reading and writing video") from error
    module: ModuleType = av
    return module


def open_video(path: Path) -> Any:
    """Open a video as an input container of PyAV; the file can name no other file and no address.

    Raises:
        UnreadableFileError: the file is missing or is not a video.
        MissingExtraError: PyAV is not installed.
    """
    av = import_av()
    require_file(path)
    try:
        # Without the protocol, a name with a colon would be an address. Titles in AVI are in any encoding.
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        return av.open(f"file:{path}", metadata_errors="replace", container_options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableFileError(path, f"expected a video, but {_diagnosis(path, error)}") from error


def _diagnosis(path: Path, error: Exception) -> str:
    """Return why a file is no video, and what to do."""
    with suppress(UnreadableFileError), open_image(path) as image:
        return f"it is an image ({image.format}); give it the suffix of one"
    kind = kind_of(path)
    if kind is None or "video" in kind[0]:
        return f"{reason_of(error)}; it may be cut off or of another kind: replace the file"
    return f"it is {kind[0]}; {kind[1]}"


def reason_of(error: Exception) -> str:
    """Return FFmpeg's reason for an error."""
    return getattr(error, "strerror", None) or str(error)


class VideoReader:
    """The frames of a video's best image stream; a context manager.

    Attributes:
        path: path of the file.
        rate: mean frames per second.
        time_base: unit of the times of its frames, in seconds.
        num_frames: number of frames according to the file, or None if unknown.

    Raises:
        UnreadableFileError: the file is missing, is not a video, has no image stream, or its frames are larger than
            :func:`~panscape.image_files.pixel_limit` allows.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._av = import_av()
        self.path = path
        self._container = open_video(path)
        try:
            self._stream = stream = self._image_stream()
        except UnreadableFileError:
            self._container.close()
            raise
        stream.thread_type = "AUTO"
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self.time_base = Fraction(stream.time_base)
        self.num_frames: int | None = stream.frames or None
        if self.num_frames is None and self._container.duration:
            self.num_frames = max(1, round(self._container.duration / 1e6 * self.rate))

    def _image_stream(self) -> Any:
        stream = self._container.streams.best("video")  # not the image of a cover
        if stream is None:
            raise UnreadableFileError(
                self.path, "expected a video, but the file has no image stream; give another file"
            )
        if stream.codec_context is None:
            raise UnreadableFileError(
                self.path, "expected a video, but its codec is unknown; convert it, or replace it"
            )
        require_within_limit(self.path, stream.height, stream.width)
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames, all of the size of the first one; of a damaged video those that can be decoded.

        Frames are oriented as players show them: the display matrix of the file may rotate and mirror them.

        Raises:
            UnreadableFileError: no frame can be decoded.
        """
        pixel_aspect = Fraction(self._stream.sample_aspect_ratio or 1)
        start, end, size, count = beginning_of(self._container), Fraction(0), None, 0
        damage = list[str]()
        for frame in self._decoded(damage):
            size = size or (frame.width, frame.height)
            matrix = _display_matrix(frame)
            image = _upright(frame.to_ndarray(format="rgb24", width=size[0], height=size[1]), matrix)
            if frame.pts is None:
                time = end
            elif start is None:
                time, start = Fraction(0), frame.pts * frame.time_base
            else:
                time = frame.pts * frame.time_base - start
            duration = Fraction((frame.duration or 0) * frame.time_base) or 1 / self.rate
            end, count = time + duration, count + 1
            aspect = 1 / pixel_aspect if _swaps_axes(matrix) else pixel_aspect
            yield VideoFrame(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), time, duration, aspect)
        if count == 0:
            reason = damage[0] if damage else "the file has no frame"
            raise UnreadableFileError(self.path, f"expected a video, but {reason}; replace the file")
        expected = self._seconds()
        if damage:
            more = f", and {len(damage) - 1} more" if len(damage) > 1 else ""
            _logger.warning(
                "%s: the video is damaged (%s%s); its other %d frames are used", self.path, damage[0], more, count
            )
        elif expected - end > _MISSING_SECONDS:
            _logger.warning(
                "%s: the video is cut off, its frames end at %.1f of %.1f s; its %d frames are used",
                *(self.path, end, expected, count),
            )

    def _decoded(self, damage: list[str]) -> Iterator[Any]:
        """Yield frames of PyAV, and append to ``damage`` for each error; what follows may be decoded again."""
        packets, count, is_open = self._container.demux(self._stream), 0, True
        while is_open:
            frames = list[Any]()
            try:
                packet: Any = next(packets, None)
                is_open = packet is not None
                # After an error of the container, the decoder still has frames.
                frames = packet.decode() if is_open else self._flushed()
            except (self._av.error.FFmpegError, OSError, LookupError) as error:  # LookupError: PyAV, of new streams
                damage.append(f"after frame {count}: {reason_of(error)}")
            yield from frames
            count += len(frames)

    def _flushed(self) -> list[Any]:
        try:
            return list(self._stream.codec_context.decode(None))
        except EOFError:  # the decoder was flushed with the last packet
            return []

    def _seconds(self) -> Fraction:
        """Return the duration of the image stream according to the file; 0 if unknown."""
        stream = self._stream
        if "avi" in self._container.format.name:  # its duration is taken from what is there
            return Fraction(stream.frames) / self.rate
        if stream.duration:
            return Fraction(stream.duration) * self.time_base
        written = _DURATION.fullmatch(stream.metadata.get("DURATION") or "")  # in Matroska and WebM
        if written is None:
            return Fraction(0)
        hours, minutes, seconds = map(Fraction, written.groups())
        return 3600 * hours + 60 * minutes + seconds


def beginning_of(container: Any) -> Fraction | None:
    """Return the time at which a container begins, in seconds; None if unknown."""
    return None if container.start_time is None else Fraction(container.start_time, 1_000_000)


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """Return a, b, c and d of a frame's display matrix: (x, y) is displayed at (a x + c y, b x + d y)."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = struct.unpack("9i", bytes(data))
            return a, b, c, d
    return 1, 0, 0, 1


def _swaps_axes(matrix: tuple[int, int, int, int]) -> bool:
    a, b, _, _ = matrix
    return abs(b) > abs(a)


def _upright(pixels: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Rotate by the nearest quarter turns and mirror pixels [H, W, 3] as they are displayed."""
    a, b, c, d = matrix
    if _swaps_axes(matrix):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
