"""Label images are read as Pillow reads them, by both decompressors, and files that are wrong by the same error."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from panscape.formats import id_png
from panscape.formats.id_png import encode_id_png, load_id_png

SHAPES = {(8, 0): ((), np.uint8), (16, 0): ((), np.uint16), (8, 2): ((3,), np.uint8)}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header: tuple[int, ...], rows: bytes, *, parts: int = 1, before: bytes = b"", level: int = 6) -> bytes:
    """Return a PNG of filtered rows, its data in several chunks."""
    data = zlib.compress(rows, level)
    step = -(-len(data) // parts)
    body = b"".join(chunk(b"IDAT", data[i : i + step]) for i in range(0, len(data), step))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *header))
    return start + before + body + chunk(b"IEND", b"")


def with_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("png") / "ids.png"


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(SHAPES)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 40)),
    filters=st.lists(st.integers(0, 4), min_size=7, max_size=7),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    parts=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_every_filter_and_depth_as_pillow_reads_it(path, kind, size, filters, density, parts, seed):
    random = np.random.default_rng(seed)
    num_bytes = size[1] * {(8, 0): 1, (16, 0): 2, (8, 2): 3}[kind]
    rows = random.integers(0, 256, (size[0], 1 + num_bytes)).astype(np.uint8)
    rows[:, 1:][random.random((size[0], num_bytes)) >= density] = 0
    rows[:, 0] = filters[: size[0]]
    data = png((size[1], size[0], *kind, 0, 0, 0), rows.tobytes(), parts=parts)
    path.write_bytes(data)
    found, expected = load_id_png(path), with_pillow(data)
    assert found is not None
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


HEADER = (3, 2, 8, 2, 0, 0, 0)
ROWS = bytes(2 * (1 + 9))
DATA = png(HEADER, ROWS)
OTHERS = {
    "metadata": png(HEADER, ROWS, before=chunk(b"tEXt", b"Software\0x")),
    "transparency": png(HEADER, ROWS, before=chunk(b"tRNS", bytes(6))),
    "palette": png((3, 2, 8, 3, 0, 0, 0), bytes(8), before=chunk(b"PLTE", bytes(6))),
    "alpha": png((3, 2, 8, 6, 0, 0, 0), bytes(26)),
    "one bit": png((3, 2, 1, 0, 0, 0, 0), bytes(4)),
    "16-bit RGB": png((3, 2, 16, 2, 0, 0, 0), bytes(38)),
    "interlaced": png((*HEADER[:6], 1), ROWS),
    "unknown filter": png(HEADER, b"\x05" + ROWS[1:]),
    "too few rows": png(HEADER, ROWS[:10]),
    "too many rows": png(HEADER, ROWS + ROWS),
    "bomb": png(HEADER, bytes(10**7)),
    "truncated": DATA[:-20],
    "no end": DATA[:-12],
    "more behind the end": DATA + b"x",
    "wrong checksum of a chunk": DATA[:50] + bytes([DATA[50] ^ 1]) + DATA[51:],
    "wrong checksum of the data": DATA.replace(
        chunk(b"IDAT", zlib.compress(ROWS)), chunk(b"IDAT", zlib.compress(ROWS)[:-1] + b"\0")
    ),
    "no data": DATA[:33] + DATA[-12:],
    "two headers": DATA[:33] + DATA[8:],
    "empty": b"",
    "no PNG": b"GIF89a",
}


@pytest.mark.parametrize("what", OTHERS)
def test_any_other_file_is_left_to_pillow(path, what):
    path.write_bytes(OTHERS[what])
    assert load_id_png(path) is None


def test_images_above_the_limit_and_missing_files_are_left_to_pillow(path, monkeypatch):
    path.write_bytes(DATA)
    assert load_id_png(path) is not None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert load_id_png(path) is None
    assert load_id_png(path.with_name("missing.png")) is None


@pytest.mark.parametrize("is_installed", [False, True])
def test_written_ids_are_read_back_by_pillow_and_here(path, monkeypatch, is_installed):
    if is_installed:
        monkeypatch.setattr(id_png, "_compression", lambda: pytest.importorskip("zlib_ng.zlib_ng"))
    else:
        monkeypatch.setattr(id_png, "_compression", lambda: zlib)
    random = np.random.default_rng(0)
    for shape, dtype in (((1, 1), np.uint16), ((1, 7, 3), np.uint8), ((64, 33), np.uint16), ((5, 9), np.uint8)):
        pixels = random.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
        path.write_bytes(encode_id_png(pixels))
        assert np.array_equal(with_pillow(path.read_bytes()), pixels)
        assert np.array_equal(load_id_png(path), pixels)
