"""Prediction and evaluation in fp16 and bf16 on the device: who computes in it, and how far maps are from fp32's."""

from __future__ import annotations

import pytest
import torch

import panscape
from panscape.datasets.town import town
from panscape.evaluation.evaluate_model import evaluate
from panscape.evaluation.options import InferenceOptions
from panscape.inference.predictor import Predictor
from panscape.metrics import PanopticQuality

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_changes_few_pixels_and_reaches_every_way_to_predict(precision, dtype):
    scenes = town("val", 8, (256, 256), "both")
    images = [scenes[i].image for i in range(len(scenes))]
    whole = [Predictor(panscape.load("town"), device="cuda").predict(image).map for image in images]
    model = panscape.load("town")
    predictor, seen = Predictor(model, device="cuda", precision=precision), set()
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda module, taken, given: seen.add(given.dtype))
    quality, same, pixels = PanopticQuality(model.labels), 0, 0
    for image, expected in zip(images, whole, strict=True):
        found = predictor.predict(image).map
        quality.update(found, expected)
        same += int((found.semantic(void=-1) == expected.semantic(void=-1)).sum())
        pixels += expected.ids.numel()
    evaluate(model, scenes, inference=InferenceOptions(1, precision), workers=0)
    assert seen == {dtype}
    assert same / pixels > 0.99
    assert quality.compute().all.pq > 0.95
