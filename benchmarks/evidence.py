"""Does the order of a paper's rows appear on town streets, and on objects of which size?

``--table centers``, Panoptic SwiftNet. Table 6: one pyramid level, spatial pyramid pooling, two levels, three. Table 8:
plain L1 against offset weights in 3, 4 and 8 regions; three levels with 4 regions stand in both. ``--table boxes``,
dense detections. Table 3: one tower, two, and levelness, and the mask loss; and without masks to learn from. The light
network, which is ours, is compared with the whole one. ``--table relations``, panoptic, instance and semantic relations
on Panoptic-DeepLab. Table 5: the base, three alternatives, relations without reweighting and with it. Figure 9: 10, 20
and 50 instances.

Each row is a recipe of ``panscape.recipes.small``, ``small_boxes`` or ``small_relations``, trained with every seed;
rows differ in nothing but what their name says.

    python benchmarks/evidence.py --work DIR --out evidence.md

Runs lie below ``--work``. A call that is interrupted goes on from the last checkpoint when it is repeated; runs that
are done are not done again. ``--minutes`` interrupts by itself. The tables hold what there is so far.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from evidence_tables import EVIDENCE, report
from reporting import machine
from time_limit import time_limit

import panscape
from panscape import PanopticMap
from panscape.atomic_io import write_json
from panscape.datasets.base import PanopticDataset
from panscape.datasets.in_memory import InMemoryDataset
from panscape.datasets.town import town
from panscape.metrics import match_segments
from panscape.models import PanopticModel
from panscape.models.base import in_eval_mode
from panscape.recipes import get_recipe
from panscape.recipes.data_options import TownData
from panscape.training.config import ModelOptions, Recipe
from panscape.training.run import run
from panscape.training.run_folder import recipe_to_dict
from panscape.training.run_options import RunOptions

_ENDLESS = 10**7  # scenes; more than any training here sees
EDGES = (16, 32, 64, 128)  # pixels, of the square root of the area


class QualityBySize:
    """PQ of things by their size: a pair of segments counts at the truth's size, an invented segment at its own."""

    def __init__(self) -> None:
        self.counts = [[0.0, 0, 0, 0] for _ in range(len(EDGES) + 1)]  # sum of IoU, tp, fp, fn

    def update(self, prediction: PanopticMap, truth: PanopticMap, is_thing: torch.Tensor) -> None:
        """Take one image into account."""
        found = match_segments(prediction, truth)
        truth_bin, own_bin = ([bisect(EDGES, area**0.5) for area in m.areas().tolist()] for m in (truth, prediction))
        for row, iou in zip(found.truth.tolist(), found.iou.tolist(), strict=True):
            if is_thing[truth.category[row]]:
                self.counts[truth_bin[row]][0] += iou
                self.counts[truth_bin[row]][1] += 1
        for row in found.false_negatives.tolist():
            self.counts[truth_bin[row]][3] += int(is_thing[truth.category[row]])
        for row in found.false_positives.tolist():
            self.counts[own_bin[row]][2] += int(is_thing[prediction.category[row]])

    def pq(self) -> list[float]:
        """Return PQ for each size; categories are not told apart."""
        return [iou / max(tp + fp / 2 + fn / 2, 1) for iou, tp, fp, fn in self.counts]

    def objects(self) -> list[int]:
        """Return the number of true objects of each size."""
        return [tp + fn for _, tp, _, fn in self.counts]


@dataclass(frozen=True)
class KeptTownData(TownData):
    """The scenes of :class:`TownData`, drawn once for all runs of this process."""

    def load(self, root: Path | None, split: Literal["train", "val"]) -> PanopticDataset:
        """See :func:`panscape.datasets.town`."""
        return _kept(split, self.length if split == "train" else self.val_length, self.size, self.view)


@functools.cache
def _kept(split: str, length: int, size: tuple[int, int], view: Literal["street", "above", "both"]) -> InMemoryDataset:
    return InMemoryDataset(town(split, length, size, view))


def widths_of(model: ModelOptions) -> dict[str, int]:
    """Return the options that say how many channels there are."""
    return {f.name: getattr(model, f.name) for f in fields(cast(Any, model)) if f.name.endswith("width")}


def of_width(model: ModelOptions, factor: float) -> ModelOptions:
    """Return options with ``factor`` times the channels everywhere, in multiples of 8."""
    found: Any = model
    widths = {name: max(round(v * factor / 8), 1) * 8 for name, v in widths_of(model).items()}
    changed: ModelOptions = replace(found, **widths)
    relations = getattr(found, "relations", None)
    if hasattr(relations, "key_width"):
        key_width = max(round(relations.key_width * factor / 8), 1) * 8
        changed = replace(cast(Any, changed), relations=replace(relations, key_width=key_width))
    return changed


