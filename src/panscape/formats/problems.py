"""What is wrong with the files that are scored: one line each, counted by kind."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class IssueKind(StrEnum):
    """What can be wrong. An image's prediction counts as void where it is in doubt; its truth must be beyond doubt."""

    MISSING_PREDICTION = "no prediction"
    UNKNOWN_IMAGE = "image that the truth lacks"
    MISSING_TRUTH = "no truth"
    UNREADABLE = "unreadable file"
    PATH = "path outside its folder"
    SHAPE = "description of another form"
    DUPLICATE = "described twice"
    SIZE = "size differs"
    CATEGORY = "unknown category"
    UNDESCRIBED = "ids without description"
    WITHOUT_PIXELS = "descriptions without pixels"
    COLLISION = "ids of several segments"
    AREA = "areas that contradict the pixels"
    SCORE = "scores out of range"
    PIECES = "stuff in several segments"


NOTES = frozenset({IssueKind.AREA, IssueKind.SCORE, IssueKind.PIECES})
"""Kinds that are reported although nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one file.

    Attributes:
        file: its path, or what of it is meant.
        kind: for counting.
        what: was expected, came, and can be done, in one line.
    """

    file: str
    kind: IssueKind
    what: str

    @property
    def is_note(self) -> bool:
        """Whether it is only reported, and nothing is wrong."""
        return self.kind in NOTES

    def __str__(self) -> str:
        return escape_control_chars(f"{self.file}: {self.what}")

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict for JSON."""
        return {"file": self.file, "kind": str(self.kind), "what": self.what, "is_note": self.is_note}


def count_by_kind(problems: Iterable[Problem]) -> dict[str, int]:
    """Return how many problems there are of each kind, the most frequent first."""
    return dict(Counter(str(problem.kind) for problem in problems).most_common())


_LONGEST_MESSAGE = 400  # letters: those of zipfile repeat what is damaged
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode: controls, halves of pairs, ends of lines


def escape_control_chars(text: str) -> str:
    """Return a text in which characters that do something, or that cannot be written, are spelt out."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def in_one_line(error: Exception, file: str) -> str:
    """Return the message of an error without line breaks and without the file that it begins with; long ones cut."""
    text = " ".join(str(error).split()).removeprefix(f"{file}: ")
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
