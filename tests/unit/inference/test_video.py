from __future__ import annotations

import builtins
import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from image_writers import tiff

from panscape.errors import MissingExtraError, UnreadableFileError
from panscape.image_files import pixel_limit
from panscape.inference.video import VideoFrame, VideoReader, import_av
from panscape.inference.video_writer import VideoWriter

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


def read(path):
    with VideoReader(path) as reader:
        return list(reader.frames())


def copy(path, out):
    with VideoReader(path) as reader, VideoWriter(out, reader.rate, reader) as writer:
        for frame in reader.frames():
            writer.write(frame.image, frame)


def test_frames_come_back_in_order_at_their_rate(tmp_path):
    frames = [ramp(20 * i) for i in range(12)]
    write(tmp_path / "a.mp4", frames, Fraction(30000, 1001))
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert (reader.rate, reader.num_frames) == (Fraction(30000, 1001), 12)
        back = list(reader.frames())
    assert len(back) == 12
    for (frame, *_), original in zip(back, frames, strict=True):
        assert frame.dtype == torch.uint8
        assert (frame.float() - original.float()).abs().mean() < 4


def test_frames_above_the_limit_are_refused(tmp_path):
    write(tmp_path / "a.mp4", [ramp(100)])
    with pixel_limit(48 * 64):
        assert len(read(tmp_path / "a.mp4")) == 1
    with (
        pixel_limit(48 * 64 - 1),
        pytest.raises(
            UnreadableFileError, match=r"larger than the limit of 3071 pixels \(48x64\); downscale it, .*--max"
        ),
    ):
        read(tmp_path / "a.mp4")


def test_odd_sides_are_continued_by_a_pixel(tmp_path):
    write(tmp_path / "a.mp4", [ramp(100, (47, 63))])
    with VideoReader(tmp_path / "a.mp4") as reader:
        ((frame, *_),) = reader.frames()
    assert frame.shape == (3, 48, 64)
    assert (frame[:, :47, :63].float() - ramp(100, (47, 63)).float()).abs().mean() < 4


