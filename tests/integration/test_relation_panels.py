"""What relations do to features, from the command line: panels of a network that has them, and none of one without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from color_model import painted
from maps import SHAPES, generated_map
from torch import nn

import panscape
from panscape import zoo
from panscape.cli import main
from panscape.images import load_image, save_png
from panscape.inference.debug_sheet import debug_sheet
from panscape.inference.predictor import Predictor
from panscape.nn.pisr import PISR, Relations
from panscape.nn.pisr_baselines import OCR
from panscape.representations.centers import CenterDecoding, CenterRepresentation

WIDTHS = {"decoder_width": 8, "instance_width": 8, "pyramid_width": 8, "head_width": 4}
NETWORKS = {
    "swiftnet": {"backbone": "residual_xs", "levels": 1, "width": 8},
    "panoptic_deeplab": {"backbone": "residual_xs", **WIDTHS},
    # Corners are aligned, and the input has one pixel more than a multiple of 32 to each side.
    "standalone": {"backbone": "residual_xs", "compat": "standalone", **WIDTHS},
}


@pytest.mark.parametrize(
    ("network", "relations"),
    [
        *((network, PISR(4, key_width=6, residual=False)) for network in NETWORKS),
        ("panoptic_deeplab", OCR(key_width=6)),
        ("swiftnet", None),
    ],
    ids=str,
)
def test_the_sheet_holds_features_before_and_after_relations(
    network: str, relations: Relations | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_png("photo.png", painted(generated_map(0, (53, 75))))
    torch.manual_seed(0)
    representation = CenterRepresentation(decoding=CenterDecoding(stuff_area=0, align_corners=network == "standalone"))
    name = "panoptic_deeplab" if network == "standalone" else network
    model = panscape.create_model(
        name, SHAPES, relations=relations, representation=representation, **NETWORKS[network]
    ).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # some begin so small that all categories are equally likely
    zoo.save(model, "tiny.safetensors")
    predict = ["predict", "photo.png", "--model", "tiny.safetensors", "--device", "cpu", "--max-size", "150"]
    assert main([*predict, "--save-outputs", "--image-format", "png", "--out", "out"]) == 0

    image = load_image("photo.png")
    predictor = Predictor(model, device="cpu", longest_side=150)
    prediction = predictor.predict(image)
    panels = predictor.visualize(prediction)
    own, of_features = list(panels)[:3], list(panels)[3:]
    assert own == ["semantic", "centers", "offsets"]
    if relations is None:
        assert of_features == []
    else:
        categories = [of_features[i].removesuffix(" before relations") for i in range(0, len(of_features), 2)]
        assert of_features == [f"{c} {when} relations" for c in categories for when in ("before", "after")]
        shown = {SHAPES[c].name for c in prediction.map.category.tolist()}
        assert 1 <= len(categories) == min(2, len(shown))
        assert set(categories) <= shown
        assert not torch.equal(panels[of_features[0]], panels[of_features[1]])
    assert {p.shape for p in panels.values()} == {(3, 53, 75)}
    sheet = load_image("out/photo_panels.png")
    assert torch.equal(sheet, debug_sheet(image, prediction.map, SHAPES, panels))
    rows = -(-(6 + len(of_features)) // 2)  # image, outputs, map, overlay: two in a row
    assert rows * 53 < sheet.shape[1] < rows * 53 * 2
