from __future__ import annotations

import builtins
from fractions import Fraction

import numpy as np
import pytest
import torch

from panscape.errors import MissingExtraError, UnreadableFileError
from panscape.inference.video import VideoReader, VideoWriter, import_av

av = pytest.importorskip("av")


def ramp(value: int, size=(48, 64)) -> torch.Tensor:
    """A smooth image, which survives a video's compression; bright at the top left."""
    height, width = size
    y, x = torch.meshgrid(torch.linspace(1, 0, height), torch.linspace(1, 0, width), indexing="ij")
    return torch.stack([value + 0 * y, 60 + 120 * y, 60 + 120 * x]).to(torch.uint8)


def write(path, frames, rate=Fraction(25)):
    with VideoWriter(path, rate) as writer:
        for frame in frames:
            writer.write(frame)


def test_frames_come_back_in_order_at_their_rate(tmp_path):
    frames = [ramp(20 * i) for i in range(12)]
    write(tmp_path / "a.mp4", frames, Fraction(30000, 1001))
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert (reader.rate, reader.num_frames) == (Fraction(30000, 1001), 12)
        back = list(reader.frames())
    assert len(back) == 12
    for frame, original in zip(back, frames, strict=True):
        assert frame.dtype == torch.uint8
        assert (frame.float() - original.float()).abs().mean() < 4


def test_odd_sides_are_continued_by_a_pixel(tmp_path):
    write(tmp_path / "a.mp4", [ramp(100, (47, 63))])
    with VideoReader(tmp_path / "a.mp4") as reader:
        (frame,) = reader.frames()
    assert frame.shape == (3, 48, 64)
    assert (frame[:, :47, :63].float() - ramp(100, (47, 63)).float()).abs().mean() < 4


def test_every_player_shows_the_result(tmp_path):
    write(tmp_path / "a.mp4", [ramp(0)])
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert "mp4" in container.format.name
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_frames_are_turned_upright(tmp_path, turns, monkeypatch):
    write(tmp_path / "a.mp4", [ramp(100)])

    class Turned:
        """A frame that notes how the screen has to turn it (writing that note is beyond PyAV)."""

        def __init__(self, frame):
            self.frame, self.width, self.height = frame, frame.width, frame.height
            self.rotation = [0, 90, 180, -90][turns]

        def to_ndarray(self, **options):
            return self.frame.to_ndarray(**options)

    with VideoReader(tmp_path / "a.mp4") as reader:
        (straight,) = reader.frames()
    with VideoReader(tmp_path / "a.mp4") as reader:
        decode = reader._container.decode

        class Container:
            def decode(self, **options):
                return (Turned(frame) for frame in decode(**options))

            def close(self):
                pass

        reader._container = Container()
        (frame,) = reader.frames()
    expected = np.rot90(straight.permute(1, 2, 0).numpy(), turns)  # counter-clockwise, as FFmpeg counts
    assert np.array_equal(frame.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(5000)])
def test_other_files_than_videos_are_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"a\.mp4: expected a video, but"):
        VideoReader(tmp_path / "a.mp4")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="No such file"):
        VideoReader(tmp_path / "a.mp4")


def test_sound_alone_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UnreadableFileError, match="no image stream"):
        VideoReader(tmp_path / "a.mp4")


def test_without_pyav_the_extra_is_named(monkeypatch):
    imported = builtins.__import__

    def without_av(name, *args, **kwargs):
        if name == "av":
            raise ImportError("no av")
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(MissingExtraError, match=r"pip install 'panscape\[video\]'"):
        import_av()
