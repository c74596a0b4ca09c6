from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from color_model import painted
from maps import SHAPES, a_map, generated_map
from PIL import Image

from panscape import Category, LabelSpace
from panscape.evaluation.report.html import NOTHING, figure, write_page
from panscape.evaluation.report.sections import type_heads
from panscape.metrics import PanopticQuality

_VOID_ELEMENTS = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Reads a page and insists that elements close in order and that nothing comes from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.images, self.rows, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in _VOID_ELEMENTS:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "img":
            self.images.append(dict(attrs))
        for name, value in attrs:
            assert "//" not in (value or "") or value.startswith("data:"), (tag, name)
            assert name not in ("onclick", "onload")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            assert "url(" not in data
            assert "@import" not in data
        elif data.strip():
            self.text.append(data.strip())
            if "tr" in self.open:
                self.rows[-1].append(data.strip())


@pytest.fixture
def page(tmp_path):
    truth, prediction = generated_map(0, (40, 60)), generated_map(1, (40, 60))
    quality = PanopticQuality(SHAPES)
    quality.update(truth, truth)
    quality.update(prediction, truth)
    report = quality.compute()
    figures = [
        figure("photo <b>", painted(truth), is_photo=True),
        figure("flat", painted(prediction), is_photo=False),
    ]
    path = tmp_path / "index.html"
    write_page(
        path,
        "demo.html.jinja",
        title="A & B",
        values={"model": "<script>alert(1)</script>", "{{ title }}": "1 < 2"},
        types=type_heads(),
        labels=SHAPES,
        report=report,
        scenes=[
            {"title": "first", "facts": {"PQ": "12.3"}, "figures": figures},
            {"title": "second", "facts": {}, "figures": figures},
        ],
    )
    return Page(path.read_text(encoding="utf-8")), report, painted(prediction)


def test_the_page_is_whole_and_stands_alone(page):
    parsed, _, _ = page
    assert parsed.tags[:2] == ["html", "head"]
    assert parsed.tags.count("section") == 3
    assert not {"script", "link", "iframe", "object", "video"} & set(parsed.tags)


def test_text_is_text(page):
    parsed, _, _ = page
    assert {"A & B", "1 < 2", "<script>alert(1)</script>", "{{ title }}", "photo <b>", "first", "12.3"} <= set(
        parsed.text
    )


def test_images_are_inside_the_page(page):
    parsed, _, flat = page
    assert len(parsed.images) == 4
    kinds = [i["src"].split(";")[0] for i in parsed.images]
    assert kinds == ["data:image/jpeg", "data:image/png"] * 2
    data = base64.b64decode(parsed.images[1]["src"].split(",")[1], validate=True)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), flat.permute(1, 2, 0).numpy())
    assert all((i["width"], i["height"]) == ("60", "40") and i["alt"] for i in parsed.images)


def test_the_table_has_every_category_and_group(page):
    parsed, report, _ = page
    by_name = {row[0]: row for row in parsed.rows if row}
    assert list(by_name) == ["PQ", "all", "things", "stuff", "sky", "ground", "disc", "box"]
    assert by_name["all"][-3:] == [f"{100 * v:.1f}" for v in (report.all.pq, report.all.sq, report.all.rq)]
    disc = report.per_category["disc"]
    assert by_name["disc"][1:] == [
        "thing",
        *(f"{100 * v:.1f}" for v in (disc.pq, disc.sq, disc.rq)),
        *(str(v) for v in (disc.tp, disc.fp, disc.fn)),
    ]


def test_a_category_without_segments_has_dashes(tmp_path):
    labels = LabelSpace("two", (Category("seen", False, 1, (0, 0, 0)), Category("unseen", True, 2, (9, 9, 9))))
    quality = PanopticQuality(labels)
    quality.update(a_map("A"), a_map("A"))
    page = tmp_path / "p.html"
    write_page(
        page, "demo.html.jinja", title="t", values={}, types=[], labels=labels, report=quality.compute(), scenes=[]
    )
    rows = {row[0]: row for row in Page(page.read_text(encoding="utf-8")).rows if row}
    assert rows["unseen"] == ["unseen", "thing", *[NOTHING] * 3, "0", "0", "0"]
    assert rows["seen"] == ["seen", "stuff", "100.0", "100.0", "100.0", "1", "0", "0"]
