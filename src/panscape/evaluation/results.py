"""Results in a file: everything but the maps, to be looked at and compared later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from panscape.atomic_io import write_json
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, InvalidLabelSpaceError, UnreadableFileError
from panscape.evaluation.records import ImageRecord
from panscape.formats.problems import IssueKind, Problem
from panscape.labels import LabelSpace

_FORMAT = "panscape results 1"
_REMEDY = "expected results as panscape evaluate --out FILE.json writes them"


class Scored(Protocol):
    """What tables, intervals and comparisons need; the scores of files have it, and so do results read back."""

    @property
    def predictions(self) -> Path:
        """Where the predictions lie."""
        ...

    @property
    def truth(self) -> Path:
        """Where the truth lies."""
        ...

    @property
    def labels(self) -> LabelSpace:
        """The categories."""
        ...

    @property
    def records(self) -> Sequence[ImageRecord]:
        """One for each scored image."""
        ...

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong with the files."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the reports of all metrics under their names, among other facts."""
        ...


@dataclass(frozen=True, slots=True)
class Results:
    """Results read from a file.

    Attributes:
        predictions: where they lay, as it was given.
        truth: likewise.
        labels: the categories.
        records: one for each scored image, in the order of the truth.
        problems: what was wrong with the files.
        summary: what the scores gave as their plain dict.
    """

    predictions: Path
    truth: Path
    labels: LabelSpace
    records: tuple[ImageRecord, ...]
    problems: tuple[Problem, ...]
    summary: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the reports of all metrics under their names, among other facts."""
        return dict(self.summary)


def write_results(path: str | Path, scores: Scored) -> None:
    """Write results as JSON, whole or not at all; :func:`read_results` reads them back.

    The file has all that ``scores.to_dict()`` gives, and under "label_space" and "records" what comparing needs.

    Args:
        path: the file to write; its folder must exist.
        scores: what was found.

    Raises:
        InvalidArgumentError: the folder does not exist.
    """
    content = {
        "format": _FORMAT,
        **scores.to_dict(),
        "predictions": str(scores.predictions),
        "truth": str(scores.truth),
        "problems": [problem.to_dict() for problem in scores.problems],
        "label_space": scores.labels.to_dict(),
        "records": [record.to_dict() for record in scores.records],
    }
    write_json(path, content)


def read_results(path: str | Path) -> Results:
    """Read what :func:`write_results` wrote.

    Raises:
        UnreadableFileError: the file is missing or is not JSON.
        InvalidAnnotationError: the JSON holds something else.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UnreadableFileError(path, f"no such file; {_REMEDY}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UnreadableFileError(path, f"{_REMEDY}, but {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InvalidAnnotationError(f"{path}: {_REMEDY} (format {_FORMAT!r}), got {found!r}")
    try:
        labels = LabelSpace.from_dict(content.pop("label_space"))
        records = tuple(ImageRecord.from_dict(record) for record in content.pop("records"))
        problems = tuple(Problem(str(p["file"]), IssueKind(p["kind"]), str(p["what"])) for p in content.pop("problems"))
        predictions, truth = Path(content.pop("predictions")), Path(content.pop("truth"))
    except (KeyError, TypeError, ValueError, InvalidLabelSpaceError, InvalidArgumentError) as error:
        raise InvalidAnnotationError(f"{path}: {_REMEDY}, but {type(error).__name__}: {error}") from error
    for record in records:
        record.require_ranges(len(labels), str(path))
    return Results(predictions, truth, labels, records, problems, content)
