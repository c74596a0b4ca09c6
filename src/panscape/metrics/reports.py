"""The bases of all reports: tables for people, plain values for JSON, means over groups of categories."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

from panscape.labels import LabelSpace
from panscape.metrics.tables import format_percent, format_table
from panscape.serialization import to_plain


class Report(ABC):
    """The report of a metric, a dataclass; ``str()`` returns tables in percent."""

    __slots__ = ()

    @abstractmethod
    def __str__(self) -> str: ...

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan. Scores of categories come before their counts."""
        plain: dict[str, Any] = to_plain(self, "report", _scores)
        return plain


class CategoryScores(ABC):
    """The counts of one category, a dataclass, and the scores that follow from them.

    Attributes:
        scores: names of the properties that are scores; they are part of :meth:`Report.to_dict`.
    """

    __slots__ = ()
    scores: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def occurs(self) -> bool:
        """Whether the category enters tables and means."""


def _scores(part: Any) -> dict[str, Any]:
    return {name: getattr(part, name) for name in part.scores} if isinstance(part, CategoryScores) else {}


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Means over the categories of a group that occur.

    Subclasses have one field for each mean, with the name of the score of a category; nan without any such category.

    Attributes:
        num_categories: number of categories in the means.
    """

    num_categories: int

    @classmethod
    def mean(cls, categories: Iterable[CategoryScores], *, absent_count: bool = False) -> Self:
        """Average the categories that occur, or with ``absent_count`` all, those that do not occur as 0."""
        categories = list(categories)
        present = [category for category in categories if category.occurs]
        count = len(categories) if absent_count else len(present)
        names = [field.name for field in fields(cls) if field.name != "num_categories"]
        means = {name: sum(getattr(c, name) for c in present) / count if count else math.nan for name in names}
        return cls(num_categories=count, **means)


GroupT = TypeVar("GroupT", bound=GroupScores)
CategoryT = TypeVar("CategoryT", bound=CategoryScores)


@dataclass(frozen=True, slots=True)
class GroupReport(Report, Generic[GroupT, CategoryT]):
    """A report with means over groups of categories; ``str()`` returns a table in percent.

    Attributes:
        all: means over all categories.
        things: means over the things.
        stuff: means over the stuff.
        per_category: by category name, in the order of the label space.
    """

    group: ClassVar[Any]
    """The class of the groups."""
    score_columns: ClassVar[Mapping[str, str]]
    """Title and name of the scores in the table."""
    count_columns: ClassVar[Mapping[str, str]] = {}
    """Title and name of the counts of categories in the table."""

    all: GroupT
    things: GroupT
    stuff: GroupT
    per_category: Mapping[str, CategoryT]

    @classmethod
    def from_categories(
        cls,
        categories: Iterable[CategoryT],
        labels: LabelSpace,
        summarize: Callable[[list[CategoryT]], GroupT] | None = None,
    ) -> Self:
        """Create a report from the categories of a label space, in their order; groups are means by default."""
        each = list(categories)
        summarize = summarize or cls.group.mean
        return cls(
            all=summarize(each),
            things=summarize([each[i] for i in labels.thing_ids]),
            stuff=summarize([each[i] for i in labels.stuff_ids]),
            per_category={category.name: scores for category, scores in zip(labels, each, strict=True)},
        )

    def __str__(self) -> str:
        scores, counts = self.score_columns, self.count_columns
        rows = [["", *scores, *counts]]
        for name, group in (("all", self.all), ("things", self.things), ("stuff", self.stuff)):
            means = [format_percent(getattr(group, score)) for score in scores.values()]
            rows.append([f"{name} ({group.num_categories})", *means, *("" for _ in counts)])
        for name, category in self.per_category.items():
            if category.occurs:
                values = [format_percent(getattr(category, score)) for score in scores.values()]
                rows.append([name, *values, *(str(getattr(category, count)) for count in counts.values())])
        return format_table(rows)


class IoUScores(CategoryScores):
    """True positives, false positives and false negatives in pixels, as fields, and their IoU."""

    __slots__ = ()
    scores = ("iou",)
    tp: float
    fp: float
    fn: float

    @property
    def iou(self) -> float:
        """Intersection over union in 0..1; nan without pixels."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else math.nan

    @property
    def occurs(self) -> bool:
        """Whether the category has pixels."""
        return not math.isnan(self.iou)


IoUT = TypeVar("IoUT", bound=IoUScores)


@dataclass(frozen=True, slots=True)
class MeanIoUReport(Report, Generic[IoUT]):
    """A report on IoU in pixels; ``str()`` returns a table in percent.

    Attributes:
        mean_iou: mean over the categories that have pixels, in 0..1; nan without any.
        per_category: by category name, in the order of the label space.
    """

    title: ClassVar[str]
    """Title of the column."""

    mean_iou: float
    per_category: Mapping[str, IoUT]

    def __str__(self) -> str:
        present = {name: category for name, category in self.per_category.items() if category.occurs}
        rows = [["", self.title], [f"mean ({len(present)})", format_percent(self.mean_iou)]]
        rows += [[name, format_percent(category.iou)] for name, category in present.items()]
        return format_table(rows)


def mean_iou(categories: Iterable[IoUScores]) -> float:
    """Return the mean over the categories that have pixels; nan without any."""
    ious = [category.iou for category in categories if category.occurs]
    return sum(ious) / len(ious) if ious else math.nan
