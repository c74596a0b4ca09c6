"""Headers are checked before anything is decoded: sizes, and lengths that would fill the memory."""

from __future__ import annotations

import io
import json
import random
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from maps import SHAPES
from PIL import Image
from scored_files import array_segments, several_maps, write_array, write_coco, write_instance_ids

from panscape.formats.issues import IssueKind
from panscape.formats.reading.base import Reading
from panscape.formats.reading.pairing import find_source
from panscape.formats.reading.transformers import find_arrays, open_arrays
from panscape.geometry import Size

SIZE = Size(24, 32)
LIES = [Size(30000, 30000), Size(13000, 13000), Size(32, 24), Size(24, 33)]  # Pillow refuses the first by itself


def read(path: Path, size: Size | None = SIZE) -> Reading:
    source = find_source(path)
    return source.read(source.entries[0], SHAPES, size)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*sizes: Size, mode: int = 2, depth: int = 8) -> bytes:
    """Return a PNG of a few bytes with a header for each size."""
    headers = [chunk(b"IHDR", struct.pack(">2I5B", w, h, depth, mode, 0, 0, 0)) for h, w in sizes]
    body = chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(headers) + body


def npy(shape: tuple[int, ...], dtype: str = "<i8", body: bytes = b"") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": tuple(shape)})
    return file.getvalue() + body


