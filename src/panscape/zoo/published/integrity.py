"""Integrity of published files: digests in their names, in the catalogue, or of the first file that was fetched."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panscape.errors import UnreadableFileError
from panscape.input_files import require_file
from panscape.zoo.published.catalogue import CatalogueEntry, KnownDigest, catalogue

# model_final_bd324a.pkl: detectron2 uses the first 6 digits of the md5 (its MODEL_ZOO.md); resnet50-0676ba61.pth:
# torch.hub and mmdetection use the first 8 digits of the sha256.
_NAMED = ((re.compile(r".*_([0-9a-f]{6})\.pkl"), "md5"), (re.compile(r".*-([0-9a-f]{8})\.pth"), "sha256"))


def digest_of(path: Path, kind: str = "sha256") -> str:
    """Return the digest of a file in hexadecimal digits, "sha256" or "md5"."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def checked_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, after checking it against the digest in the file's name.

    Raises:
        UnreadableFileError: the file is missing, or its digest does not match its name.
    """
    require_file(path)
    named = [KnownDigest(kind, match[1]) for pattern, kind in _NAMED if (match := pattern.fullmatch(path.name))]
    digest = digest_of(path)
    for known in named:
        if other := _other_than(known, path, digest):
            raise UnreadableFileError(
                path,
                f"expected a file whose {known}, as in its name, got {other}; download it again, or rename it if it is "
                "another file",
            )
    return digest


def entry_of(path: Path) -> CatalogueEntry | None:
    """Return the entry of a published file by its digest; None if no publisher states it."""
    found = {kind: digest_of(path, kind) for kind in ("md5", "sha256")}
    for entry in catalogue().values():
        if entry.digest is not None and found[entry.digest.kind].startswith(entry.digest.digits):
            return entry
    return None


def verified_digest(path: Path, entry: CatalogueEntry) -> str:
    """Return the SHA-256 of a published file, after checking what its publisher states of it.

    Raises:
        UnreadableFileError: the file is missing, or has another size or digest.
    """
    require_file(path)
    size = path.stat().st_size
    if entry.bytes is not None and size != entry.bytes:
        raise UnreadableFileError(path, f"expected {entry.bytes} bytes for {entry.name}, got {size}; download it again")
    digest, known = digest_of(path), entry.digest
    if known is not None and (other := _other_than(known, path, digest)):
        raise UnreadableFileError(
            path, f"expected the file of {entry.name}, whose {known}, got {other}; download it again"
        )
    return digest


def _other_than(known: KnownDigest, path: Path, sha256: str) -> str | None:
    """Return the digest of a file if it is another one than the known one."""
    found = sha256 if known.kind == "sha256" else digest_of(path, known.kind)
    return None if found.startswith(known.digits) else found


def require_same_file(digest: str, first: Mapping[str, Any], path: Path, entry: CatalogueEntry) -> None:
    """Check that an address without a published digest still has the file that was fetched first.

    Args:
        digest: SHA-256 of the file.
        first: the record of the first file; empty if there is none.
        path: path of the file, for messages.
        entry: the model.

    Raises:
        UnreadableFileError: it is another file.
    """
    if first and first.get("sha256") != digest:
        raise UnreadableFileError(
            path,
            f"expected the file of {entry.name} that was fetched on {first.get('date')}, sha256 {first.get('sha256')}, "
            f"got {digest}; if its authors have replaced it, download it and panscape weights fetch {entry.name} "
            "--file PATH",
        )
