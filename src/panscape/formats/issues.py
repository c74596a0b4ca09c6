"""Issues found in evaluated files: one line each, counted by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from panscape.errors import escape_control_chars


class IssueKind(StrEnum):
    """Kinds of issues. Ambiguous parts of a prediction are void; an image with ambiguous ground truth is skipped."""

    MISSING_PREDICTION = "no prediction"
    UNKNOWN_IMAGE = "image without ground truth"
    MISSING_TRUTH = "no ground truth"
    UNREADABLE = "unreadable file"
    PATH = "path outside its folder"
    SHAPE = "invalid description"
    DUPLICATE = "duplicate"
    SIZE = "wrong size"
    CATEGORY = "unknown category"
    UNDESCRIBED = "ids without description"
    WITHOUT_PIXELS = "descriptions without pixels"
    COLLISION = "id shared by several segments"
    AREA = "areas that contradict the pixels"
    SCORE = "scores out of range"
    PIECES = "stuff in several segments"
    VOID = "void that may be a category"
    COLORS = "categories of one color"
    NUMBERING = "category ids of another numbering"
    NO_SEGMENTS = "no segment"
    IMAGE_ID = "other image ids"
    STATED_SIZE = "sizes that contradict the PNG"
    FLAGS = "no thing category"


NOTES = frozenset(
    {
        *(IssueKind.AREA, IssueKind.SCORE, IssueKind.PIECES, IssueKind.VOID, IssueKind.COLORS),
        *(IssueKind.IMAGE_ID, IssueKind.STATED_SIZE, IssueKind.FLAGS),
    }
)
"""Kinds that are reported as notes and do not affect the result."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue of one file.

    Attributes:
        file: its path, or a description of the part of it.
        kind: of the issue.
        what: expected content, actual content and remedy, in one line.
    """

    file: str
    kind: IssueKind
    what: str

    @property
    def is_note(self) -> bool:
        """Whether it is a note that does not affect the result."""
        return self.kind in NOTES

    def __str__(self) -> str:
        return escape_control_chars(f"{self.file}: {self.what}")

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict for JSON."""
        return {"file": self.file, "kind": str(self.kind), "what": self.what, "is_note": self.is_note}


def count_by_kind(issues: Iterable[Issue]) -> dict[str, int]:
    """Return the number of issues of each kind, the most frequent first."""
    return dict(Counter(str(issue.kind) for issue in issues).most_common())
