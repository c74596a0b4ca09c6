from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import panscape
from panscape.inference.familiarity import CONFIDENCE, note_if_unlike
from panscape.inference.output_folder import OutputFolder
from panscape.inference.pipeline import PredictionRun
from panscape.inference.predictor import Predictor
from panscape.inference.sources import find_sources
from panscape.notes import start_run


class Predicted(NamedTuple):
    semantic: np.ndarray | None


class Quiet:
    def on_result(self, outcome): ...


@pytest.mark.parametrize(("lowest", "notes"), [(None, 0), (0.24, 0), (0.26, 1)])
def test_images_below_every_validation_image_are_noted(lowest, notes, caplog):
    start_run()
    note_if_unlike("photo.jpg", Predicted(np.zeros((4, 8, 8), np.float32)), lowest)  # each of four categories has 0.25
    assert len(caplog.records) == notes
    if notes:
        assert caplog.records[0].getMessage().startswith("photo.jpg: the model is less sure")


def test_networks_without_a_semantic_head_have_no_confidence(caplog):
    note_if_unlike("photo.jpg", Predicted(None), 1.1)
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
