from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import types

import numpy as np
import pytest
from image_writers import chunk, file_of, png, ramp, tiff
from PIL import Image

from panscape.errors import UnreadableFileError
from panscape.image_files import IMAGE_SUFFIXES, open_image, pixel_limit
from panscape.images import exif_orientation, load_image


def noise(height=5, width=7, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(form, image=None, **options):
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64) if image is None else image).save(buffer, form, **options)
    return buffer.getvalue()


def refusal(path):
    with pytest.raises(UnreadableFileError) as caught:
        load_image(path)
    return str(caught.value).removeprefix(f"{path}: ")


FORMATS = {
    *("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "DIB", "GIF", "JPEG2000", "MPO", "PCX", "PPM", "PSD", "QOI"),
    *("SGI", "SUN", "TGA"),
}


def test_suffixes_are_those_of_pillow_for_the_opened_formats_and_of_heic():
    of_pillow = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert {Image.registered_extensions()[suffix] for suffix in of_pillow} == FORMATS
    assert of_pillow | {".heic", ".heif", ".hif"} == IMAGE_SUFFIXES


@pytest.mark.parametrize("form", ["AVIF", "BMP", "JPEG2000", "PCX", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"])
def test_formats_are_read_whatever_the_name_of_the_file(tmp_path, form):
    image = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    options = {"quality": 100} if form in ("AVIF", "WEBP") else {}
    read = load_image(file_of(tmp_path, encoded(form, image, **options), "image.jpg"))
    assert np.abs(read.numpy().transpose(1, 2, 0).astype(int) - image).max() <= 3


def test_postscript_never_reaches_another_program(tmp_path, monkeypatch):
    for start in ("Popen", "call", "check_call", "check_output", "run"):
        monkeypatch.setattr(subprocess, start, lambda *_, **__: pytest.fail("a program was started"))
    path = file_of(tmp_path, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n", "x.png")
    assert refusal(path) == "expected an image, got PostScript; convert it to PNG"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an image, got an empty file; replace it"),
        (
            b"\xff\xfe0\x81",
            "expected a whole image in a format that Pillow reads, got something else; replace the file",
        ),
        (b"not an image", "expected an image, got text; give the image itself"),
        (b'{"caf\xc3\xa9": 1}', "expected an image, got text; give the image itself"),
        (bytes(5000), "expected an image, got a file of zeros; copy or download it again"),
        (
            b'<?xml version="1.0"?>\n<!-- by hand -->\n<svg xmlns="x"/>',
            "expected an image, got an SVG; convert it to PNG",
        ),
        (b"PK\3\4\x14\0", "expected an image, got an archive; extract its images"),
        (b"\0\0\0\x20ftypM4A \0\0\2\0", "expected an image, got sound; give an image or video"),
        (
            b"\0\0\0\x20ftypisom\0\0\2\0",
            "expected an image, got a video (MP4); use panscape predict, and the suffix of a video, such as .mp4",
        ),
        (
            2 * (b"G" + bytes(187)),
            "expected an image, got a video (MPEG-TS); use panscape predict, and the suffix of a video, such as .mp4",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "this is a pointer of git-lfs without the file's content; run: git lfs pull, or download the file",
        ),
        (b"\n<!doctype html><html>", "expected an image, got a web page; download the file itself"),
    ],
)
def test_other_content_is_named(tmp_path, content, message):
    assert refusal(file_of(tmp_path, content, "image.png")) == message


def test_missing_files_folders_and_urls_say_what_to_do(tmp_path):
    assert refusal(tmp_path / "nothing.png") == "no such file; check its name and folder"
    assert refusal(tmp_path) == "expected a file, got a folder; give one of the files in it"
    assert refusal("https://x.org/a.jpg").startswith("URLs are not supported; download the file")


def test_a_truncated_image_is_refused(tmp_path):
    for form in ("JPEG", "PNG", "TIFF"):
        data = encoded(form)
        message = refusal(file_of(tmp_path, data[: len(data) // 2], "image.jpg"))
        assert message.startswith("expected a whole image"), form
        assert message.endswith("; replace the file"), form


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of the damage we did
def test_random_damage_never_escapes_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    outcomes, wholes = set(), [png(ramp(32, 32, 4, 65535)), tiff(ramp(32, 32, 4, 4095), extra=(2,), compression=8)]
    for form in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "AVIF", "JPEG2000", "PCX", "TGA", "SGI"):
        options = {"exif": exif} if form in ("PNG", "JPEG", "TIFF", "WEBP", "AVIF") else {}
        wholes.append(encoded(form, noise(32, 32), **options))
    for whole in wholes:
        for _ in range(25):
            data = bytearray(whole)
            for position in rng.integers(0, min(len(data), 400), 6):
                data[position] = rng.integers(0, 256)
            try:
                load_image(file_of(tmp_path, data, "damaged"))
                outcomes.add("read")
            except UnreadableFileError:
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_read(tmp_path, caplog, progressive):
    data = encoded("JPEG", progressive=progressive)
    want = load_image(file_of(tmp_path, data, "whole.jpg"))
    for num_missing in (1, 2):
        path = file_of(tmp_path, data[:-num_missing], "cut.jpg")
        assert np.array_equal(load_image(path), want)
    assert caplog.messages == [
        f"{path}: the end marker of the JPEG is missing, but no pixel (logged once; other files may be alike)"
    ]
    for num_missing in (4, 40):
        assert "truncated" in refusal(file_of(tmp_path, data[:-num_missing], "cut.jpg"))


@pytest.mark.parametrize("is_crc_wrong", [True, False])
def test_a_png_with_damaged_metadata_is_read(tmp_path, caplog, is_crc_wrong):
    exif = chunk(b"eXIf", b"II*\0\xff\xff\xff\xff" + bytes(6) if is_crc_wrong else b"garbage")
    pixels = ramp(4, 4, 3, 65535)
    want = load_image(file_of(tmp_path, png(pixels), "whole.png"))
    spoilt = exif[:-1] + bytes([exif[-1] ^ 1]) if is_crc_wrong else exif
    path = file_of(tmp_path, png(pixels, spoilt), "spoilt.png")
    assert np.array_equal(load_image(path), want)
    assert exif_orientation(path) == 1
    assert len(caplog.messages) == 1
    assert str(path) in caplog.text
    assert "damaged" in caplog.text


def test_damaged_pixels_of_a_png_are_refused(tmp_path):
    data = bytearray(encoded("PNG"))
    data[data.index(b"IDAT") + 30] ^= 1
    assert refusal(file_of(tmp_path, data, "image.png")).endswith("replace the file")


RASTERS = [  # bands, type of the values, tags, message
    (
        *(8, np.uint8, {"photometric": 1}),
        "expected bands that are marked as red, green and blue, got 8 bands of 8-bit values; convert it with: "
        "gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB -co INTERLEAVE=PIXEL {path} {folder}/image_rgb.tif "
        "(-b: the bands of red, green and blue)",
    ),
    (4, np.uint16, {"photometric": 1}, "expected bands that are marked as red, green and blue, got 4 bands of 16"),
    (
        *(1, np.float32, {"photometric": 1}),
        "expected integers, got 1 band of 32-bit floating-point values, whose range is unknown; convert it with: "
        "gdal_translate -ot Byte -scale LOW HIGH 0 255 {path} {folder}/image_rgb.tif (LOW, HIGH: the values of black "
        "and white, the same for all files)",
    ),
    (
        *(3, np.uint16, {"planar": 2}),
        "expected all bands of a pixel together, got 3 bands of 16-bit values, one after the other; convert it",
    ),
    (
        *(3, np.int16, {}),
        "expected bands that Pillow reads, got 3 bands of 16-bit signed values; convert it with: gdal_translate -b 1 "
        "-b 2 -b 3 -ot Byte -scale LOW HIGH 0 255 -co",
    ),
    (
        *(3, np.uint8, {"compression": 34887}),
        "expected a compression that Pillow reads, got number 34887; convert it with: gdal_translate -b 1 -b 2 -b 3 "
        "-co COMPRESS=DEFLATE -co",
    ),
    (
        *(3, np.uint8, {"tags": [(254, (4, [1]))]}),
        "expected an image, got a raw file of a camera, whose first image is a preview; export it as TIFF",
    ),
]


@pytest.mark.parametrize(("bands", "dtype", "tags", "message"), RASTERS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_rasters_that_pillow_does_not_read_say_how_to_convert_them(tmp_path, bands, dtype, tags, message, order):
    path = file_of(tmp_path, tiff(ramp(4, 4, bands, 100, dtype), order=order, **tags))
    assert refusal(path).startswith(message.format(path=path, folder=tmp_path))


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("compression", [1, 8])
def test_bands_of_a_tiff_in_any_arrangement(tmp_path, planar, compression):
    pixels = ramp(6, 5, 3, 255, np.uint8)
    path = file_of(tmp_path, tiff(pixels, planar=planar, compression=compression))
    assert np.array_equal(load_image(path), pixels.transpose(2, 0, 1))


def test_unused_bands_are_noted_once(tmp_path, caplog):
    pixels = ramp(4, 4, 5, 255, np.uint8)
    for name in ("a.tif", "b.tif"):
        read = load_image(file_of(tmp_path, tiff(pixels, extra=(0, 0)), name))
        assert np.array_equal(read, pixels[..., :3].transpose(2, 0, 1))
    assert caplog.messages == [
        f"{tmp_path}/a.tif: only bands 1 to 3 are used of its 5 bands (logged once; other files may be alike)"
    ]


def test_lines_of_libtiff_become_part_of_the_error(tmp_path, capfd):
    data = tiff(ramp(16, 16, 3, 255, np.uint8), compression=8)
    spoilt = bytearray(data)
    spoilt[20:60] = bytes(40)
    assert "ZIPDecode: Decoding error at scanline" in refusal(file_of(tmp_path, spoilt))
    assert capfd.readouterr().err == ""


def test_other_lines_on_standard_error_pass(tmp_path, capfd):
    with open_image(file_of(tmp_path, tiff(ramp(4, 4, 3, 255, np.uint8)))):
        os.write(2, b"panscape: warning: something else.\n")
        print("and this", file=sys.stderr)
        os.write(2, b"TIFFReadDirectory: Warning, Unknown field with tag 1.\n")
    assert sorted(capfd.readouterr().err.splitlines()) == ["and this", "panscape: warning: something else."]


def test_images_above_the_limit_are_refused_within_the_block(tmp_path):
    path = file_of(tmp_path, encoded("PNG"))
    for limit in (1, 64 * 64 - 1):  # Pillow's own limit is even
        with pixel_limit(limit):
            assert refusal(path).startswith(f"the image is larger than the limit of {limit} pixels (")
    with pixel_limit(64 * 64 - 1):
        assert "panscape predict --max-pixels, in Python PIL.Image.MAX_IMAGE_PIXELS" in refusal(path)
    with pixel_limit(64 * 64):
        assert load_image(path).shape == (3, 64, 64)
    assert Image.MAX_IMAGE_PIXELS == 89478485


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_noted_and_its_first_frame_used(tmp_path, caplog, form):
    frames = [Image.new("RGB", (4, 4), color) for color in ("white", "black")]
    path = file_of(tmp_path, encoded(form, np.asarray(frames[0]), save_all=True, append_images=frames[1:]), "image.gif")
    assert load_image(path).unique().tolist() == [255]
    assert "it is an animation, of which only the first frame is used" in caplog.text


HEIC = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic"


def test_heic_without_its_extra_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    message = "reading HEIC needs pi_heif; install it with: pip install 'panscape[heif]', or export the photo as JPEG"
    assert refusal(file_of(tmp_path, HEIC, "photo.HEIC")) == message


def test_heic_is_read_by_its_extra(tmp_path, monkeypatch):
    want = noise()

    class HeifImageFile(Image.Image):
        def __init__(self, stream):
            assert stream.read() == HEIC
            self.tile = []
            self.__dict__.update(Image.fromarray(want).__dict__)

    module = types.ModuleType("pi_heif")
    module.HeifImageFile = HeifImageFile
    monkeypatch.setitem(sys.modules, "pi_heif", module)
    path = file_of(tmp_path, HEIC, "photo.jpg")
    assert np.array_equal(load_image(path), want.transpose(2, 0, 1))
    with pixel_limit(34):
        assert refusal(path).startswith("the image is larger than the limit of 34 pixels (5x7); downscale it")


def test_avif_with_a_general_brand_is_not_taken_for_heic(tmp_path):
    data = encoded("AVIF").replace(b"ftypavif", b"ftypmif1", 1)
    assert load_image(file_of(tmp_path, data, "image.avif")).shape == (3, 64, 64)
