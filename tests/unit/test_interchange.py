"""Conversion of maps to the types of other libraries, and back."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import shapely
import supervision as sv
import torch
from maps import SHAPES, a_map, generated_map
from PIL import Image

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError, InvalidMapError, MissingExtraError, UnreadableFileError

SHOWN = replace(
    a_map("AABB\nAACC\n.ACC", {"A": 0, "B": 2, "C": 3}), score=torch.tensor([1.0, 0.5, 0.25]), labels=SHAPES
)


class TestFiles:
    def test_a_saved_map_is_loaded_with_its_labels(self, tmp_path):
        SHOWN.save(tmp_path / "map.png")
        loaded = PanopticMap.load(tmp_path / "map.png")
        assert loaded == SHOWN
        assert loaded.labels == SHAPES
        assert {c["id"] for c in json.loads((tmp_path / "map.json").read_text())["categories"]} == {11, 7, 24, 26}

    def test_labels_may_be_the_name_of_a_bundled_label_space(self, tmp_path):
        other = replace(SHOWN, labels=None)
        other.save(tmp_path / "map.png", "cityscapes")
        assert PanopticMap.load(tmp_path / "map.png") == replace(SHOWN, labels=LabelSpace.load("cityscapes"))
        assert PanopticMap.load(tmp_path / "map.png", "cityscapes").labels.name == "cityscapes"

    def test_a_map_without_labels_is_loaded_without(self, tmp_path):
        replace(SHOWN, labels=None).save(tmp_path / "map.png")
        assert PanopticMap.load(tmp_path / "map.png").labels is None

    def test_an_image_is_no_saved_map(self, tmp_path):
        Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
        with pytest.raises(UnreadableFileError, match=r"photo\.png: expected a saved map, .* photo\.json beside it"):
            PanopticMap.load(tmp_path / "photo.png")

    def test_coco_and_back(self):
        rgb, segments = SHOWN.to_coco()
        assert [s["category_id"] for s in segments] == [11, 24, 26]
        assert PanopticMap.from_coco(rgb.numpy(), segments, SHAPES) == SHOWN


class TestTransformers:
    def test_void_is_minus_one_and_stuff_is_fused(self):
        result = SHOWN.to_transformers()
        assert result["segmentation"].tolist() == [[1, 1, 2, 2], [1, 1, 3, 3], [-1, 1, 3, 3]]
        assert result["segments_info"] == [
            {"id": 1, "label_id": 0, "was_fused": True, "score": 1.0},
            {"id": 2, "label_id": 2, "was_fused": False, "score": 0.5},
            {"id": 3, "label_id": 3, "was_fused": False, "score": 0.25},
        ]

    @pytest.mark.parametrize("result", [[{"segmentation": 1}], {"segmentation": 1}, None])
    def test_the_result_of_a_batch_is_refused(self, result):
        with pytest.raises(InvalidArgumentError, match=r"a dict with 'segmentation' and .*: give one"):
            PanopticMap.from_transformers(result)

    @pytest.mark.parametrize("seed", range(4))
    def test_and_back(self, seed):
        truth = replace(generated_map(seed), labels=SHAPES)
        back = PanopticMap.from_transformers(truth.to_transformers(), SHAPES)
        assert back.equals(truth)
        assert back.labels == SHAPES


class TestDetectron2:
    def test_segments_of_its_form(self):
        ids, segments = SHOWN.to_detectron2()
        assert torch.equal(ids, SHOWN.ids)
        assert segments == [
            {"id": 1, "isthing": False, "category_id": 0, "area": 5, "score": 1.0},
            {"id": 2, "isthing": True, "category_id": 2, "area": 2, "score": 0.5, "instance_id": 0},
            {"id": 3, "isthing": True, "category_id": 3, "area": 4, "score": 0.25, "instance_id": 0},
        ]

    def test_needs_labels(self):
        with pytest.raises(InvalidMapError, match="expected a map with labels"):
            replace(SHOWN, labels=None).to_detectron2()


class TestSupervision:
    def test_detections(self):
        found = SHOWN.to_supervision()
        assert isinstance(found, sv.Detections)
        np.testing.assert_array_equal(found.xyxy, SHOWN.boxes().numpy())
        np.testing.assert_array_equal(found.mask, SHOWN.masks().numpy())
        np.testing.assert_array_equal(found.area, [5, 2, 4])
        assert found.confidence.tolist() == [1.0, 0.5, 0.25]
        assert found.data["class_name"].tolist() == ["sky", "disc", "box"]
        assert found[found.class_id == 2].data["segment_id"].tolist() == [2]

    def test_things_only(self):
        assert SHOWN.to_supervision(things_only=True).class_id.tolist() == [2, 3]
        assert len(PanopticMap.empty((3, 4), SHAPES).to_supervision()) == 0
        with pytest.raises(InvalidMapError, match="expected a map with labels"):
            replace(SHOWN, labels=None).to_supervision(things_only=True)

    def test_it_is_drawn_by_its_annotators(self):
        image = np.zeros((3, 4, 3), np.uint8)
        drawn = sv.MaskAnnotator(color=sv.Color(255, 0, 0), opacity=1).annotate(image, SHOWN.to_supervision())
        np.testing.assert_array_equal(drawn.any(axis=-1), SHOWN.ids.numpy() > 0)

    @pytest.mark.parametrize("method", ["to_supervision", "to_pandas"])
    def test_a_missing_library_is_named(self, monkeypatch, method):
        package = method.removeprefix("to_")
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=f"{method} needs {package}; .* pip install {package}$"):
            getattr(SHOWN, method)()


def test_pandas():
    table = SHOWN.to_pandas()
    assert table.index.tolist() == [1, 2, 3]
    assert table.loc[3].to_dict() == {
        "category": 3,
        "name": "box",
        "is_thing": True,
        "score": 0.25,
        "is_crowd": False,
        "area": 4,
        "left": 2,
        "top": 1,
        "right": 4,
        "bottom": 3,
    }
    assert table.groupby("name").area.sum().to_dict() == {"sky": 5, "disc": 2, "box": 4}
    assert PanopticMap.empty((2, 2)).to_pandas().columns.tolist() == table.columns.tolist()


def test_geojson_covers_the_pixels():
    content = json.loads(json.dumps(SHOWN.to_geojson()))
    assert content["type"] == "FeatureCollection"
    shapes = {f["id"]: shapely.from_geojson(json.dumps(f["geometry"])) for f in content["features"]}
    assert {i: shape.area for i, shape in shapes.items()} == {1: 5, 2: 2, 3: 4}
    assert shapes[2].bounds == (2, 0, 4, 1)
    assert content["features"][1]["properties"] == {
        "category": 2,
        "name": "disc",
        "is_thing": True,
        "score": 0.5,
        "is_crowd": False,
        "area": 2,
    }


def test_polygons_of_a_segment_are_those_of_the_map():
    for seed in range(3):
        panoptic = generated_map(seed)
        for segment, polygons in zip(panoptic, panoptic.to_polygons(), strict=True):
            mine = segment.to_polygons()
            assert [p.exterior_xy.tolist() for p in mine] == [p.exterior_xy.tolist() for p in polygons]
            assert [[h.tolist() for h in p.holes_xy] for p in mine] == [
                [h.tolist() for h in p.holes_xy] for p in polygons
            ]


class TestImages:
    def test_drawn_with_its_labels(self):
        image = torch.full((3, 3, 4), 100, dtype=torch.uint8)
        assert SHOWN.draw(image).shape == (3, 3, 4)
        assert not torch.equal(SHOWN.draw(image), image)
        assert SHOWN.draw().shape == (3, 3, 4)
        bare = replace(SHOWN, labels=None)
        with pytest.raises(InvalidArgumentError, match=r"expected labels, as the map has none; .* model\.labels"):
            bare.draw(image)
        assert torch.equal(bare.draw(image, labels=SHAPES), SHOWN.draw(image))

    def test_a_notebook_shows_it(self):
        shown = Image.open(io.BytesIO(SHOWN._repr_png_()))
        assert shown.size == (4, 3)
        html = SHOWN._repr_html_()
        assert "data:image/png;base64," in html
        assert "disc (1)" in html
        assert "sky (" not in html

    def test_a_large_map_is_reduced(self):
        large = replace(generated_map(0, (1000, 4096)), labels=SHAPES)
        assert Image.open(io.BytesIO(large._repr_png_())).size == (1024, 250)

    def test_without_labels_categories_are_numbered(self):
        assert "category 3 (1)" in replace(SHOWN, labels=None)._repr_html_()
        assert PanopticMap.empty((0, 0))._repr_html_().startswith("<figure")
