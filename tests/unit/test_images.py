from __future__ import annotations

import numpy as np
import pytest
import torch
from disk import room_for
from PIL import Image

from panscape.errors import InvalidArgumentError
from panscape.images import load_image, save_jpeg, save_png, to_image_tensor


def noise(height=5, width=7, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def written(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("save", [save_png, save_jpeg])
def test_a_full_disk_keeps_the_old_file(save, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    noise = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    # Pillow itself would write 1000 bytes silently.
    with room_for(1000), pytest.raises(OSError, match=r"File too large|disk is full"):
        save(path, noise)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_rgb_comes_back_as_channels_rows_columns(tmp_path):
    rgb = noise()
    image = load_image(written(tmp_path, Image.fromarray(rgb)))
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert np.array_equal(image.numpy(), rgb.transpose(2, 0, 1))
    image += 1  # writable


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        # The stored row 0 and column 0 in the EXIF standard, as numpy moves on [H, W, C].
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_the_orientation_of_the_camera_is_applied_once(tmp_path, orientation, undo):
    rgb = noise()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = written(tmp_path, Image.fromarray(rgb), exif=exif)
    want = undo(rgb).transpose(2, 0, 1)
    assert np.array_equal(load_image(path).numpy(), want)
    assert np.array_equal(load_image(path, apply_orientation=False).numpy(), rgb.transpose(2, 0, 1))
    with Image.open(path) as image:
        assert np.array_equal(to_image_tensor(image).numpy(), want)
        assert np.array_equal(to_image_tensor(image).numpy(), want), "the caller's image was changed"


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = noise()[..., 0]
    image = load_image(written(tmp_path, Image.fromarray(grey)))
    assert np.array_equal(image.numpy(), np.stack([grey] * 3))


def test_one_bit_is_black_and_white(tmp_path):
    bits = noise()[..., 0] > 127
    image = load_image(written(tmp_path, Image.fromarray(bits)))
    assert np.array_equal(image[1].numpy(), np.where(bits, 255, 0))


def test_palette_shows_its_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert image.mode == "P"
    loaded = load_image(written(tmp_path, image))
    assert loaded[0].tolist() == [[10, 40], [70, 40]]
    assert loaded[2].tolist() == [[30, 60], [90, 60]]


def test_a_transparent_palette_entry_is_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    loaded = load_image(written(tmp_path, image, transparency=0))
    assert loaded[:, 0].T.tolist() == [[255, 255, 255], [40, 50, 60]]


def test_a_palette_with_many_transparencies_is_composited_over_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 0, 0, 0])
    loaded = load_image(written(tmp_path, image, transparency=bytes([0, 51, 102])))
    assert loaded[:, 0].T.tolist() == [[255, 255, 255], [212, 214, 216], [153, 153, 153]]


def test_a_transparent_colour_is_white(tmp_path):
    rgb = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    image = load_image(written(tmp_path, Image.fromarray(rgb), transparency=(1, 2, 3)))
    assert image[:, 0].T.tolist() == [[255, 255, 255], [4, 5, 6]]


def test_cmyk_is_mixed_to_rgb(tmp_path):
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255  # cyan alone takes away red
    image = load_image(written(tmp_path, Image.frombytes("CMYK", (16, 16), ink.tobytes()), "image.tif"))
    assert image[:, 0, 0].tolist() == [0, 255, 255]


def test_every_source_gives_the_same_tensor(tmp_path):
    rgb = noise()
    path = written(tmp_path, Image.fromarray(rgb))
    want = torch.from_numpy(rgb.transpose(2, 0, 1).copy())
    read_only = rgb.copy()
    read_only.flags.writeable = False
    sources = [
        path,
        str(path),
        Image.fromarray(rgb),
        rgb,
        read_only,
        rgb[::-1][::-1],
        want,
        want / 255,
        want.double() / 255,
    ]
    for source in sources:
        assert torch.equal(to_image_tensor(source), want)
    assert torch.equal(to_image_tensor(rgb[..., 0]), want[:1].expand(3, -1, -1))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "path, a PIL image.*got int"),
        (
            np.zeros((4, 4, 3), np.float32),
            r"uint8 array \[H, W, 3\] or \[H, W\], got float32 \[4, 4, 3\]; convert it: \(255 \* image\)\.round",
        ),
        (np.full((4, 4, 3), 7.5), r"; convert it: image\.round\(\)\.astype\(np\.uint8\)"),
        (np.full((4, 4), 1000, np.uint16), r"; scale its values, all 1000, to 0\.\.255, and convert"),
        (
            np.linspace(-5, 507, 48).reshape(4, 4, 3),
            r"; scale its values -5\.\.507 to 0\.\.255: \(\(image - -5\) \* \(255 / 512\)\)\.round\(\)\.astype\(np",
        ),
        (np.full((4, 4, 3), np.nan), "; replace its values that are not finite"),
        (np.array([["a"]]), "; give its values as numbers"),
        (np.zeros((4, 4, 4), np.uint8), r"got uint8 \[4, 4, 4\]; omit its fourth band: image\[\.\.\., :3\]"),
        (np.zeros((4, 4, 1), np.uint8), r"omit its last axis: image\[\.\.\., 0\]"),
        (np.zeros((3, 4, 5), np.uint8), r"move the channels to the end: image\.transpose\(1, 2, 0\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"give one of its images, images\[0\], or a list"),
        (np.zeros((0, 4), np.uint8), "an image of at least 1x1 pixels, got 0x4"),
        (torch.zeros(3, 5, 0), "an image of at least 1x1 pixels, got 5x0"),
        (Image.new("RGB", (0, 5)), "an image of at least 1x1 pixels, got 5x0"),
        ("", "expected a path, got an empty one"),
        (torch.zeros(4, 5, 6), r"; omit its fourth band: image\[:3\]"),
        (torch.zeros(4, 5), r"; repeat its grey: image\.expand\(3, -1, -1\)"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"got uint8 \[4, 5, 3\]; move the channels"),
        (torch.zeros(1, 3, 4, 5), r"got float32 \[1, 3, 4, 5\]"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), r"got int64 \[3, 4, 5\]; convert it"),
        (torch.full((3, 4, 5), 2.0), r"got values in 2\.\.2; scale them"),
        (torch.full((3, 4, 5), -0.1), r"got values in -0\.1"),
        (torch.full((3, 4, 5), float("nan")), "got values in nan"),
    ],
)
def test_wrong_sources_say_what_was_expected_and_came(source, message):
    with pytest.raises(InvalidArgumentError, match=message):
        to_image_tensor(source)


