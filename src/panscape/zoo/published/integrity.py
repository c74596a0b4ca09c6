"""Integrity check of published files whose names contain the beginning of their digest."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from panscape.errors import UnreadableFileError
from panscape.input_files import require_file

# model_final_bd324a.pkl: detectron2 uses the first 6 digits of the md5 (its MODEL_ZOO.md); resnet50-0676ba61.pth:
# torch.hub and mmdetection use the first 8 digits of the sha256.
_NAMED = ((re.compile(r".*_([0-9a-f]{6})\.pkl"), "md5"), (re.compile(r".*-([0-9a-f]{8})\.pth"), "sha256"))


def checked_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, after checking it against the digest in the file's name.

    Raises:
        UnreadableFileError: the file is missing, or its digest does not match its name.
    """
    require_file(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        for pattern, kind in _NAMED:
            named = pattern.fullmatch(path.name)
            if named is None:
                continue
            found = digest if kind == "sha256" else hashlib.file_digest(file, kind).hexdigest()
            if not found.startswith(named[1]):
                raise UnreadableFileError(
                    path,
                    f"expected a file whose {kind} begins with {named[1]}, as in its name, got {found}; download "
                    "it again, or rename it if it is another file",
                )
    return digest
