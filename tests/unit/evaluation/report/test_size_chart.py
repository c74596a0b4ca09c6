"""The chart of AP over sizes: everything is at its place, and runs with other ranges are not drawn together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from panscape.evaluation.report.html import write_page
from panscape.evaluation.report.runs import runs_values
from panscape.evaluation.report.size_chart import has_same_ranges, size_chart

COCO = {"small": (0, 1024), "medium": (1024, 9216), "large": (9216, 1e10)}
PERCENTILES = {"0-50%": (0, 99), "50-99%": (100, 5000), "99-100%": (5001, 1e10)}


def sizes(*aps: float | None, ranges: dict[str, tuple[float, float]] = PERCENTILES, num: int = 3) -> dict[str, Any]:
    return {
        name: {"smallest": low, "largest": high, "num_objects": num, "ap": ap, "recall": ap}
        for (name, (low, high)), ap in zip(ranges.items(), aps, strict=True)
    }


def test_points_are_at_their_percentages():
    chart = size_chart({"FULL": sizes(0.1, 0.25, 0.4), "CROP": sizes(0.3, None, 0.2)})
    left, top, right, bottom = chart["frame"]
    assert [label for _, label in chart["grid"]] == ["0", "10", "20", "30", "40"]
    assert (chart["grid"][0][0], chart["grid"][-1][0]) == (bottom, top)
    full, crop = chart["lines"]
    width = (right - left) / 3
    assert [p.x for p in full["points"]] == pytest.approx([left + width / 2, left + 1.5 * width, left + 2.5 * width])
    shares = [(bottom - p.y) / (bottom - top) for line in (full, crop) for p in line["points"]]
    assert shares == pytest.approx([0.25, 0.625, 1.0, 0.75, 0.5])
    assert re.findall("[ML]", full["path"]) == ["M", "L", "L"]
    assert re.findall("[ML]", crop["path"]) == ["M", "M"], "a size without objects interrupts the line"
    assert [p.hint for p in crop["points"]] == ["CROP, 0-50%: AP 30.0 %", "CROP, 99-100%: AP 20.0 %"]
    assert [p.label > 0 for p in full["points"]] == [True, False, False], "the lower number is below its point"
    names, extents, counts = zip(*(tick[1:] for tick in chart["ticks"]), strict=True)
    assert names == ("0\N{EN DASH}50%", "50\N{EN DASH}99%", "99\N{EN DASH}100%")
    assert extents == ("0 to 99", "100 to 5,000", "from 5,001")
    assert set(counts) == {"3 objects"}


@pytest.mark.parametrize(
    ("highest", "labels"), [(0.0, "0 1"), (0.012, "0 1 2"), (0.31, "0 10 20 30 40"), (1.0, "0 20 40 60 80 100")]
)
def test_the_axis_ends_above_the_highest_point(highest, labels):
    assert [label for _, label in size_chart({"a": sizes(0.0, highest, None)})["grid"]] == labels.split()


def test_percentiles_are_drawn_if_there_are_any():
    both = sizes(0.1, 0.2, 0.3, ranges=COCO) | sizes(0.4, 0.5, 0.6)
    assert [tick[1] for tick in size_chart({"a": both})["ticks"]] == [
        name.replace("-", "\N{EN DASH}") for name in PERCENTILES
    ]
    assert [tick[1] for tick in size_chart({"a": sizes(0.1, 0.2, None, ranges=COCO)})["ticks"]] == list(COCO)
    assert size_chart({"a": {}}) is None


@dataclass(frozen=True)
class Run:
    summary: dict[str, Any]
    records: tuple[()] = ()

    def to_dict(self) -> dict[str, Any]:
        return self.summary


def test_runs_are_drawn_together_only_with_equal_ranges_of_the_same_kind_of_objects():
    of_map, before = {"ap": 0.2, "by_size": sizes(0.1, 0.2, 0.3)}, {"by_size": sizes(0.4, 0.5, 0.6)}
    runs = {"a": Run({"instances": of_map, "instances_before_fusion": before}), "b": Run({"instances": of_map})}
    found = runs_values(runs)
    assert (found["source"], found["note"]) == ("objects of the maps", None)
    assert [[p.ap for p in line["points"]] for line in found["chart"]["lines"]] == [[0.1, 0.2, 0.3]] * 2
    found = runs_values({"a": runs["a"], "c": runs["a"]})
    assert found["source"] == "objects before fusion"
    other = {"b": Run({"instances": of_map | {"by_size": sizes(0.1, 0.2, 0.3, num=4)}})}
    found = runs_values(runs | other)
    assert (found["chart"], found["note"][:61]) == (
        None,
        "AP by size is not drawn, as the runs have other objects or si",
    )
    assert runs_values({"b": Run({})}) is None
    found = runs_values({"b": Run({"panoptic": {"all": {"pq": 0.5}}})})
    assert (found["columns"], found["rows"], found["source"], found["note"]) == (["PQ"], {"b": [0.5]}, "", None)
    found = runs_values(runs | {"b": Run({"panoptic": {"all": {"pq": 0.5}}})})
    assert (found["chart"], found["note"][:50]) == (None, "AP by size is not drawn, as not all runs have it; ")
    assert has_same_ranges([])


def test_names_of_runs_cannot_be_markup(tmp_path: Path):
    evil = "<b onload=x>"
    chart = size_chart({evil: sizes(0.1, 0.2, 0.3), "b": sizes(0.1, 0.2, 0.3), "c": sizes(0.1, 0.2, 0.3)})
    objects = {"chart": chart, "source": evil, "tables": []}
    empty = dict.fromkeys(["runs", "comparison", "result", "errors", "categories", "confusion", "worst", "images"])
    write_page(
        tmp_path / "a.html", "report.html.jinja", title="t", facts=[], types=[], objects=objects, files=None, **empty
    )
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert evil not in text
    assert text.count("&lt;b onload=x&gt;") == 3 + 1 + 1  # tooltips, legend, caption
    assert text.count('class="stroke"') == 2 * 3  # lines, and their samples in the legend
    assert 'class="value"' not in text, "numbers of three lines would overlap"
