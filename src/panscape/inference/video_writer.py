"""Write videos with PyAV (the extra "video"): the frames at their times, with the sound of another video."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import UnwritableFileError
from panscape.inference.video import VideoFrame, VideoReader, beginning_of, import_av, open_video, reason_of

_logger = logging.getLogger(__name__)

# In order of preference; the available ones depend on the build of FFmpeg. Without B-frames, the duration is right at a
# varying rate, too.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"crf": "20", "preset": "veryfast", "bf": "0"}),
    ("libopenh264", {}),
    ("mpeg4", {"qmin": "2", "qmax": "6"}),
)
_LARGEST_TIMESCALE = 65535  # of MPEG-4
_COPIED_SOUND = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")  # those that players expect in an .mp4


class VideoWriter:
    """Writes an .mp4; a context manager.

    Args:
        path: path of the file, which is complete when the block ends.
        rate: frames per second.
        source: the video whose frames are written; the file gets its sound and its unit of time.
    """

    def __init__(self, path: Path, rate: Fraction, source: VideoReader | None = None) -> None:
        self._av = import_av()
        self._path, self._rate, self._source = path, rate, source
        self._container = self._av.open(f"file:{path}", mode="w", format="mp4", options={"movflags": "faststart"})
        self._unit = 1 / rate if source is None else source.time_base
        if self._unit.denominator > _LARGEST_TIMESCALE:
            self._unit = Fraction(1, 60_000)
        self._stream: Any = None
        self._sound: _Sound | None = None
        self._held: Any = None  # the last packet, which needs its duration
        self._ticks, self._duration = -1, 1

    def write(self, image: Tensor, like: VideoFrame | None = None) -> None:
        """Append a frame.

        Args:
            image: uint8 [3, H, W]; all frames must be of one size.
            like: the frame that has its time, duration and pixel aspect; None for the next one at the rate, with square
                pixels.

        Raises:
            UnwritableFileError: the file cannot be written.
        """
        # The encoders subsample chroma by 2: odd sides are extended by one pixel.
        self.write_pixels(image.permute(1, 2, 0).numpy(), like)

    def write_pixels(self, pixels: NDArray[np.uint8], like: VideoFrame | None = None) -> None:
        """Append a frame as pixels, uint8 [H, W, 3]; see :meth:`write`."""
        pixels = np.pad(pixels, [(0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)], mode="edge")
        try:
            if self._stream is None:
                self._open(pixels.shape[0], pixels.shape[1], Fraction(1) if like is None else like.pixel_aspect)
            step = max(1, round(1 / self._rate / self._unit))
            ticks = self._ticks + step if like is None else round(like.time / self._unit)
            self._ticks = max(ticks, self._ticks + 1)  # times in damaged files may go back
            self._duration = step if like is None else max(1, round(like.duration / self._unit))
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = self._ticks, self._unit
            self._mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.write_until(self._ticks * self._unit)
        except (self._av.error.FFmpegError, OSError) as error:
            raise UnwritableFileError(self._path, f"{reason_of(error)}; free space or give another folder") from error

    def _open(self, height: int, width: int, pixel_aspect: Fraction) -> None:
        encoder, options = next((e, o) for e, o in _ENCODERS if e in self._av.codecs_available)
        stream = self._container.add_stream(encoder, rate=self._rate, options=dict(options))
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p"  # supported by every player
        stream.codec_context.time_base = self._unit
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        self._stream = stream
        if self._source is not None:
            self._sound = _Sound(self._source.path, self._container)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._held is not None:
                self._container.mux(self._held)
            self._held = packet

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._stream is not None:
                self._mux(self._stream.encode())
                self._held.duration = round(self._duration * self._unit / self._held.time_base)
                self._container.mux(self._held)
                if self._sound is not None:
                    self._sound.write_until(None)
            self._container.close()
        except (self._av.error.FFmpegError, OSError) as failure:
            raise UnwritableFileError(
                self._path, f"{reason_of(failure)}; free space or give another folder"
            ) from failure
        finally:
            if self._sound is not None:
                self._sound.close()


class _Sound:
    """The sound of a video on its way into another: copied, or encoded as AAC if few players know it in an .mp4.

    Args:
        path: the video with the sound, or without one.
        output: the container to write to, before its first packet.
    """

    def __init__(self, path: Path, output: Any) -> None:
        self._av, self._path, self._output = import_av(), path, output
        self._container = open_video(path)
        self._packets: Iterator[Any] = iter(())
        source = self._container.streams.best("audio")
        if source is not None and source.codec_context is not None:
            if source.codec_context.codec.canonical_name in _COPIED_SOUND:
                self._packets = self._copied(source, output.add_stream_from_template(source))
            else:
                self._packets = self._encoded(source, output.add_stream("aac", rate=48_000))
        self._next = self._read()

    def write_until(self, time: Fraction | None) -> None:
        """Write the packets up to a time in seconds; None for all."""
        while self._next is not None and (time is None or self._next.dts * self._next.time_base <= time):
            self._output.mux(self._next)
            self._next = self._read()

    def close(self) -> None:
        """Close the video with the sound."""
        self._container.close()

    def _read(self) -> Any:
        try:
            return next(self._packets, None)
        except (self._av.error.FFmpegError, ValueError, LookupError) as error:
            _logger.warning("%s: the sound is damaged (%s); the rest of it is left out", self._path, reason_of(error))
            return None

    def _copied(self, source: Any, target: Any) -> Iterator[Any]:
        for packet in self._container.demux(source):
            if packet.dts is not None:
                shift = self._shift(packet.time_base)
                packet.dts -= shift
                packet.pts = packet.dts if packet.pts is None else packet.pts - shift
                packet.stream = target
                yield packet

    def _encoded(self, source: Any, target: Any) -> Iterator[Any]:
        for frame in self._container.decode(source):
            if frame.pts is not None:
                frame.pts -= self._shift(frame.time_base)
            yield from target.encode(frame)
        yield from target.encode(None)

    def _shift(self, time_base: Fraction) -> int:
        return round((beginning_of(self._container) or 0) / time_base)
