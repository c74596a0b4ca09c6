"""Files that are no images: what they are by their first bytes, and what to do with them."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from pathlib import Path

from panscape.errors import UnreadableFileError
from panscape.input_files import require_file

_START = 1024  # bytes that are read
_VIDEO = "use panscape predict, and the suffix of a video, such as .mp4"
_TRANSPORT_STREAM = rb"(.{4})?G.{187}(.{4})?G"  # packets of 188 bytes, in Blu-ray and AVCHD after 4 more

# The brands of AVIF and HEIC are those of images.
_KINDS = tuple(
    (re.compile(beginning, re.DOTALL), what, remedy)
    for beginning, what, remedy in (
        (rb"\Z", "an empty file", "replace it"),
        (rb"\x00+\Z", "a file of zeros", "copy or download it again"),
        (rb"....ftypM4[AB]|ID3|fLaC|RIFF....WAVE", "sound", "give an image or video"),
        (rb"....ftyp(?!avi[fs]|mif1|msf1|he[ivx])|....moov", "a video (MP4)", _VIDEO),
        (rb"\x1aE\xdf\xa3", "a video (Matroska or WebM)", _VIDEO),
        (rb"RIFF....AVI |OggS|FLV\x01|\x00\x00\x01[\xb3\xba]|0&\xb2u\x8ef\xcf\x11", "a video", _VIDEO),
        (_TRANSPORT_STREAM, "a video (MPEG-TS)", _VIDEO),
        (rb"%!PS", "PostScript", "convert it to PNG"),
        (rb"%PDF", "a PDF", "convert its pages to PNG"),
        (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive", "extract its images"),
        (rb"(?i)\s*(<[?!].*)?<svg\b", "an SVG", "convert it to PNG"),
        (rb"(?i)\s*(<!doctype html|<html)", "a web page", "download the file itself"),
    )
)


def kind_of(path: Path) -> tuple[str, str] | None:
    """Return what a file is that is no image, and what to do with it; None if it is unknown or an image.

    Raises:
        UnreadableFileError: it is missing, or not a regular file.
    """
    start = _start_of(path)
    for pattern, what, remedy in _KINDS:
        if pattern.match(start):
            return what, remedy
    return ("text", "give the image itself") if _is_text(start) else None


def is_transport_stream(path: Path) -> bool:
    """Return whether a file is a video in MPEG-TS, whose suffix ``.ts`` is also that of TypeScript."""
    try:
        return re.match(_TRANSPORT_STREAM, _start_of(path), re.DOTALL) is not None
    except UnreadableFileError:
        return False


def _start_of(path: Path) -> bytes:
    require_file(path)
    try:
        with path.open("rb") as stream:
            return stream.read(_START)
    except OSError as error:
        raise UnreadableFileError(path, f"cannot be read ({error.strerror})") from error


def _is_text(start: bytes) -> bool:
    try:
        text = getincrementaldecoder("utf-8")().decode(start)  # the last character may be cut off
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
