"""Two runs on the same images: what got better, what worse, and whether it is more than noise.

Differences get paired bootstrap intervals (:mod:`panscape.evaluation.bootstrap`): each draw takes the same images of
both runs, so what makes an image hard for both cancels out. A difference is called more than noise when its 95 %
interval leaves out 0. Of twenty differences that are nothing but chance one gets that verdict; so look twice at a
single category among many.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panscape.errors import InvalidArgumentError, listed
from panscape.evaluation.bootstrap import NUM_SAMPLES, image_sums, intervals, resampled, small_sample_warning, totals
from panscape.evaluation.records import ImageRecord
from panscape.evaluation.results import Scored, read_results
from panscape.metrics.error_analysis import ErrorKind
from panscape.metrics.protocol import PROTOCOLS
from panscape.metrics.tables import format_percent, format_table

_GROUPS = ("all", "things", "stuff")
_MEASURES = ("PQ", "SQ", "RQ")


@dataclass(frozen=True, slots=True)
class Difference:
    """One number in both runs.

    Attributes:
        before: in the first run, in 0..1; nan without segments.
        after: in the second run.
        low: lower end of the paired 95 % interval of ``after - before``; nan if it cannot be told.
        high: upper end.
    """

    before: float
    after: float
    low: float
    high: float

    @property
    def change(self) -> float:
        """How much larger it is in the second run."""
        return self.after - self.before

    @property
    def is_more_than_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict for JSON; None stands for nan."""
        parts = {"before": self.before, "after": self.after, "change": self.change, "low": self.low, "high": self.high}
        entries = {name: None if math.isnan(value) else value for name, value in parts.items()}
        return {**entries, "more_than_noise": self.is_more_than_noise}


