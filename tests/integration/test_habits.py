"""Thirteen things that users of detectron2, transformers, supervision, torchmetrics and ultralytics type first."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map
from PIL import Image
from processes import NOTHING, TORCH, Process, run_code
from training_runs import TINY

import panscape
from panscape import PanopticMap
from panscape.errors import InvalidArgumentError

# Three segments of 5, 2 and 2 pixels, and three void ones.
SHOWN = PanopticMap.from_ids(
    np.array([[1, 1, 1, 1], [1, 2, 2, 0], [3, 3, 0, 0]]), ["sky", "disc", "box"], labels=SHAPES, scores=[1, 0.5, 0.25]
)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(panscape.datasets.Town(1, (128, 128))[0].image.permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def result(photo: Path) -> PanopticMap:
    return panscape.load("town").predict(photo)


def test_a_name_is_in_the_labels() -> None:
    assert "disc" in SHAPES
    assert "car" in panscape.LabelSpace.load("cityscapes")
    assert "disk" not in SHAPES


def test_labels_by_name() -> None:
    assert SHAPES["disc"] is SHAPES[SHAPES.index("disc")]
    with pytest.raises(KeyError, match="did you mean disc"):
        SHAPES["disk"]


def test_the_length_of_a_map_is_its_number_of_segments(result: PanopticMap) -> None:
    assert len(SHOWN) == 3
    assert len(result) == result.num_segments > 1


def test_segments_are_iterated(result: PanopticMap) -> None:
    assert [(s.name, s.area, s.score) for s in SHOWN] == [("sky", 5, 1.0), ("disc", 2, 0.5), ("box", 2, 0.25)]
    assert all(isinstance(segment, panscape.Segment) for segment in result)
    names = {segment.name for segment in result}  # a prediction knows its labels
    assert "road" in names
    assert names <= set(result.labels.names)
    assert sum(segment.area for segment in result) <= 128 * 128


def test_a_map_is_an_array_of_ids() -> None:
    array = np.asarray(SHOWN)
    assert (array.dtype, array.shape, array.tolist()[2]) == (np.int32, (3, 4), [3, 3, 0, 0])


def test_equal_maps_are_equal() -> None:
    assert replace(SHOWN, ids=SHOWN.ids.clone()) == SHOWN
    assert replace(SHOWN, ids=SHOWN.ids.clone().fill_(1)) != SHOWN


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64, np.uint32])
def test_ids_of_any_integer_type(kind: type) -> None:
    assert PanopticMap.from_ids(np.array([[7, 7, 0]], kind), {7: "sky"}, labels=SHAPES).areas().tolist() == [2]


def test_a_notebook_shows_an_image(result: PanopticMap) -> None:
    assert Image.open(io.BytesIO(result._repr_png_())).size == (128, 128)
    assert "road" in result._repr_html_()


def test_polygons() -> None:
    (sky,), (disc,), _ = SHOWN.to_polygons()
    assert len(sky.exterior_xy) == 6  # an L
    assert sorted(map(tuple, disc.exterior_xy.tolist())) == [(1, 1), (1, 2), (3, 1), (3, 2)]


@pytest.mark.parametrize("name", sorted(set(dir(panscape)) - set(panscape.__all__)))
def test_packages_are_reached_from_the_top(name: str, tmp_path: Path) -> None:
    script = f"import sys, panscape; print(panscape.{name}.__name__, 'torch' in sys.modules)"
    process = Process(tmp_path / "out", run_code, script, imported=NOTHING if name == "errors" else TORCH)
    assert process.end() == 0, (tmp_path / "out").read_text()
    assert (tmp_path / "out").read_text() == f"panscape.{name} {name != 'errors'}\n"


def test_a_model_is_saved_and_loaded_by_its_class(tmp_path: Path, photo: Path, result: PanopticMap) -> None:
    model = panscape.PanopticModel.from_pretrained("town")
    model.save(tmp_path / "town.safetensors")
    model.save_pretrained(tmp_path / "town")
    for path in (tmp_path / "town.safetensors", tmp_path / "town"):
        assert panscape.PanopticModel.from_pretrained(path).predict(photo) == result


def test_train_evaluate_predictor(tmp_path: Path, photo: Path, result: PanopticMap) -> None:
    trained = panscape.train(TINY, out=tmp_path, steps=1, device="cpu", workers=0, image_every=0, eval_every=0)
    report = panscape.evaluate(trained.model, TINY, workers=0)
    assert report.panoptic.all.pq == pytest.approx(trained.report.panoptic.all.pq, abs=1e-6, nan_ok=True)
    predicted = panscape.Predictor(panscape.load("town"), device="cpu").predict(photo).map
    assert predicted == result
    assert predicted.labels == result.labels


def test_the_package_is_a_program(tmp_path: Path) -> None:
    script = (
        "import runpy, sys; sys.argv = ['panscape', '--version']; runpy.run_module('panscape', run_name='__main__')"
    )
    process = Process(tmp_path / "out", run_code, script, imported=NOTHING)
    assert process.end() == 0
    assert (tmp_path / "out").read_text() == f"panscape {panscape.__version__}\n"


# Beside the thirteen


def test_a_result_needs_nothing_beside_it(tmp_path: Path, photo: Path, result: PanopticMap) -> None:
    result.save(tmp_path / "map.png")
    assert PanopticMap.load(tmp_path / "map.png") == result
    drawn = panscape.draw(photo, result)
    assert torch.equal(drawn, result.draw(str(photo)))
    assert drawn.shape == (3, 128, 128)


def test_half_precision_gives_nearly_the_same_map(photo: Path, result: PanopticMap) -> None:
    half = panscape.load("town").to(torch.bfloat16).predict(photo)
    assert (half.semantic(void=-1) == result.semantic(void=-1)).double().mean() > 0.98
    assert abs(len(half) - len(result)) <= 1


@pytest.mark.parametrize(
    "prediction",
    [{"segmentation": torch.zeros(2, 2), "segments_info": []}, np.zeros((2, 2, 2), np.int64), [a_map("A")]],
    ids=["transformers", "category and instance", "list"],
)
def test_metrics_name_the_converters(prediction: object) -> None:
    metric = panscape.PanopticQuality(SHAPES)
    for arguments in ((prediction, SHOWN), (SHOWN, prediction)):
        with pytest.raises(
            InvalidArgumentError,
            match=rf"as a PanopticMap, got {type(prediction).__name__}; .*from_transformers .*decode_label_divisor",
        ):
            metric.update(*arguments)


def test_every_public_name_is_there() -> None:
    assert {name for name in panscape.__all__ if getattr(panscape, name, None) is None} == set()
    assert set(panscape.__all__) < set(dir(panscape))
    with pytest.raises(AttributeError, match=r"module 'panscape' has no attribute 'trian'; public names: .*train"):
        panscape.trian  # type: ignore[attr-defined]  # noqa: B018
