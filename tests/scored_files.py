"""Predictions and truths in the files of other tools, written without the code that reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from maps import SHAPES, generated_map
from PIL import Image

from panscape import LabelSpace, PanopticMap


def several_maps(count: int = 4, size: tuple[int, int] = (24, 32), *, crowd: bool = False) -> dict[str, PanopticMap]:
    """Generate maps of images called "1", "2" and so on."""
    return {str(n): generated_map(n, size, objects=4, smallest=5, crowd=crowd) for n in range(1, count + 1)}


def worse(maps: Mapping[str, PanopticMap]) -> dict[str, PanopticMap]:
    """Shift maps a little and give one object another category, so that matches, misses and surplus occur."""
    changed = {}
    for name, panoptic in maps.items():
        category = panoptic.category.clone()
        category[-1] = sum(SHAPES.thing_ids) - category[-1]
        ids = panoptic.ids.roll((2, 1), (0, 1))
        score = torch.linspace(0.3, 0.9, len(category))
        changed[name] = PanopticMap(ids, category, score).compact()
    return changed


def one_stuff_each(panoptic: PanopticMap) -> PanopticMap:
    """Return a map whose segments of one stuff category are one, as arrays are read."""
    ids = panoptic.ids.clone()
    for category in SHAPES.stuff_ids:
        rows = (panoptic.category == category).nonzero()[:, 0] + 1
        if len(rows):
            ids[torch.isin(ids, rows.int())] = int(rows[0])
    return PanopticMap(ids, panoptic.category).compact()


def color_ids(numbers: np.ndarray) -> np.ndarray:
    """Return ids as red + 256 green + 65536 blue."""
    return np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1).astype(np.uint8)


def coco_annotation(name: str, panoptic: PanopticMap, labels: LabelSpace, factor: int = 7001) -> dict[str, Any]:
    """Describe a map as COCO does; segment ``s`` of the map has the id ``factor * s``."""
    crowd = [False] * panoptic.num_segments if panoptic.crowd is None else panoptic.crowd.tolist()
    segments = [
        {
            "id": factor * (row + 1),
            "category_id": labels[category].source_id,
            "iscrowd": int(crowd[row]),
            "area": int((panoptic.ids == row + 1).sum()),
        }
        for row, category in enumerate(panoptic.category.tolist())
    ]
    image_id = int(name) if name.isdigit() else name
    return {"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments}


def coco_content(maps: Mapping[str, PanopticMap], labels: LabelSpace, factor: int = 7001) -> dict[str, Any]:
    """Describe a set of maps as a truth of COCO does."""
    annotations = [coco_annotation(name, panoptic, labels, factor) for name, panoptic in maps.items()]
    categories = [{"id": c.source_id, "name": c.name, "isthing": int(c.is_thing)} for c in labels]
    images = [{"id": a["image_id"], "file_name": a["file_name"].replace(".png", ".jpg")} for a in annotations]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(
    json_path: Path,
    maps: Mapping[str, PanopticMap],
    labels: LabelSpace = SHAPES,
    *,
    pngs: Path | None = None,
    content: Any = None,
    factor: int = 7001,
) -> Path:
    """Write maps in COCO panoptic format: the JSON, or ``content`` in its place, and PNGs in the folder of its name."""
    folder = pngs or json_path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    for name, panoptic in maps.items():
        Image.fromarray(color_ids(factor * panoptic.ids.numpy().astype(np.int64))).save(folder / f"{name}.png")
    content = coco_content(maps, labels, factor) if content is None else content
    json_path.write_text(json.dumps(content), encoding="utf-8")
    return json_path


def write_instance_ids(
    folder: Path, maps: Mapping[str, PanopticMap], labels: LabelSpace = SHAPES, ending: str = "_gtFine_instanceIds"
) -> Path:
    """Write maps as Cityscapes does: one folder for each city, the value is 1000 times the label plus a count."""
    for name, panoptic in maps.items():
        values = np.zeros(panoptic.size, np.uint16)
        for row, category in enumerate(panoptic.category.tolist()):
            source = labels[category].source_id
            values[panoptic.ids.numpy() == row + 1] = source * 1000 + row if labels[category].is_thing else source
        path = folder / name.split("_")[0] / f"{name}{ending}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return folder


def array_segments(panoptic: PanopticMap) -> list[dict[str, Any]]:
    """Describe a map as transformers does, with the id of the map."""
    scores = [0.5] * panoptic.num_segments if panoptic.score is None else panoptic.score.tolist()
    return [
        {"id": row + 1, "label_id": category, "was_fused": False, "score": round(scores[row], 6)}
        for row, category in enumerate(panoptic.category.tolist())
    ]


def write_array(path: Path, numbers: np.ndarray, segments: Sequence[Mapping[str, Any]]) -> Path:
    """Write an image's result of transformers; .npz holds both, .npy has its JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez_compressed(path, segmentation=numbers, segments_info=json.dumps(segments))
    else:
        np.save(path, numbers)
        path.with_suffix(".json").write_text(json.dumps(segments), encoding="utf-8")
    return path