def test_png_round_trip_and_nothing_half_written(tmp_path):
    image = torch.from_numpy(noise().transpose(2, 0, 1).copy())
    path = tmp_path / "out.png"
    save_png(path, image)
    assert torch.equal(load_image(path), image)
    with pytest.raises(InvalidArgumentError, match=r"uint8 tensor \[3, H, W\], got float32 \[3, 5, 7\]"):
        save_png(path, image.float())
    with pytest.raises(InvalidArgumentError, match=r"folder .*missing does not exist; create it first"):
        save_png(tmp_path / "missing" / "out.png", image)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_a_jpeg_keeps_thin_colored_lines(tmp_path):
    image = torch.full((3, 64, 64), 90, dtype=torch.uint8)
    image[:, :, 20] = torch.tensor([255, 40, 40], dtype=torch.uint8)[:, None]
    save_jpeg(tmp_path / "line.jpg", image)
    assert (load_image(tmp_path / "line.jpg").int() - image.int()).abs().max() <= 16  # 90 with subsampled colors
    with pytest.raises(InvalidArgumentError, match=r"uint8 tensor \[3, H, W\], got float32 \[3, 64, 64\]"):
        save_jpeg(tmp_path / "line.jpg", image.float())
    with pytest.raises(InvalidArgumentError, match="at most 65500 pixels for a JPEG"):
        save_jpeg(tmp_path / "line.jpg", torch.zeros(3, 1, 65501, dtype=torch.uint8))
