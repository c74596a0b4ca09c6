"""Detect objects with YOLOv3 alone, and write them as results of COCO's detection task.

Run it on Darknet's weights and the annotations of a dataset::

    python examples/yolov3_boxes.py yolov3.weights instances_val2017.json val2017 boxes.json

The annotations name the images; ``boxes.json`` is what COCO's server and the ``loadRes`` of pycocotools read. For a
detector of other categories, ``--labels FILE.json`` is a label space whose things are these categories in the
detector's order; their ``source_id`` are the category ids in the results.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panscape import LabelSpace, load_image, load_published
from panscape.atomic_io import write_json
from panscape.formats import encode_coco_boxes
from panscape.input_files import load_json
from panscape.nn.yolov3 import YoloV3


def detect_files(
    detector: YoloV3, files: Mapping[int, Path], labels: LabelSpace, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Detect objects in image files, with the threshold of Darknet's evaluation.

    Args:
        detector: in eval mode, with a category for each thing.
        files: of the images, by their ``id``.
        labels: the label space.
        size: height and width of the network's input, multiples of 32.

    Returns:
        The entries of a results file.
    """
    results = []
    device = detector.anchors.device
    for image_id, file in files.items():
        image = load_image(file).to(device) / 255
        found = detector.detect(image, size=size, min_score=0.005)
        results += encode_coco_boxes(found.boxes, found.category, found.score, image_id=image_id, labels=labels)
    return results


def main() -> None:
    """Detect objects in the images of a dataset."""
    parser = argparse.ArgumentParser(description="Detect objects with YOLOv3 and write COCO's results JSON.")
    parser.add_argument("weights", help="Darknet's weights, such as yolov3.weights")
    parser.add_argument("annotations", type=Path, help="JSON with the id and file_name of each image")
    parser.add_argument("images", type=Path, help="folder of the images")
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--labels", default="coco_panoptic", help="bundled label space, or a JSON file")
    parser.add_argument("--size", type=int, default=608, help="sides of the network's input, a multiple of 32")
    parser.add_argument("--device", default="cpu", help='such as "cuda"')
    options = parser.parse_args()
    labels = LabelSpace.of(options.labels)
    detector = load_published(YoloV3(len(labels.thing_ids)), options.weights).to(options.device)
    images = load_json(options.annotations)["images"]
    files = {one["id"]: options.images / one["file_name"] for one in images}
    results = detect_files(detector, files, labels, (options.size, options.size))
    write_json(options.out, results)
    names = {labels[thing].source_id: labels[thing].name for thing in labels.thing_ids}
    counts = Counter(names[one["category_id"]] for one in results if one["score"] > 0.5)
    print(f"{options.out}: {len(results)} boxes in {len(images)} images; with a score above 0.5: {dict(counts)}")


if __name__ == "__main__":
    main()
