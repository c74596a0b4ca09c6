"""Networks of transformers on the device: maps are those of the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_transformers import BUILDERS, NAMES, save_network

import panscape
from panscape import LabelSpace
from panscape.inference.predictor import Predictor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LABELS = LabelSpace.from_names("five", things=NAMES[:2], stuff=NAMES[2:])


@pytest.mark.parametrize("family", BUILDERS)
def test_maps_are_those_of_the_cpu(tmp_path: Path, family: str) -> None:
    folder = save_network(family, tmp_path)
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = {}
    for device, precision in (("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "fp16")):
        model = panscape.load(folder, LABELS)
        model.set_decoding(score_threshold=0.0, overlap_threshold=0.0)
        side = None if family.startswith("EoMT") else 160
        predictor = Predictor(model, device=device, precision=precision, longest_side=side)
        found[device, precision] = predictor.predict(image)
    reference = found["cpu", "fp32"]
    for (_, precision), prediction in found.items():
        tolerance = 1e-2 if precision == "fp32" else 0.1
        for part, full in zip(prediction.outputs.tensors, reference.outputs.tensors, strict=True):
            assert (part.cpu().float() - full).abs().mean() < tolerance * full.abs().max()
        assert prediction.map.ids.device.type == "cpu"
