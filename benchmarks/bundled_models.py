"""Add a trained model to the package, with a model card of its data and results; or print the cards as a page.

::

    panscape train town --out RUN --precision bf16 --workers 1 --threads 1
    python benchmarks/bundled_models.py town --run RUN
    python benchmarks/bundled_models.py street --run RUN --data path/to/camvid
    python benchmarks/bundled_models.py street_boxes --run RUN --data path/to/camvid
    python benchmarks/bundled_models.py street --again --data path/to/camvid
    python benchmarks/bundled_models.py --page > docs/bundled_models.md

The weights of convolutions are stored in half precision. The model is evaluated with them on the val images at their
own size, in float32, and timed on them with one thread. ``--again`` evaluates a bundled model again, with the
present post-processing options of its recipe, and updates these and the scores in its card; weights and times remain.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import tempfile
import textwrap
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from reporting import table

import panscape
from panscape import zoo
from panscape.benchmark.machine import describe_machine
from panscape.datasets.base import PanopticDataset
from panscape.errors import InvalidArgumentError
from panscape.evaluation.evaluate_model import evaluate
from panscape.export import export_model
from panscape.export.floors import AGREEMENT
from panscape.inference.familiarity import CONFIDENCE
from panscape.inference.predictor import Predictor
from panscape.metrics import EvaluationReport, SemanticIoUReport
from panscape.models import PanopticModel
from panscape.ops.confidence import mean_confidence
from panscape.recipes import get_recipe
from panscape.training.config import Recipe

WEIGHTS = Path(panscape.__file__).parent / "weights"
_CAMVID = {
    "data": "CamVid as published with the SegNet tutorial: photos of 360x480 from a car, 11 categories; objects "
    "are connected components of at least 50 pixels",
    "terms of the data": "research use; cite Brostow et al., 2008",
    "split": "367 train images of the drives 0001TP, 0006R0 and 0016E5; 101 val images, which were not used for "
    "training, but are of the drive 0016E5 as well: numbers on val are those of a known street",
    "licence": "Apache-2.0 for the weights; the images they were trained on are for research",
}
_NOT_IN_CAMVID = "night, rain and snow; right-hand traffic; cities other than Cambridge; photos not taken from a car"
RECIPES = {"street": "street_lite0"}
"""Recipes of models with another name than theirs."""
FACTS = {
    "town": {
        "data": "synthetic scenes of panscape.datasets.town, rendered during training; no photos",
        "terms of the data": "none, the images are synthetic",
        "split": "val is town('val', 100, (256, 256), 'both')",
        "licence": "Apache-2.0",
        "post-processing": "largest_part: the best rule on parts of things by PQ on 40 train scenes; the time below is "
        "without it",
    },
    "street": {
        **_CAMVID,
        "unseen drives": "this recipe with 400 steps, without one of the three drives: PQ 29.7 (things 8.1), mIoU 41.8 "
        "on that drive, the mean of all three; the recipe of the former model 18.0 (2.2), 24.3",
        "unseen photos": "four of Cityscapes, 1024x2048, from another country: mIoU 52.3; the former model 33.8",
        "never seen": f"{_NOT_IN_CAMVID}. Pedestrians and bicyclists are often missed: IoU 19 and 0 on the photos of "
        "Cityscapes",
        "post-processing": "largest_part; a centre threshold of 0.25 by PQ on every fourth train image, where 0.2 has "
        "60.2, 0.25 60.9, 0.3 61.2 and 0.4 60.4",
    },
    "street_boxes": {
        **_CAMVID,
        "unseen photos": "four of Cityscapes, 1024x2048, from another country: mIoU 33.9",
        "never seen": _NOT_IN_CAMVID,
        "post-processing": "a mask threshold of 0.15, chosen by PQ on every fifth train image",
    },
    "aerial": {
        "data": "satellite images of Dubai by Humans in the Loop and MBRSC, 5 categories; objects are connected "
        "components of at least 100 pixels",
        "terms of the data": "CC0 1.0",
        "split": "54 train images, tiles 1 to 6; val is tile 7, 9 images, which were not used for training",
        "licence": "Apache-2.0",
        "post-processing": "largest_part, leftover_area 2400: the best rules on parts of things by PQ on 18 train "
        "images; the time below is without them",
    },
}


def card_of(
    name: str,
    run: Path,
    data: Path | None,
    before: list[str],
    after: list[str],
    hours_before: float,
    steps_before: int,
) -> tuple[PanopticModel, dict[str, Any]]:
    """Return the model of a run and its card."""
    recipe = recipe_of(name)
    model = _as_stored(run / "model.safetensors", recipe)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    val = recipe.data.load(data, "val")
    report = evaluate(model, val, workers=0)
    sizes = sorted({tuple(val[i].image.shape[1:]) for i in range(len(val))})
    _, _, arguments = record["starts"][0]["command"].partition(" ")
    command = f"panscape {arguments}".replace(str(data), "DATA").replace(str(run), "OUT")
    command = re.sub(r"--init-from \S+/\S+", "--init-from BEFORE", command)
    command = re.sub(r"(--backbone-weights) \S+", r"\1 WEIGHTS", command)
    return model, {
        **FACTS[name],
        "recipe": recipe.name,
        "commands": [*before, command, *after],
        "steps": record["recipe"]["steps"] + steps_before,
        "hours": round(_hours(run, record) + hours_before, 2),
        "hardware": describe_machine().processor + ", one thread, beside other work",
        "parameters": sum(p.numel() for p in model.parameters()),
        "size of val images": " to ".join(f"{h}x{w}" for h, w in dict.fromkeys((sizes[0], sizes[-1]))),
        "ms an image": _milliseconds(model, [val[i].image for i in range(min(12, len(val)))]),
        "val": _scores(report),
        "per category": _per_category(report),
        CONFIDENCE: _lowest_confidence(model, val),
        AGREEMENT: _agreement(model, val),
    }


def recipe_of(name: str) -> Recipe:
    """Return the recipe of a bundled model."""
    return get_recipe(RECIPES.get(name, name))


def _as_stored(name_or_path: str | Path, recipe: Recipe) -> PanopticModel:
    """Return a model with rounded weights, and with the present post-processing options of its recipe."""
    model = panscape.load(name_or_path)
    network: Any = recipe.model
    if getattr(network, "pretrained", False):
        network = replace(network, pretrained=False)  # nothing is downloaded
    model.replace_decoding(network.create(model.labels).decoding)
    model.load_state_dict({key: _stored(tensor) for key, tensor in model.state_dict().items()})
    return model


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    """Return weights with the precision in which they are stored; norms and biases, which are small, keep theirs."""
    return tensor.half() if tensor.ndim > 1 else tensor


def _lowest_confidence(model: PanopticModel, val: PanopticDataset) -> float:
    """Return the lowest mean confidence of val images, rounded down."""
    predictor = Predictor(model, device="cpu")
    semantics = (predictor.predict(val[i].image).semantic for i in range(len(val)))
    return math.floor(100 * min(mean_confidence(one) for one in semantics if one is not None)) / 100


def _agreement(model: PanopticModel, val: PanopticDataset) -> dict[str, tuple[float, float]]:
    """Return equal pixels and PQ of maps in OpenVINO in bf16 against torch, on at most 25 val images."""
    images = [val[i].image for i in range(0, len(val), math.ceil(len(val) / 25))]
    with tempfile.TemporaryDirectory() as folder:
        try:
            parity = export_model(model, Path(folder) / "model.xml", precision="bf16", images=images).parity
        except InvalidArgumentError:  # below the floor
            return {}
    return {"bf16": (math.floor(1000 * parity.equal_pixels) / 1000, math.floor(1000 * parity.pq) / 1000)}


def evaluated_again(name: str, data: Path | None) -> tuple[PanopticModel, dict[str, Any]]:
    """Return a bundled model with the post-processing options of its recipe, and its card with new scores."""
    model = _as_stored(name, recipe_of(name))
    (weights,) = (one for one in zoo.list_weights() if one.name == name)
    val = recipe_of(name).data.load(data, "val")
    report = evaluate(model, val, workers=0)
    scores = {"val": _scores(report), "per category": _per_category(report)}
    on_images = {CONFIDENCE: _lowest_confidence(model, val), AGREEMENT: _agreement(model, val)}
    return model, {**weights.card, **FACTS[name], **scores, **on_images}


def _hours(run: Path, record: dict[str, Any]) -> float:
    """Return the hours from the start of the run to its last log line; pauses count only if it was not resumed."""
    ended = datetime.fromtimestamp((run / "metrics.jsonl").stat().st_mtime).astimezone()
    return (ended - datetime.fromisoformat(record["starts"][0]["time"])).total_seconds() / 3600


def _scores(report: EvaluationReport) -> dict[str, float]:
    groups = {"": report.panoptic.all, " things": report.panoptic.things, " stuff": report.panoptic.stuff}
    scores = {f"{kind}{group}": getattr(g, kind.lower()) for group, g in groups.items() for kind in ("PQ", "SQ", "RQ")}
    scores |= {"mIoU": report.semantic.mean_iou, "mIoU of the semantic head": _head(report).mean_iou}
    return {name: round(100 * value, 1) for name, value in scores.items()}


def _head(report: EvaluationReport) -> SemanticIoUReport:
    assert report.semantic_head is not None  # every model has one
    return report.semantic_head


def _per_category(report: EvaluationReport) -> dict[str, dict[str, float | None]]:
    found = {}
    ious, head_ious = (part.to_dict()["per_category"] for part in (report.semantic, _head(report)))
    for name, entry in report.panoptic.to_dict()["per_category"].items():
        values = {"PQ": entry["pq"], "SQ": entry["sq"], "RQ": entry["rq"]}
        values |= {"IoU": ious[name]["iou"], "head IoU": head_ious[name]["iou"]}
        found[name] = {kind: None if value is None else round(100 * value, 1) for kind, value in values.items()}
    return found


def _milliseconds(model: PanopticModel, images: list[torch.Tensor]) -> dict[str, float]:
    """Return the median time of network and post-processing, bfloat16 and channels last, with one thread."""
    predictor = Predictor(model, device="cpu", precision="bf16", channels_last=True)
    predictor.warm_up()
    predictions = [predictor.predict(image) for image in images]
    return {
        "network": round(statistics.median(p.network_ms for p in predictions), 1),
        "post-processing": round(statistics.median(p.postprocess_ms for p in predictions), 1),
    }


_OPTIONAL = ("unseen drives", "unseen photos", "never seen", "post-processing", CONFIDENCE)


def page() -> str:
    """Return the cards of all bundled models as Markdown."""
    parts = [INTRODUCTION]
    for weights in zoo.list_weights():
        card = dict(weights.card)
        parts.append(f"## {weights.name}\n")
        times = ", ".join(f"{name} {value} ms" for name, value in card["ms an image"].items())
        facts = {
            "data": card["data"],
            "terms of the data": card["terms of the data"],
            "split": card["split"],
            "licence": card["licence"],
            **{key: card[key] for key in _OPTIONAL if key in card},
            **{
                f"{precision} in OpenVINO": f"{100 * equal:.1f} % of the pixels of val as in torch, PQ {100 * pq:.1f}"
                for precision, (equal, pq) in card.get(AGREEMENT, {}).items()
            },
            "steps and hours": f"{card['steps']} steps, {card['hours']} h on {card['hardware']}",
            "size": f"{card['parameters'] / 1e6:.2f} M parameters, {weights.path.stat().st_size / 1e6:.1f} MB",
            "time of an image": f"{times}; {card['size of val images']}, bfloat16, channels last, one thread",
        }
        parts.append(table(["fact", ""], [[name, str(value)] for name, value in facts.items()]) + "\n")
        parts.append("\n".join(["Trained with:", "", "```text", *map(_lines_of, card["commands"]), "```"]) + "\n")
        scores = card["val"]
        rows = [["all", *(scores[k] for k in ("PQ", "SQ", "RQ", "mIoU", "mIoU of the semantic head"))]]
        rows += [[g, *(scores[f"{kind} {g}"] for kind in ("PQ", "SQ", "RQ")), "", ""] for g in ("things", "stuff")]
        rows += [[name, *entry.values()] for name, entry in card["per category"].items()]
        shown = [["-" if value is None else str(value) for value in row] for row in rows]
        parts.append(table(["val", "PQ", "SQ", "RQ", "map IoU", "head IoU"], shown) + "\n")
    return "\n".join(parts)


def _lines_of(command: str) -> str:
    """Return a command of a card as lines for a shell; what follows its first comma is a remark in prose."""
    code, _, remark = command.replace("(its average)", "BEFORE").partition(", ")
    lines = textwrap.wrap(code, 100, subsequent_indent="    ", break_on_hyphens=False)
    return (f"# {remark}\n" if remark else "") + " \\\n".join(lines)


INTRODUCTION = """# Bundled models

