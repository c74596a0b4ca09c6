"""Results in a JSON file: everything except the maps, for later comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from panscape.atomic_io import write_json
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, InvalidLabelSpaceError, UnreadableFileError
from panscape.evaluation.records import ImageRecord
from panscape.formats.issues import Issue, IssueKind
from panscape.labels import LabelSpace

_FORMAT = "panscape results 1"
_REMEDY = "expected results written by panscape evaluate --out FILE.json"


class Evaluation(Protocol):
    """The input of tables, intervals and comparisons; implemented by file scores and by results read from JSON."""

    @property
    def predictions(self) -> Path:
        """Path of the predictions."""
        ...

    @property
    def truth(self) -> Path:
        """Path of the ground truth."""
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
    def issues(self) -> Sequence[Issue]:
        """Issues of the files."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the reports of all metrics by name, and metadata."""
        ...


@dataclass(frozen=True, slots=True)
class SavedEvaluation:
    """Results read from a file.

    Attributes:
        predictions: path of the predictions, as passed by the user.
        truth: likewise.
        labels: the categories.
        records: one for each scored image, in the order of the ground truth.
        issues: issues of the files.
        summary: ``to_dict()`` of the scores.
    """

    predictions: Path
    truth: Path
    labels: LabelSpace
    records: tuple[ImageRecord, ...]
    issues: tuple[Issue, ...]
    summary: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the reports of all metrics by name, and metadata."""
        return dict(self.summary)


def write_results(path: str | Path, scores: Evaluation) -> None:
    """Write results as JSON, atomically; :func:`read_results` reads them.

    The file contains ``scores.to_dict()``, and "label_space" and "records" for comparisons.

    Args:
        path: the file to write; its folder must exist.
        scores: the results.

    Raises:
        InvalidArgumentError: the folder does not exist.
    """
    content = {
        "format": _FORMAT,
        **scores.to_dict(),
        "predictions": str(scores.predictions),
        "truth": str(scores.truth),
        "issues": [issue.to_dict() for issue in scores.issues],
        "label_space": scores.labels.to_dict(),
        "records": [record.to_dict() for record in scores.records],
    }
    write_json(path, content)


def read_results(path: str | Path) -> SavedEvaluation:
    """Read results written by :func:`write_results`.

    Raises:
        UnreadableFileError: the file is missing or is not JSON.
        InvalidAnnotationError: the JSON has other content.
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
        issues = tuple(Issue(str(p["file"]), IssueKind(p["kind"]), str(p["what"])) for p in content.pop("issues"))
        predictions, truth = Path(content.pop("predictions")), Path(content.pop("truth"))
    except (KeyError, TypeError, ValueError, InvalidLabelSpaceError, InvalidArgumentError) as error:
        raise InvalidAnnotationError(f"{path}: {_REMEDY}, but {type(error).__name__}: {error}") from error
    for record in records:
        record.require_ranges(len(labels), str(path))
    return SavedEvaluation(predictions, truth, labels, records, issues, content)
