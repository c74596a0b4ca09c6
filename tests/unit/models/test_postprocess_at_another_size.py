"""Post-processing at the image's own size where it differs from the inference size, in all callers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from color_model import ColorModel, painted
from maps import SHAPES, generated_map

from panscape import PanopticMap, create_model, zoo
from panscape.datasets.base import Sample
from panscape.datasets.town import Town
from panscape.errors import InvalidArgumentError
from panscape.evaluation.evaluate_model import evaluate, predict_sample
from panscape.evaluation.options import EvaluationOptions
from panscape.geometry import ImageGeometry
from panscape.images import resize_images
from panscape.inference.predictor import Predictor
from panscape.models.prediction import network_input
from panscape.models.swiftnet import PanopticSwiftNet
from panscape.representations.centers import CenterDecoding, CenterRepresentation

SIZE, HALF = (96, 128), (48, 64)
WAYS: dict[str, dict[str, Any]] = {
    "map": {"resize": "map", "compat": "panoptic_swiftnet"},
    "outputs": {"resize": "outputs", "compat": "panoptic_swiftnet"},
    "outputs_unscaled": {"resize": "outputs", "compat": "detectron2"},
}


@pytest.fixture(scope="module")
def model() -> PanopticSwiftNet:
    """A network with random weights, which finds some centres everywhere."""
    torch.manual_seed(1)
    decoding = CenterDecoding(threshold=0.0, top_k=12, stuff_area=4)
    made = create_model(
        "swiftnet",
        SHAPES,
        backbone="residual_xs",
        width=8,
        levels=1,
        test_scale=0.5,
        representation=CenterRepresentation(decoding=decoding),
    )
    assert isinstance(made, PanopticSwiftNet)
    with torch.no_grad():
        for _ in range(20):  # statistics, so that features differ from place to place
            made(torch.rand(2, 3, *SIZE).add(image() / 255) / 2)
        for head in (made.semantic, made.center, made.offset):
            head[-1].weight.normal_()
    return made.eval()


def resizing(model: PanopticSwiftNet, way: str) -> PanopticSwiftNet:
    decoding = replace(model.representation.decoding, **WAYS[way])
    model.representation = replace(model.representation, decoding=decoding)
    return model


def image() -> torch.Tensor:
    return painted(generated_map(3, SIZE))


def test_every_place_that_predicts_resizes_as_configured(model: PanopticSwiftNet) -> None:
    found: dict[str, PanopticMap] = {}
    for way in WAYS:
        resizing(model, way)
        found[way] = model.predict(image())
        assert found[way].size == SIZE
        assert Predictor(model).predict(image()).map.equals(found[way])
        sample = Sample(image(), generated_map(0, SIZE), "0")
        assert predict_sample(model, sample).equals(found[way])
        geometry = ImageGeometry.of(SIZE, HALF, (64, 64))
        with torch.inference_mode():
            outputs = model(network_input([image()], [geometry], torch.device("cpu")))
            if way == "map":
                (expected,) = (m.resize(*SIZE).compact() for m in model.decode(outputs, [HALF]))
            else:
                (expected,) = model.representation.decode_resized(outputs, [geometry], SHAPES)
        assert expected.equals(found[way])
    assert len({tuple(m.ids.flatten().tolist()) for m in found.values()}) == len(WAYS)


def test_at_one_size_every_way_is_decoding(model: PanopticSwiftNet) -> None:
    with torch.inference_mode():
        outputs = model(torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(2)))
    sizes = [SIZE, (50, 99)]
    geometries = [ImageGeometry.of(size) for size in sizes]
    for way in WAYS:
        expected = resizing(model, way).decode(outputs, sizes)
        assert all(m.num_segments > 3 for m in expected)
        for a, b in zip(resizing(model, way).postprocess(outputs, geometries), expected, strict=True):
            assert a.equals(b)
        scored = model.postprocess(outputs, geometries, scored=True)
        for a, b in zip(scored, model.score_instances(outputs, expected), strict=True):
            assert torch.equal(a.score, b.score)


def test_scores_of_maps_that_are_resized_are_those_before(model: PanopticSwiftNet) -> None:
    with torch.inference_mode():
        outputs = model(torch.rand(1, 3, *HALF, generator=torch.Generator().manual_seed(2)))
    small = resizing(model, "map").score_instances(outputs, model.decode(outputs, [HALF]))
    (found,) = model.postprocess(outputs, [ImageGeometry.of(SIZE, HALF)], scored=True)
    assert torch.equal(found.score, small[0].score)
    (found,) = resizing(model, "outputs").postprocess(outputs, [ImageGeometry.of(SIZE, HALF)], scored=True)
    (plain,) = model.postprocess(outputs, [ImageGeometry.of(SIZE, HALF)])
    assert found.equals(plain)
    assert not torch.equal(found.score, plain.score)


def test_average_precision_and_oracles_go_with_every_way(model: PanopticSwiftNet) -> None:
    class Two:
        labels = SHAPES

        def __len__(self) -> int:
            return 2

        def __getitem__(self, i: int) -> Sample:
            truth = generated_map(i, SIZE)
            return Sample(painted(truth), truth, str(i))

    reports = [evaluate(resizing(model, way), Two(), workers=0, options=EvaluationOptions(ap=True)) for way in WAYS]
    assert all(report.instances is not None for report in reports)
    # Parts of the truth are put in place of outputs at the network's size, whatever comes after.
    parts = ("semantic", "centers", "offsets")
    perfect = [evaluate(resizing(model, way), Two(), workers=0, oracle=parts) for way in WAYS]
    assert perfect[0].panoptic == perfect[1].panoptic == perfect[2].panoptic
    assert perfect[0].panoptic.all.pq > 0.8


@pytest.mark.parametrize("way", WAYS)
def test_sizes_that_cannot_be(model: PanopticSwiftNet, way: str) -> None:
    with torch.inference_mode():
        outputs = resizing(model, way)(torch.rand(2, 3, *HALF))
    with pytest.raises(InvalidArgumentError, match=r"expected one size .* got 1"):
        model.postprocess(outputs, [ImageGeometry.of(SIZE, HALF)])
    with pytest.raises(InvalidArgumentError, match="expected a size within the padded size 64x64, got 65x64"):
        model.postprocess(outputs, [ImageGeometry.of(SIZE, HALF), ImageGeometry.of(SIZE, (65, 64))])


def test_models_without_a_way_of_their_own_resize_maps() -> None:
    model = ColorModel().eval()
    with torch.inference_mode():
        outputs = model(painted(generated_map(1, SIZE))[None].float() / 255)
    (whole,) = model.decode(outputs, [SIZE])
    (found,) = model.postprocess(outputs, [ImageGeometry.of((33, 200), SIZE)])
    assert found.equals(whole.resize(33, 200).compact())
    (found,) = model.postprocess(outputs, [ImageGeometry.of(SIZE)], scored=True)
    assert found.equals(whole)


@pytest.mark.parametrize("name", ["street", "street_boxes", "town"])
def test_the_edges_of_bundled_models_are_smooth_on_photos_of_twice_their_largest_size(name: str) -> None:
    model = zoo.load(name)
    width = model.longest_side
    assert width is not None
    height = width * 3 // 4
    scene = Town(2, size=(240, 320), view="street", seed=5)[1].image
    photo = (resize_images(scene[None].float() / 255, (2 * height, 2 * width))[0] * 255).to(torch.uint8)
    ids = model.predict(photo).ids
    blocks = ids.reshape(height, 2, width, 2).permute(0, 2, 1, 3).reshape(-1, 4)
    mixed = int((blocks != blocks[:, :1]).any(1).sum())  # of a resized map, all blocks would be of one segment
    border = int((blocks[1:] != blocks[:-1]).any(1).sum())
    assert mixed > 0.1 * border