These models are part of the package, so `panscape predict` works without a download. Each was trained with one of the
[recipes](recipes.md), from random weights, ImageNet weights or another of these models, by the commands in its section.
Numbers are percent on val images at their own size, in float32. `map IoU` is that of the map, `head IoU` that of the
semantic head; in the row `all` they are the means over categories, mIoU.

In the commands, DATA is the folder of the dataset, OUT a run directory and BEFORE the model of the previous command. A
model's own name after `--init-from` is the version of it that was bundled before. The former `street`, from which
`street_boxes` starts, had `residual_s`. The first command of `aerial` is not included in its steps and hours. WEIGHTS
is the file of [EfficientNet-Lite0](training.md#weights-of-backbones). `python benchmarks/bundled_models.py --page`
makes this page from the model cards in the files; `panscape models` prints them, too.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=sorted(FACTS))
    parser.add_argument("--run", type=Path, help="run directory")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--before", nargs="*", default=[], help="commands that made the initial model of the run")
    parser.add_argument("--after", nargs="*", default=[], help="commands that changed the model after the run")
    parser.add_argument("--hours-before", type=float, default=0.0, help="hours of these commands")
    parser.add_argument("--steps-before", type=int, default=0, help="steps of these commands")
    parser.add_argument("--again", action="store_true", help="evaluate the bundled model again")
    parser.add_argument("--page", action="store_true", help="print the page of all bundled models")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.page:
        print(page(), end="")
        return
    if args.name is None or (args.run is None) != args.again:
        parser.error("expected the name of a model, with --again or with --run and its run directory; or --page")
    started = time.time()
    if args.again:
        model, card = evaluated_again(args.name, args.data)
    else:
        before = (args.before, args.after, args.hours_before, args.steps_before)
        model, card = card_of(args.name, args.run, args.data, *before)
    for parameter in model.parameters():
        parameter.data = _stored(parameter.data)
    zoo.save(model, WEIGHTS / f"{args.name}.safetensors", card)
    print(json.dumps(card, indent=1), f"\n{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
