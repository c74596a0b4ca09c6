"""Post-processing in the graph gives the maps of the native kernels, and works without panscape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from panscape import PanopticModel, create_model, zoo
from panscape.cli.decode_arguments import apply_arguments
from panscape.errors import InvalidArgumentError
from panscape.export import export_model
from panscape.export.centers_graph import CenterMaps
from panscape.geometry import ImageGeometry, Size, padded_size
from panscape.images import save_png
from panscape.representations.centers import CenterOutputs
from panscape.zoo.exported import MapOutputs

SIZE = Size(61, 90)
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "export.md"


def model_of_many_objects(**decoding: Any) -> PanopticModel:
    """A model whose outputs are smooth noise with dozens of centres, shifted by the image."""
    model = create_model("swiftnet", "town", backbone="residual_xs", width=8, levels=2).eval()
    model.set_decoding(**{"stuff_area": 30, "threshold": 0.2} | decoding)
    generator = torch.Generator().manual_seed(1)
    height, width = (side // 4 for side in padded_size(SIZE, model.stride))

    def noise(channels: int, cell: int, mode: str) -> torch.Tensor:
        coarse = torch.randn(1, channels, height // cell, width // cell, generator=generator)
        return F.interpolate(coarse, (height, width), mode=mode)

    semantic, offset = 5 * noise(len(model.labels), 4, "bilinear"), 12 * noise(2, 8, "nearest")
    center = torch.rand(1, 1, height, width, generator=generator) ** 3
    outputs = CenterOutputs(semantic, center, offset)
    model.forward = lambda images: CenterOutputs(*(x + images[:, :1, :1, :1] for x in outputs.tensors))  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    "decoding",
    [
        {"thing_area": 4},
        {"top_k": 20, "join_peaks": True, "align_corners": True},
        {"top_k": 20, "compat": "panoptic_deeplab"},
        {"threshold": 9.0},  # no centre
        {"thing_area": 4, "one_category": True},
    ],
)
def test_it_equals_the_native_kernels(decoding: dict[str, Any]) -> None:
    model = model_of_many_objects(**decoding)
    image = torch.zeros(1, 3, *SIZE)
    with torch.inference_mode():
        outputs = model(image)
        (expected,) = model.decode(outputs, [SIZE])
        (semantic,) = model.decode_semantic(outputs, [ImageGeometry.of(SIZE)])
        found = MapOutputs(*CenterMaps(model, SIZE)(image))
    present = found.present[0]
    assert torch.equal(found.ids[0], expected.ids)
    assert torch.equal(found.category[0][present], expected.category)
    assert torch.equal(found.score[0][present], expected.score)
    assert torch.equal(found.semantic[0], semantic.int())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    folder = tmp_path_factory.mktemp("graph")
    images = [torch.full((3, *SIZE), value, dtype=torch.uint8) for value in (0, 20)]
    result = export_model(model_of_many_objects(), folder / "maps.onnx", size=SIZE, postprocess="graph", images=images)
    assert (result.parity.equal_pixels, result.parity.pq, result.parity.outputs) == (1, 1, {})
    save_png(folder / "photo.png", images[1])
    return result.path


def test_it_is_a_model_like_any_other(file: Path) -> None:
    exported, original = zoo.load(file), model_of_many_objects()
    image = torch.zeros(3, *SIZE, dtype=torch.uint8)
    expected = original.predict(image)
    assert expected.num_segments > 20
    assert exported.predict(image).equals(expected)
    assert [m.equals(expected) for m in exported.predict([image, image], batch_size=2)] == [True, True]
    large = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    exported.longest_side = 90
    assert exported.predict(large).size == (122, 180)
    with torch.inference_mode():
        outputs = exported(torch.zeros(1, 3, *SIZE))
        assert torch.equal(
            exported.decode_semantic(outputs, [ImageGeometry.of(SIZE)])[0],
            original.decode_semantic(original(torch.zeros(1, 3, *SIZE)), [ImageGeometry.of(SIZE)])[0].int(),
        )
    for refused in (
        lambda: exported.set_decoding(threshold=0.5),
        lambda: exported.postprocess(outputs, [ImageGeometry.of(SIZE)], scored=True),
    ):
        with pytest.raises(InvalidArgumentError, match=r"takes no (other post-processing options|scores for average)"):
            refused()


def test_the_documented_lines_run_it_without_panscape(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(import json\n.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    assert "panscape" not in code.replace('["panscape"]', "")
    monkeypatch.chdir(file.parent)
    found: dict[str, Any] = {}
    exec(code, found)
    expected = zoo.load(file).predict("photo.png")
    assert (found["ids"] == expected.ids.numpy()).all()
    assert [name for _, name, _ in found["segments"]] == [expected.labels[c].name for c in expected.category.tolist()]


def test_other_networks_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected a network with centres .*, got UPerNet"):
        CenterMaps(create_model("upernet_semantic", "town"), SIZE)


def test_rules_about_parts_of_things_are_refused_with_the_options_that_switch_them_off() -> None:
    model = model_of_many_objects(largest_part=True, leftover_area=30)
    with pytest.raises(InvalidArgumentError) as caught:
        CenterMaps(model, SIZE)
    assert "got largest_part True and leftover_area 30" in str(caught.value)
    options = re.findall(r"--decode.([a-z-]+) (\w+)", str(caught.value))
    assert options == [("largest-part", "False"), ("leftover-area", "0")]


def test_the_documented_command_exports_the_bundled_model() -> None:
    (command,) = re.findall(r"^\$ panscape export (street .* --postprocess graph .*)$", DOCUMENTATION.read_text(), re.M)
    given = re.findall(r"--decode.([a-z-]+) (\w+)", command)
    model = zoo.load("street")
    apply_arguments(model, tuple(word for name, value in given for word in (f"--decode.{name}", value)), "export")
    CenterMaps(model, Size(360, 480))
