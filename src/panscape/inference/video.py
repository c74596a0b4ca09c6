"""Read and write videos frame by frame with PyAV (the extra "video"), with only a few frames in memory."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from panscape.errors import MissingExtraError, UnreadableFileError

# In order of preference; the available ones depend on the build of FFmpeg.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"crf": "20", "preset": "veryfast"}),
    ("libopenh264", {}),
    ("mpeg4", {"qmin": "2", "qmax": "6"}),
)


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


class VideoReader:
    """The frames of a video's first image stream; a context manager.

    Attributes:
        rate: mean frames per second.
        num_frames: number of frames according to the file, or None if unknown.

    Raises:
        UnreadableFileError: the file is missing, is not a video, or has no image stream.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._av = import_av()
        self.path = path
        try:
            self._container = self._av.open(str(path))
        except (self._av.error.FFmpegError, OSError) as error:
            raise UnreadableFileError(path, f"expected a video, but {_reason(error)}; replace the file") from error
        if not self._container.streams.video:
            self._container.close()
            raise UnreadableFileError(path, "expected a video, but the file has no image stream")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self.num_frames: int | None = stream.frames or None
        if self.num_frames is None and self._container.duration:
            self.num_frames = max(1, round(self._container.duration / 1e6 * self.rate))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def frames(self) -> Iterator[Tensor]:
        """Yield the frames, upright, uint8 [3, H, W], all of the size of the first one.

        Raises:
            UnreadableFileError: a frame is damaged, or the file has no frame.
        """
        count, size = 0, None
        try:
            for frame in self._container.decode(video=0):
                size = size or (frame.width, frame.height)
                pixels = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
                # Phones store frames in sensor orientation, with a counter-clockwise display rotation as metadata.
                pixels = np.rot90(pixels, round(frame.rotation / 90) % 4)
                yield torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
                count += 1
        except self._av.error.FFmpegError as error:
            raise UnreadableFileError(
                self.path, f"the video is damaged after frame {count}: {_reason(error)}"
            ) from error
        if count == 0:
            raise UnreadableFileError(self.path, "expected a video, but the file has no frame")


class VideoWriter:
    """Writes an .mp4; a context manager.

    Args:
        path: path of the file, which is complete when the block ends.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self._av = import_av()
        self._container = self._av.open(str(path), mode="w", format="mp4", options={"movflags": "faststart"})
        self._rate = rate
        self._stream: Any = None

    def write(self, image: Tensor) -> None:
        """Append a frame, uint8 [3, H, W]; all frames must be of one size."""
        # The encoders subsample chroma by 2: odd sides are extended by one pixel.
        pixels = image.permute(1, 2, 0).numpy()
        pixels = np.pad(pixels, [(0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)], mode="edge")
        if self._stream is None:
            encoder, options = next((e, o) for e, o in _ENCODERS if e in self._av.codecs_available)
            self._stream = self._container.add_stream(encoder, rate=self._rate, options=dict(options))
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._stream.pix_fmt = "yuv420p"  # supported by every player
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
