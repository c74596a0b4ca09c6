from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

import panscape
from panscape.geometry import ImageGeometry
from panscape.inference.familiarity import CONFIDENCE, note_if_unlike
from panscape.inference.output_folder import OutputFolder
from panscape.inference.pipeline import PredictionRun
from panscape.inference.predictor import Prediction, Predictor
from panscape.inference.sources import find_sources
from panscape.notes import start_run


class Outputs(NamedTuple):
    semantic: torch.Tensor


def predicted(outputs: object) -> Prediction:
    geometry = ImageGeometry.of((8, 8))
    return Prediction(panscape.PanopticMap.empty((8, 8)), outputs, torch.zeros(1, 3, 8, 8), geometry, 0.0, 0.0)


class Quiet:
    def on_result(self, outcome): ...


@pytest.mark.parametrize(("lowest", "notes"), [(None, 0), (0.24, 0), (0.26, 1)])
def test_images_below_every_validation_image_are_noted(lowest, notes, caplog):
    start_run()
    card = {} if lowest is None else {CONFIDENCE: lowest}
    note_if_unlike("photo.jpg", card, predicted(Outputs(torch.zeros(1, 4, 8, 8))))  # each of four categories has 0.25
    assert len(caplog.records) == notes
    if notes:
        assert caplog.records[0].getMessage().startswith("photo.jpg: the model is less sure")


def test_maps_and_networks_without_a_semantic_head_have_no_confidence(caplog):
    note_if_unlike("photo.jpg", {CONFIDENCE: 1.1}, predicted(Outputs(torch.zeros(1, 8, 8, dtype=torch.int32))))
    note_if_unlike("photo.jpg", {CONFIDENCE: 1.1}, predicted(()))
    assert caplog.records == []


def test_a_run_notes_the_first_unlike_image(photos, tmp_path, caplog):
    start_run()
    model = panscape.load("town")
    model.card = {**model.card, CONFIDENCE: 1.1}
    with OutputFolder(tmp_path / "out", model.labels) as outputs:
        run = PredictionRun(Predictor(model, device="cpu"), outputs)
        assert run.predict_files(find_sources([photos]), Quiet()) == []
    notes = [r.getMessage() for r in caplog.records if "less sure" in r.getMessage()]
    assert len(notes) == 1
    assert "0.png" in notes[0]
