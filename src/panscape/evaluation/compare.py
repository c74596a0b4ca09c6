"""Comparison of two runs on the same images, with significance of the differences.

Differences get paired bootstrap intervals (:mod:`panscape.evaluation.bootstrap`): each draw uses the same images of
both runs, so the difficulty of images cancels out. A difference is more than noise if its 95 % interval excludes 0. One
in twenty purely random differences gets this verdict, so a single category among many needs care.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panscape.errors import InvalidArgumentError, listed
from panscape.evaluation.bootstrap import NUM_SAMPLES, image_sums, intervals, resampled, small_sample_warning, totals
from panscape.evaluation.records import ImageRecord
from panscape.evaluation.results import Evaluation
from panscape.metrics.error_types import ErrorType
from panscape.metrics.protocol import PROTOCOLS
from panscape.metrics.summary_row import SUMMARY_COLUMNS, summary_row
from panscape.metrics.tables import format_count, format_percent, format_table

_GROUPS = ("all", "things", "stuff")
_MEASURES = ("PQ", "SQ", "RQ")


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric in both runs.

    Attributes:
        before: in the first run, in 0..1; nan without segments.
        after: in the second run.
        low: lower end of the paired 95 % interval of ``after - before``; nan if undefined.
        high: upper end.
    """

    before: float
    after: float
    low: float
    high: float

    @property
    def change(self) -> float:
        """Difference, second run minus first."""
        return self.after - self.before

    @property
    def is_more_than_noise(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict for JSON; None stands for nan."""
        parts = {"before": self.before, "after": self.after, "change": self.change, "low": self.low, "high": self.high}
        entries = {name: None if math.isnan(value) else value for name, value in parts.items()}
        return {**entries, "is_more_than_noise": self.is_more_than_noise}


@dataclass(frozen=True, slots=True)
class ImageChange:
    """The PQ of one image in both runs, in 0..1; nan without segments."""

    name: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """Difference, second run minus first; nan if one has no segments."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of a second run with a first one; ``str()`` returns a table.

    Attributes:
        first: name of the first run.
        second: name of the second one.
        protocol: of panoptic quality in both runs; None if unknown.
        num_images: number of images in both runs.
        num_only_first: number of images only in the first run, which are ignored.
        num_only_second: likewise for the second run.
        groups: "PQ", "SQ" and "RQ", "PQ of things" and so on, and "mIoU", which is "map mIoU" if a run has a semantic
            head; "head mIoU" if both have one.
        categories: PQ by category.
        types: impact of each error type.
        images: in the order of the first run.
    """

    first: str
    second: str
    protocol: str | None
    num_images: int
    num_only_first: int
    num_only_second: int
    groups: dict[str, Difference]
    categories: dict[str, Difference]
    types: dict[ErrorType, Difference]
    images: tuple[ImageChange, ...]

    def __str__(self) -> str:
        return self.table()

    @property
    def changed(self) -> list[ImageChange]:
        """Images with a change, the largest increase first, the largest decrease last."""
        known = [image for image in self.images if image.change]
        return sorted((p for p in known if not math.isnan(p.change)), key=lambda p: (-p.change, p.name))

    @property
    def sentence(self) -> str:
        """The verdict on PQ as a sentence."""
        pq = self.groups["PQ"]
        if math.isnan(pq.change):
            return "Nothing can be compared: one of the runs has no segments."
        if not pq.change:
            return "PQ is the same."
        way = "higher" if pq.change > 0 else "lower"
        interval = f"95 % interval {_signed(pq.low)} to {_signed(pq.high)}"
        verdict = "more than noise" if pq.is_more_than_noise else "could be noise"
        return f"PQ is {abs(100 * pq.change):.1f} points {way} ({interval}): {verdict}."

    @property
    def note(self) -> str:
        """A note on the means, if necessary."""
        known = PROTOCOLS.get(self.protocol or "")
        if known is not None and known.absent_categories_count:
            return f"Means are over the categories that occur; the protocol {self.protocol} counts others with 0."
        if known is not None and known.groups_pool_segments:
            return f"Means are over the categories that occur; the protocol {self.protocol} pools their segments."
        return ""

    def table(self) -> str:
        """Return a table of groups, then of categories and error types with changes above noise."""
        clear = {name: d for name, d in self.categories.items() if d.is_more_than_noise}
        costs = {f"ΔPQ {error_type.title}": d for error_type, d in self.types.items() if d.is_more_than_noise}
        rows = [["", "first", "second", "change", "95 % interval", ""]]
        for name, d in {**self.groups, **clear, **costs}.items():
            interval = "-" if math.isnan(d.low) else f"{_signed(d.low)} to {_signed(d.high)}"
            verdict = "more than noise" if d.is_more_than_noise else ""
            rows.append([name, format_percent(d.before), format_percent(d.after), _signed(d.change), interval, verdict])
        head = f"{format_count(self.num_images, 'image')}; first: {self.first}, second: {self.second}"
        if self.num_only_first or self.num_only_second:
            head += f"; left out: {self.num_only_first} only in the first, {self.num_only_second} only in the second"
        return "\n\n".join(
            filter(None, (head, format_table(rows), self.sentence, self.note, small_sample_warning(self.num_images)))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        return {
            "first": self.first,
            "second": self.second,
            "protocol": self.protocol,
            "images": self.num_images,
            "only_first": self.num_only_first,
            "only_second": self.num_only_second,
            **self._metrics(),
            "error_types": {error_type.name.lower(): d.to_dict() for error_type, d in self.types.items()},
            "changed": [{"image": p.name, "before": p.before, "after": p.after} for p in self.changed],
        }

    def _metrics(self) -> dict[str, Any]:
        """Return the differences under the keys of the metrics of one run."""
        plain = {name: d.to_dict() for name, d in self.groups.items()}
        panoptic: dict[str, Any] = {
            group: {m.lower(): plain[m if group == "all" else f"{m} of {group}"] for m in _MEASURES}
            for group in _GROUPS
        }
        panoptic["per_category"] = {name: {"pq": d.to_dict()} for name, d in self.categories.items()}
        semantics = {"mIoU": "semantic", "map mIoU": "semantic", "head mIoU": "semantic_head"}
        heads = {key: {"mean_iou": plain[name]} for name, key in semantics.items() if name in plain}
        return {"panoptic": panoptic, **heads}


def _signed(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:+.1f}"


def compare(
    first: Evaluation,
    second: Evaluation,
    *,
    names: tuple[str, str] | None = None,
    samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two runs on the images that both have.

    Args:
        first: scores, or results from a file.
        second: likewise, over the same label space and truth.
        names: display names of the runs; by default the paths of their predictions.
        samples: number of draws for the intervals.
        seed: decides the draws.

    Raises:
        InvalidArgumentError: the label spaces, protocols or ground truths differ, or no image is in both.
    """
    protocol = _common_protocol(first, second)
    mine, theirs = _common_records(first, second)
    sums = [image_sums(records, len(first.labels)) for records in (mine, theirs)]
    before, after = (totals(each, first.labels) for each in sums)
    drawn = [resampled(each, first.labels, samples, seed) for each in sums]
    ends = intervals(drawn[1] - drawn[0])

    def difference(part: str, *place: int) -> Difference:
        values = (getattr(s, part)[(0, *place)] for s in (before, after))
        return Difference(*map(float, values), *(float(getattr(s, part)[place]) for s in (ends.low, ends.high)))

    groups = {
        measure if group == "all" else f"{measure} of {group}": difference("groups", i, j)
        for i, group in enumerate(_GROUPS)
        for j, measure in enumerate(_MEASURES)
    }
    of_head = difference("head_mean_iou")
    has_head = not (math.isnan(of_head.before) and math.isnan(of_head.after))
    groups["map mIoU" if has_head else "mIoU"] = difference("mean_iou")
    if not math.isnan(of_head.change):
        groups["head mIoU"] = of_head
    one, two = names or distinct_names(first.predictions, second.predictions)
    return Comparison(
        first=one,
        second=two,
        protocol=protocol,
        num_images=len(mine),
        num_only_first=len(first.records) - len(mine),
        num_only_second=len(second.records) - len(mine),
        groups=groups,
        categories={
            category.name: difference("categories", i, 0)
            for i, category in enumerate(first.labels)
            if not np.isnan([before.categories[0, i, 0], after.categories[0, i, 0]]).all()
        },
        types={error_type: difference("costs", int(error_type)) for error_type in ErrorType},
        images=tuple(ImageChange(a.name, a.pq, b.pq) for a, b in zip(mine, theirs, strict=True)),
    )


def _common_protocol(first: Evaluation, second: Evaluation) -> str | None:
    """Return the protocol of both runs; raise where it or the label space differs."""
    if [(c.name, c.is_thing) for c in first.labels] != [(c.name, c.is_thing) for c in second.labels]:
        raise InvalidArgumentError(
            f"expected two runs over one label space, got {first.labels.name!r} ({len(first.labels)} categories) and "
            f"{second.labels.name!r} ({len(second.labels)} categories) that differ in their categories; evaluate "
            "both with the same --labels"
        )
    protocols = [scores.to_dict().get("protocol") for scores in (first, second)]
    if protocols[0] != protocols[1]:
        raise InvalidArgumentError(
            f"expected two runs with the same protocol, got {protocols[0]!r} and {protocols[1]!r}; evaluate both with "
            "the same --protocol"
        )
    return protocols[0]


def _common_records(first: Evaluation, second: Evaluation) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Return the records of the images of both runs, in the order of the first; raise where their truth differs."""
    others = {record.name: record for record in second.records}
    mine = [record for record in first.records if record.name in others]
    theirs = [others[record.name] for record in mine]
    if not mine:
        raise InvalidArgumentError(
            f"expected two runs on the same images, got {len(first.records)} and {len(second.records)} images "
            "without a common name; evaluate both with the same --gt"
        )
    _require_same_truth(mine, theirs)
    return mine, theirs


def distinct_names(*paths: Path) -> tuple[str, ...]:
    """Return the shortest distinct suffixes of paths; of equal paths, numbered names."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = tuple(str(Path(*path.parts[-length:])) for path in paths)
        if len(set(names)) == len(names):
            return names
    return tuple(f"{path.name} ({number})" for number, path in enumerate(paths, start=1))


def summary_rows(runs: Mapping[str, Evaluation]) -> tuple[list[str], dict[str, list[float]]]:
    """Return the columns of :data:`SUMMARY_COLUMNS` that some run has, and by name of the run its numbers, in 0..1.

    If a run has a semantic head, "map mIoU" and "head mIoU" stand for "mIoU", as it would not be that of one output.
    """
    reports = {name: run.to_dict() for name, run in runs.items()}
    rows = {name: summary_row(report) for name, report in reports.items()}
    titles = list(SUMMARY_COLUMNS)
    if any("semantic_head" in report for report in reports.values()):
        position = titles.index("mIoU")
        titles[position : position + 1] = ["map mIoU", "head mIoU"]
        for name, report in reports.items():
            rows[name]["map mIoU"] = summary_row({"semantic": report.get("semantic")})["mIoU"]
            rows[name]["head mIoU"] = summary_row({"semantic_head": report.get("semantic_head")})["mIoU"]
    columns = [title for title in titles if not all(math.isnan(row[title]) for row in rows.values())]
    return columns, {name: [row[column] for column in columns] for name, row in rows.items()}


def runs_table(runs: Mapping[str, Evaluation]) -> str:
    """Return a table with a row for each run, in percent; nothing if no run has a number."""
    columns, rows = summary_rows(runs)
    cells = [[name, *map(format_percent, values)] for name, values in rows.items()]
    return format_table([["", *columns], *cells]) if columns else ""


def _require_same_truth(mine: Sequence[ImageRecord], theirs: Sequence[ImageRecord]) -> None:
    different = [repr(one.name) for one, two in zip(mine, theirs, strict=True) if one.truth_digest != two.truth_digest]
    if different:
        raise InvalidArgumentError(
            f"expected two runs with the same ground truth, but segments differ in {len(different)} of the "
            f"{len(mine)} images in both runs: {listed(different)}; evaluate both with the same --gt"
        )
