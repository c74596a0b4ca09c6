"""Scores of real files, as published and spoilt, against the rules of panopticapi."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from parity import test_panoptic_quality as panopticapi
from PIL import Image

from panscape import LabelSpace, PanopticMap
from panscape.evaluation.evaluate_files import evaluate_files
from panscape.formats import decode_coco, load_coco_png

DATA = Path("../shared/data")
COCO = DATA / "coco_panoptic_sample"
TRUTH = COCO / "panoptic_examples.json"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not here"),
]


def test_coco_against_itself() -> None:
    scores = evaluate_files(TRUTH, TRUTH)
    assert scores.issues == ()
    assert scores.labels.name == "coco_panoptic"
    quality = scores.report.panoptic
    assert (quality.all.pq, quality.things.pq, quality.stuff.pq) == (1, 1, 1)
    assert quality.all.num_categories == 8


@pytest.mark.parametrize("seed", range(3))
def test_spoilt_predictions_of_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    labels = LabelSpace.load("coco_panoptic")
    monkeypatch.setattr(panopticapi, "LABELS", labels)
    g = np.random.default_rng(seed)
    content = json.loads(TRUTH.read_text())
    annotations = []
    stats: dict[str, np.ndarray] = {}
    (tmp_path / "results").mkdir()
    for annotation in content["annotations"]:
        rgb = load_coco_png(COCO / "panoptic_examples" / annotation["file_name"])
        truth = decode_coco(rgb, annotation["segments_info"], labels)
        rgb = np.roll(rgb, g.integers(-12, 13, 2), (0, 1))
        top, left = g.integers(0, rgb.shape[0] - 80), g.integers(0, rgb.shape[1] - 120)
        rgb[top : top + 80, left : left + 120] = 0
        present = set((rgb.astype(np.int64) @ [1, 256, 65536]).ravel().tolist())
        segments = [
            {"id": s["id"], "category_id": 2 if g.random() < 0.2 else s["category_id"]}
            for s in annotation["segments_info"]
            if s["id"] in present
        ]
        annotations.append({**annotation, "segments_info": segments})
        Image.fromarray(rgb).save(tmp_path / "results" / annotation["file_name"])
        decoded = decode_coco(rgb, segments, labels)
        one = panopticapi.quality_of_one_image(PanopticMap(decoded.ids, decoded.category), truth)
        stats = {name: stats.get(name, 0) + values for name, values in one.items()}
    (tmp_path / "results.json").write_text(json.dumps(annotations))
    scores = evaluate_files(tmp_path / "results.json", TRUTH)
    assert scores.issues == ()
    found = scores.report.panoptic.per_category
    for i, category in enumerate(labels):
        came = found[category.name]
        assert (came.tp, came.fp, came.fn) == tuple(stats[name][i] for name in ("tp", "fp", "fn"))
        assert abs(came.iou_sum - stats["iou"][i]) < 1e-12
    assert stats["fp"].sum() > 3
    assert stats["fn"].sum() > 3


def test_cityscapes_against_itself() -> None:
    folder = DATA / "cityscapes" / "gtFine" / "train"
    scores = evaluate_files(folder, folder)
    assert scores.issues == ()
    assert len(scores.records) == 4
    assert scores.report.semantic.mean_iou == 1
    assert scores.report.panoptic.stuff.pq == 1
