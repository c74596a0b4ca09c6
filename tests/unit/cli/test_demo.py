from __future__ import annotations

import pytest
import torch
from color_model import ColorModel

from panscape import PanopticMap
from panscape.cli import demo
from panscape.datasets.town import Town
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size

SCENES = (demo.DemoScene("street", Size(64, 96), 0), demo.DemoScene("above", Size(64, 64), 1))


class Oracle(ColorModel):
    """Predicts the given ground truth, but the sky as water."""

    def __init__(self, truths):
        super().__init__(Town(1).labels)
        self.truths = truths

    def decode(self, outputs, sizes):
        size = tuple(sizes[0])
        truth = self.truths.get(size)
        if truth is None:
            return [PanopticMap.empty(size)]
        sky, water = self.labels.index("sky"), self.labels.index("water")
        category = torch.where(truth.category == sky, water, truth.category)
        return [PanopticMap(truth.ids, category)]


@pytest.fixture
def truths():
    return {tuple(s.size): Town(s.index + 1, tuple(s.size), s.view, seed=demo._SEED)[s.index].truth for s in SCENES}


def test_the_page_and_the_table_show_the_measurements(tmp_path, monkeypatch, truths):
    monkeypatch.setattr(demo, "load", lambda name: Oracle(truths))
    result = demo.run_demo(tmp_path / "deep" / "demo", model_name="town", scenes=SCENES)
    page = result.page
    assert page == tmp_path / "deep" / "demo" / "index.html"
    text = page.read_text(encoding="utf-8")
    out = str(result)
    assert text.count("<section ") == 1 + len(SCENES)
    assert text.count("<img ") == len(SCENES) * 6  # image, truth, prediction, mistakes, overlay, one panel
    for title in ("street 1", "above 2"):
        assert f"<h2>{title}</h2>" in text
        assert title in out
    present = {Town(1).labels[int(c)].name for truth in truths.values() for c in truth.category}
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert "sky" in present
    assert rows["sky"][1] == "0.0"
    for name in present - {"sky", "water"}:
        assert rows[name][1:4] == ["100.0", "100.0", "100.0"]


def test_a_model_of_other_categories_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "load", lambda name: ColorModel())
    with pytest.raises(InvalidArgumentError, match="label space 'town', 'street' has 'shapes'"):
        demo.run_demo(tmp_path, model_name="street", scenes=SCENES)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "demo").touch()
    with pytest.raises(InvalidArgumentError, match="expected a folder for the page"):
        demo.run_demo(tmp_path / "demo")