def test_every_player_shows_the_result(tmp_path):
    write(tmp_path / "a.mp4", [ramp(0)])
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert "mp4" in container.format.name
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_shown_as_players_show_them(tmp_path, rotation, hflip):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"qmin": "1", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(rotation, hflip=hflip)
        frame = av.VideoFrame.from_ndarray(ramp(100).permute(1, 2, 0).numpy(), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    # FFmpeg's autorotation inserts these filters.
    filters = {
        (0, False): [("null", "")],
        (90, False): [("transpose", "cclock")],
        (180, False): [("hflip", ""), ("vflip", "")],
        (270, False): [("transpose", "clock")],
        (0, True): [("hflip", "")],
        (90, True): [("transpose", "cclock"), ("hflip", "")],
        (180, True): [("vflip", "")],
        (270, True): [("transpose", "clock"), ("hflip", "")],
    }[rotation, hflip]
    with av.open(str(path)) as container:
        graph = av.filter.Graph()
        nodes = [graph.add_buffer(template=container.streams.video[0])]
        nodes += [graph.add(name, options) if options else graph.add(name) for name, options in filters]
        nodes.append(graph.add("buffersink"))
        for one, other in pairwise(nodes):
            one.link_to(other)
        graph.configure()
        graph.push(next(container.decode(video=0)))
        expected = graph.pull().to_ndarray(format="rgb24")
    (frame,) = read(path)
    assert np.array_equal(frame.image.permute(1, 2, 0).numpy(), expected)
    assert frame.pixel_aspect == (Fraction(3, 4) if rotation in (90, 270) else Fraction(4, 3))


def test_times_durations_and_pixel_aspect_are_kept(tmp_path):
    times = [Fraction(0), Fraction(1, 2), Fraction(13, 25), Fraction(17, 10), Fraction(4)]
    durations = [b - a for a, b in pairwise(times)] + [Fraction(1, 2)]
    with VideoWriter(tmp_path / "a.mp4", Fraction(50)) as writer:
        for i, (time, duration) in enumerate(zip(times, durations, strict=True)):
            writer.write(ramp(40 * i), VideoFrame(ramp(0), time, duration, Fraction(16, 15)))
    with VideoReader(tmp_path / "a.mp4") as reader, VideoWriter(tmp_path / "b.mp4", reader.rate, reader) as writer:
        for frame in reader.frames():
            writer.write(frame.image, frame)
    for name in ("a.mp4", "b.mp4"):
        frames = read(tmp_path / name)
        assert [f.time for f in frames] == times
        assert [f.duration for f in frames] == durations
        assert {f.pixel_aspect for f in frames} == {Fraction(16, 15)}
        with av.open(str(tmp_path / name)) as container:
            assert container.duration == 4_500_000


def with_sound(path, codec, container_format=None, seconds=1):
    """Write a video of 10 frames with a tone."""
    with av.open(str(path), "w", format=container_format) as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(codec, rate=48_000)
        pixels = ramp(100).permute(1, 2, 0).numpy()
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
        tone = np.sin(np.arange(48_000 * seconds) / 20).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
        sound.sample_rate, sound.pts = 48_000, 0
        container.mux(audio.encode(sound))
        container.mux([*video.encode(), *audio.encode()])


@pytest.mark.parametrize(("codec", "suffix", "is_copied"), [("aac", "mp4", True), ("pcm_s16le", "avi", False)])
def test_the_sound_is_kept(tmp_path, codec, suffix, is_copied):
    with_sound(tmp_path / f"a.{suffix}", codec)
    copy(tmp_path / f"a.{suffix}", tmp_path / "b.mp4")
    sounds, packets = [], []
    for path in (tmp_path / f"a.{suffix}", tmp_path / "b.mp4"):
        with av.open(str(path)) as container:
            packets.append([bytes(p) for p in container.demux(audio=0) if p.size])
        with av.open(str(path)) as container:
            frames = list(container.decode(audio=0))
            assert abs(frames[0].time) < 0.03
            sounds.append(np.concatenate([f.to_ndarray().reshape(-1) for f in frames]))
            if path.suffix == ".mp4":
                assert container.streams.audio[0].codec_context.name == "aac"
    assert (packets[0] == packets[1]) == is_copied
    assert all(abs(len(sound) - 2 * 48_000) <= 4096 for sound in sounds)
    assert len(read(tmp_path / "b.mp4")) == 10


def test_a_title_in_another_encoding_is_no_obstacle(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        container.metadata["title"] = "Strasse"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame.from_ndarray(ramp(100).permute(1, 2, 0).numpy(), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    content = (tmp_path / "a.avi").read_bytes()
    assert b"Strasse" in content
    (tmp_path / "a.avi").write_bytes(content.replace(b"Strasse", "Straße!".encode("latin-1")))
    assert len(read(tmp_path / "a.avi")) == 1


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_a_video_that_is_cut_off_is_used_up_to_there(tmp_path, suffix, caplog):
    path = tmp_path / f"a.{suffix}"
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(20):
            noise = np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    assert len(read(path)) == 20
    assert caplog.messages == []
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    num = len(read(path))
    assert 0 < num < 15
    (message,) = caplog.messages
    assert message.endswith(f"the video is cut off, its frames end at {num / 10} of 2.0 s; its {num} frames are used")


def test_damaged_frames_are_left_out(tmp_path, caplog):
    frames = [torch.randint(0, 255, (3, 48, 64), dtype=torch.uint8) for _ in range(20)]
    write(tmp_path / "a.mp4", frames, Fraction(10))
    with av.open(str(tmp_path / "a.mp4")) as container:
        packet = [p for p in container.demux(video=0) if p.size][9]
        place, size = packet.pos, packet.size
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    content[place : place + size] = b"\xff" * size
    (tmp_path / "a.mp4").write_bytes(content)
    num = len(read(tmp_path / "a.mp4"))
    assert 15 <= num < 20
    (message,) = caplog.messages
    assert re.search(rf"is damaged \(after frame \d+: Invalid data.*\); its other {num} frames are used", message)


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{other}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile other.mp4\n",
    ],
)
def test_a_file_cannot_name_another_file(tmp_path, content):
    write(tmp_path / "other.mp4", [ramp(100)])
    (tmp_path / "a.mp4").write_text(content.format(other=tmp_path / "other.mp4"))
    with pytest.raises(UnreadableFileError, match="expected a video, but"):
        VideoReader(tmp_path / "a.mp4")


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("concat:a.mp4"), [ramp(100)])
    assert len(read(Path("concat:a.mp4"))) == 1


IMAGE = (tiff(np.zeros((2, 2, 3), np.uint8)), r"it is an image \(TIFF\); give it the suffix of one")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "it is an empty file"), (b"hello", "it is text"), (bytes([255, 1] * 5000), "Invalid data"), IMAGE],
)
def test_other_files_than_videos_are_refused(tmp_path, content, message):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"a\.mp4: expected a video, but {message}"):
        VideoReader(tmp_path / "a.mp4")


def test_an_unknown_codec_is_refused(tmp_path):
    write(tmp_path / "a.mp4", [ramp(0)])
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content.replace(b"avc1", b"zzzz"))
    with pytest.raises(UnreadableFileError, match="its codec is unknown; convert it"):
        VideoReader(tmp_path / "a.mp4")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="no such file"):
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