@dataclass(frozen=True, slots=True)
class ImageChange:
    """The PQ of one image in both runs, in 0..1; nan without segments."""

    name: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """How much better it is in the second run; nan without segments in one."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a second run does better or worse than a first; ``str()`` gives a table.

    Attributes:
        first: name of the first run.
        second: name of the second one.
        protocol: of panoptic quality, as both runs name them; None if they do not.
        num_images: that both have and that were compared.
        num_only_first: images left out because the second run lacks them.
        num_only_second: likewise, because the first lacks them.
        groups: "PQ", "SQ" and "RQ", "PQ of things" and so on, and "mIoU" of the maps; "mIoU of the semantic head" where
            both runs have one.
        categories: PQ by category.
        kinds: what each kind of error costs.
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
    kinds: dict[ErrorKind, Difference]
    images: tuple[ImageChange, ...]

    def __str__(self) -> str:
        return self.table()

    @property
    def changed(self) -> list[ImageChange]:
        """Images with a change, the largest rise first, the largest fall last."""
        known = [image for image in self.images if image.change]
        return sorted((p for p in known if not math.isnan(p.change)), key=lambda p: (-p.change, p.name))

    @property
    def sentence(self) -> str:
        """The verdict on PQ, for people."""
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
        """What people must know of the means, if anything."""
        known = PROTOCOLS.get(self.protocol or "")
        if known is None or not known.absent_categories_count:
            return ""
        return f"Means are over the categories that occur, where the rules of {self.protocol} count others with 0."

    def table(self) -> str:
        """Return lines with the groups, then the categories and kinds of error whose change is more than noise."""
        clear = {name: d for name, d in self.categories.items() if d.is_more_than_noise}
        costs = {f"cost of {kind.title}": d for kind, d in self.kinds.items() if d.is_more_than_noise}
        rows = [["", "first", "second", "change", "95 % interval", ""]]
        for name, d in {**self.groups, **clear, **costs}.items():
            interval = "-" if math.isnan(d.low) else f"{_signed(d.low)} to {_signed(d.high)}"
            verdict = "more than noise" if d.is_more_than_noise else ""
            rows.append([name, format_percent(d.before), format_percent(d.after), _signed(d.change), interval, verdict])
        head = f"{self.num_images} images; first: {self.first}, second: {self.second}"
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
            "groups": {name: d.to_dict() for name, d in self.groups.items()},
            "categories": {name: d.to_dict() for name, d in self.categories.items()},
            "kinds": {kind.name.lower(): d.to_dict() for kind, d in self.kinds.items()},
            "changed": [[p.name, p.before, p.after] for p in self.changed],
        }


def _signed(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:+.1f}"


def compare(
    first: Scored, second: Scored, *, names: tuple[str, str] | None = None, samples: int = NUM_SAMPLES, seed: int = 0
) -> Comparison:
    """Compare two runs on the images that both have.

    Args:
        first: scores, or results from a file.
        second: likewise, over the same label space and truth.
        names: of the runs, for people; by default where their predictions lie.
        samples: number of draws for the intervals.
        seed: decides the draws.

    Raises:
        InvalidArgumentError: the label spaces, the rules or the truths differ, or no image is in both.
    """
    if [(c.name, c.is_thing) for c in first.labels] != [(c.name, c.is_thing) for c in second.labels]:
        raise InvalidArgumentError(
            f"expected two runs over one label space, got {first.labels.name!r} ({len(first.labels)} categories) and "
            f"{second.labels.name!r} ({len(second.labels)} categories) that differ in their categories; score both "
            "with the same --labels"
        )
    protocol = [scores.to_dict().get("protocol") for scores in (first, second)]
    if protocol[0] != protocol[1]:
        raise InvalidArgumentError(
            f"expected two runs judged by the same rules, got {protocol[0]!r} and {protocol[1]!r}; score both with the "
            "same "
            "--protocol"
        )
    others = {record.name: record for record in second.records}
    mine = [record for record in first.records if record.name in others]
    theirs = [others[record.name] for record in mine]
    if not mine:
        raise InvalidArgumentError(
            f"expected two runs on the same images, got {len(first.records)} and {len(second.records)} images "
            "without a name in common; score both with the same --gt"
        )
    _require_same_truth(mine, theirs)
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
    groups["mIoU"] = difference("mean_iou")
    of_head = difference("head_mean_iou")
    if not math.isnan(of_head.change):
        groups["mIoU of the semantic head"] = of_head
    one, two = names or _names(first.predictions, second.predictions)
    return Comparison(
        first=one,
        second=two,
        protocol=protocol[0],
        num_images=len(mine),
        num_only_first=len(first.records) - len(mine),
        num_only_second=len(second.records) - len(mine),
        groups=groups,
        categories={
            category.name: difference("categories", i, 0)
            for i, category in enumerate(first.labels)
            if not np.isnan([before.categories[0, i, 0], after.categories[0, i, 0]]).all()
        },
        kinds={kind: difference("costs", int(kind)) for kind in ErrorKind},
        images=tuple(ImageChange(a.name, a.pq, b.pq) for a, b in zip(mine, theirs, strict=True)),
    )


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Return the shortest ends of two paths that tell them apart."""
    for length in range(1, max(len(first.parts), len(second.parts)) + 1):
        one, two = (str(Path(*path.parts[-length:])) for path in (first, second))
        if one != two:
            return one, two
    return f"{first.name} (first)", f"{second.name} (second)"


def _require_same_truth(mine: Sequence[ImageRecord], theirs: Sequence[ImageRecord]) -> None:
    different = [repr(one.name) for one, two in zip(mine, theirs, strict=True) if one.truth_digest != two.truth_digest]
    if different:
        raise InvalidArgumentError(
            f"expected two runs against the same truth, but it has other segments in {len(different)} of the "
            f"{len(mine)} images that both runs have: {listed(different)}; score both with the same --gt"
        )


def compare_command(
    first: str | Path,
    second: str | Path,
    report: str | Path | None = None,
    *,
    as_json: bool = False,
    samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two files of results, print a table or JSON and, if asked to, write a page.

    Args:
        first: what :func:`~panscape.evaluation.results.write_results` wrote.
        second: likewise.
        report: the page to write; its folder must exist.
        as_json: print one JSON object in place of the table.
        samples: number of draws for the intervals.
        seed: decides the draws.

    Raises:
        UnreadableFileError: a file is missing or is not JSON.
        InvalidAnnotationError: a file holds something else.
        InvalidArgumentError: the runs cannot be compared, or the folder of the page does not exist.
    """
    one, two = read_results(first), read_results(second)
    comparison = compare(one, two, names=_names(Path(first), Path(second)), samples=samples, seed=seed)
    print(json.dumps(comparison.to_dict()) if as_json else comparison)
    if report is not None:
        from panscape.evaluation.report.page import write_report

        write_report(report, two, comparison=comparison, samples=samples, seed=seed)
        if not as_json:
            print(f"\nreport: {report}")
    return comparison