def recipe_of(row: str, args: argparse.Namespace) -> Recipe:
    """Return the recipe of a row, changed as the options say."""
    recipe = get_recipe(EVIDENCE[args.table].prefix + row)
    data = cast(TownData, recipe.data)
    val_length = args.val_scenes or data.val_length
    kept: TownData = KeptTownData(data.size, data.view, args.scenes or data.length, val_length)
    if args.fresh:
        kept = TownData(data.size, data.view, _ENDLESS, val_length)
    model = recipe.model
    if args.width:
        # By one factor for all rows: one that is narrower than the others stays so.
        names = [EVIDENCE[args.table].prefix + name for name in EVIDENCE[args.table].names]
        model = of_width(model, args.width / max(max(widths_of(get_recipe(name).model).values()) for name in names))
    steps, batch_size = args.steps or recipe.steps, args.batch_size or recipe.batch_size
    return replace(recipe, model=model, data=kept, steps=steps, batch_size=batch_size)


@torch.inference_mode()
def quality_by_size(model: PanopticModel, val: PanopticDataset, precision: str) -> QualityBySize:
    """Predict every scene in the precision of the training."""
    is_thing = torch.tensor([c.is_thing for c in val.labels])
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    sizes = QualityBySize()
    with in_eval_mode(model), torch.autocast(model.mean.device.type, dtype, enabled=precision != "fp32"):
        for i in range(len(val)):
            sizes.update(model.predict(val[i].image), val[i].truth, is_thing)
    return sizes


def trained(row: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate a row with a seed, or read what came of it before."""
    recipe, folder = recipe_of(row, args), args.work / f"{row}_seed{seed}"
    kept = args.work / f"{row}_seed{seed}.json"
    if kept.is_file():
        result: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if result["recipe"] != recipe_to_dict(recipe):
            raise SystemExit(f"{kept} is the result of other options; give another --work, or the same options")
        return result
    started = time.time()
    options = RunOptions(
        folder,
        resume=True,
        seed=seed,
        device=args.device,
        precision=args.precision,
        workers=args.workers,
        threads=args.threads,
        checkpoint_every=250,
        image_every=0,
        log_every=100,
    )
    found = run(recipe, options)
    model = panscape.load(folder / "model.safetensors").to(args.device)
    sizes = quality_by_size(model, recipe.data.load(None, "val"), args.precision)
    whole, things, stuff = found.panoptic.all, found.panoptic.things, found.panoptic.stuff
    result = {
        "recipe": recipe_to_dict(recipe),
        "minutes of the last start": round((time.time() - started) / 60, 1),
        "scores": [whole.pq, things.pq, stuff.pq, whole.sq, whole.rq, found.semantic.mean_iou, *sizes.pq()],
        "objects": sizes.objects(),
    }
    write_json(kept, result)
    return result


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--out", type=Path, help="file for the tables")
    parser.add_argument("--table", choices=list(EVIDENCE), default="centers")
    parser.add_argument("--rows", nargs="*", help="of the table; by default all")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--steps", type=int, help="by default the recipe's, like all sizes")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--width", type=int, help="channels where the widest row has most; others in proportion")
    parser.add_argument("--scenes", type=int, help="to train on, kept in memory: 0.5 MB each")
    parser.add_argument("--fresh", action="store_true", help="draw new scenes all the time instead")
    parser.add_argument("--val-scenes", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0, help="stop then; 0 goes on to the end")
    args = parser.parse_args(arguments)
    known = list(EVIDENCE[args.table].names)
    args.rows = known if args.rows is None else args.rows
    if not set(args.rows) <= set(known):
        parser.error(f"expected rows of {', '.join(known)}, got {', '.join(args.rows)}")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, and print the tables after each run."""
    args = parsed(arguments)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {row: [] for row in args.rows}
    runs = [(seed, row) for seed in args.seeds for row in args.rows]  # all rows early, for tables after one seed
    with time_limit(args.minutes) as is_over:
        try:
            for seed, row in runs:
                if is_over.is_set():
                    break
                results[row].append(trained(row, seed, args))
                _show(results, args)
        except KeyboardInterrupt:
            pass  # its checkpoint is written
    done = sum(len(found) for found in results.values())
    print(f"{done} of {len(runs)} runs are done" + ("" if done == len(runs) else "; the same command goes on"))


def _show(results: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> None:
    done = {row: found for row, found in results.items() if found}
    first = next(iter(done.values()))[0]
    facts = first["recipe"]
    widths = [f"{name.replace('_', ' ')} {value}" for name, value in facts["model"].items() if name.endswith("width")]
    text = (
        f"{machine()}, {args.precision}; {facts['steps']} steps of {facts['batch_size']} scenes, "
        f"of {facts['data']['length']:,} different ones, {facts['data']['val_length']} others to evaluate on; "
        f"{', '.join(widths)}\n\n"
        + report(
            EVIDENCE[args.table],
            {row: [r["scores"] for r in found] for row, found in done.items()},
            first["objects"],
            EDGES,
        )
    )
    print(text, flush=True)
    if args.out is not None:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
