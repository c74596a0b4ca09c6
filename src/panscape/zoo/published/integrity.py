"""Whether a published file is whole: many hosts write the beginning of its digest into its name."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from panscape.errors import UnreadableFileError

# model_final_bd324a.pkl: detectron2 has the first 6 digits of the md5 (its MODEL_ZOO.md); resnet50-0676ba61.pth:
# torch.hub's convention, and mmdetection's, has the first 8 of the sha256.
_NAMED = ((re.compile(r".*_([0-9a-f]{6})\.pkl"), "md5"), (re.compile(r".*-([0-9a-f]{8})\.pth"), "sha256"))


def checked_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, if it is the file that its name promises.

    Raises:
        UnreadableFileError: the file is missing, or its digest does not begin as its name says.
    """
    try:
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
                        f"expected a file whose {kind} begins with {named[1]}, as its name says, got {found}; download "
                        "it again, or rename it if it is another file",
                    )
    except FileNotFoundError as error:
        raise UnreadableFileError(path, "no such file; give the path of a downloaded checkpoint") from error
    return digest