def npz(path: Path, **members: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def refused_without_memory(path: Path, size: Size | None = SIZE) -> tuple[IssueKind, str]:
    """Return the one issue of a file; reading it took no more memory than headers need."""
    Image.init()  # loads the readers of Pillow, which stay
    tracemalloc.start()
    try:
        reading = read(path, size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20
    assert reading.panoptic is None
    (issue,) = reading.issues
    assert "\n" not in str(issue)
    return issue.kind, issue.what


def expected(size: Size) -> tuple[IssueKind, str]:
    what = f"expected 24x32 pixels like its truth, got {size.height}x{size.width}; write it at that size"
    return IssueKind.SIZE, what


@pytest.mark.parametrize("lie", LIES)
def test_pngs_of_coco(tmp_path: Path, lie: Size) -> None:
    path = write_coco(tmp_path / "predictions.json", several_maps(1))
    (tmp_path / "predictions" / "1.png").write_bytes(png(lie))
    assert refused_without_memory(path) == expected(lie)


@pytest.mark.parametrize("lie", LIES)
def test_instance_ids_of_cityscapes(tmp_path: Path, lie: Size) -> None:
    folder = write_instance_ids(tmp_path, {"ulm_000001_000019": several_maps(1)["1"]})
    next(folder.rglob("*.png")).write_bytes(png(lie, mode=0, depth=16))
    assert refused_without_memory(folder) == expected(lie)


def test_the_last_of_several_headers_counts(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "predictions.json", several_maps(1))
    twice = tmp_path / "predictions" / "1.png"
    twice.write_bytes(png(SIZE, Size(13000, 13000)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(twice) as image:
            assert image.size == (13000, 13000), "Pillow believes the last"
        assert refused_without_memory(path) == expected(Size(13000, 13000))


@pytest.mark.parametrize("ending", [".npy", ".npz"])
@pytest.mark.parametrize("lie", LIES)
def test_arrays(tmp_path: Path, lie: Size, ending: str) -> None:
    if ending == ".npz":
        npz(tmp_path / "1.npz", segmentation=npy(lie), segments_info=npy((), "<U2", "[]".encode("utf-32-le")))
    else:
        (tmp_path / "1.npy").write_bytes(npy(lie))
        (tmp_path / "1.json").write_text("[]")
    assert refused_without_memory(tmp_path) == expected(lie)


@pytest.mark.parametrize("ending", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("header", "what"),
    [
        (npy((13000, 13000)), "it ends too early: (13000, 13000) of int64 are 1352000000 bytes"),
        (npy((10**9, 10**9)), "its shape (1000000000, 1000000000) of int64 is beyond the limit of"),
        (npy((24, 32), "<U1000000"), "its shape (24, 32) of <U1000000 is beyond the limit of"),
        (npy((-1, 5)), "its shape (-1, 5) of int64 is beyond the limit of"),
        (npy((24, 32), body=bytes(24 * 32 * 8 - 1)), "it ends too early: (24, 32) of int64 are 6144 bytes"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31), "its format is version (2, 0)"),
    ],
)
def test_arrays_that_promise_what_they_do_not_hold(tmp_path: Path, ending: str, header: bytes, what: str) -> None:
    if ending == ".npz":
        npz(tmp_path / "1.npz", segmentation=header)
    else:
        (tmp_path / "1.npy").write_bytes(header)
    kind, found = refused_without_memory(tmp_path, None)
    assert kind is IssueKind.UNREADABLE
    assert found.startswith(f"expected an array 'segmentation', but {what}")


def test_arrays_of_another_kind(tmp_path: Path) -> None:
    npz(tmp_path / "1.npz", segmentation=npy((1, 24, 32), body=bytes(24 * 32 * 8)))
    kind, what = refused_without_memory(tmp_path)
    assert kind is IssueKind.UNREADABLE
    assert what == "expected an array 'segmentation', but it contains int64 (1, 24, 32), not integers [H, W]"


def test_files_of_the_right_size_are_read(tmp_path: Path) -> None:
    (panoptic,) = several_maps(1).values()
    coco = write_coco(tmp_path / "predictions.json", {"1": panoptic})
    cities = write_instance_ids(tmp_path / "cities", {"ulm_000001_000019": panoptic})
    for ending in (".npy", ".npz"):
        write_array(tmp_path / ending[1:] / f"1{ending}", np.asfortranarray(panoptic.ids), array_segments(panoptic))
    for path in (coco, cities, tmp_path / "npy", tmp_path / "npz"):
        found = [read(path, size) for size in (SIZE, None)]
        assert [reading.issues for reading in found] == [(), ()]
        for reading in found:
            assert reading.panoptic is not None
            assert torch.equal(reading.panoptic.semantic(void=255), panoptic.semantic(void=255))


def spoilt(chance: random.Random, data: bytes) -> bytes:
    """Change, cut or repeat a part; one in three times near the beginning, where headers are."""
    end = len(data) if chance.randrange(3) else min(len(data), 130)
    action = chance.randrange(3)
    if action == 0:
        changed = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 8, 50])):
            changed[chance.randrange(end)] = chance.randrange(256)
        return bytes(changed)
    start = chance.randrange(end)
    return data[:start] if action == 1 else data[:start] + data[start // 2 :]


def test_five_hundred_spoilt_arrays(tmp_path: Path) -> None:
    chance = random.Random(0)
    (panoptic,) = several_maps(1, (12, 16)).values()
    numbers, text = panoptic.ids.numpy(), json.dumps(array_segments(panoptic))
    files = {kind: tmp_path / kind / f"1.{'npy' if kind == 'npy' else 'npz'}" for kind in ("npy", "plain", "packed")}
    write_array(files["npy"], numbers, array_segments(panoptic))
    for kind, save in (("plain", np.savez), ("packed", np.savez_compressed)):
        files[kind].parent.mkdir()
        save(files[kind], segmentation=numbers, segments_info=text)
    sources = {kind: open_arrays(path.parent, find_arrays(path.parent)) for kind, path in files.items()}
    ends: Counter[str] = Counter()
    for turn in range(500):
        kind = chance.choice(list(files))
        path = files[kind]
        if kind == "npy" and chance.randrange(3) == 0:
            path = path.with_suffix(".json")
        whole = path.read_bytes()
        path.write_bytes(spoilt(chance, whole))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, of headers
            size = Size(12, 16) if turn % 2 else None
            reading = sources[kind].read(sources[kind].entries[0], SHAPES, size)
        path.write_bytes(whole)
        for issue in reading.issues:
            assert "\n" not in str(issue)
            assert len(str(issue)) < 2000
        assert reading.panoptic is not None or reading.issues
        ends[str(reading.issues[0].kind) if reading.issues else f"clean {kind}"] += 1
    assert sum(ends.values()) == 500
    assert ends[IssueKind.UNREADABLE] > 200
    assert ends[IssueKind.UNDESCRIBED] > 5
    assert ends[IssueKind.SHAPE] + ends[IssueKind.CATEGORY] + ends[IssueKind.COLLISION] > 2
    for source in sources.values():
        assert source.read(source.entries[0], SHAPES, Size(12, 16)).issues == ()
