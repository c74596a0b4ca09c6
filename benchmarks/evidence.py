"""Test whether ablations on synthetic scenes reproduce the order of a paper's rows, and for which object sizes.

``--table centers``: Panoptic SwiftNet. Table 6: one pyramid level, spatial pyramid pooling, two levels, three levels.
Table 8: plain L1 against offset weights in 3, 4 and 8 regions; three levels with 4 regions is in both tables. ``--table
boxes``: dense detections. Table 3: one tower, two towers, with levelness, with the mask loss, and training from boxes
without masks. The light network, which is ours, is compared with the full one. ``--table relations``: PISR on
Panoptic-DeepLab. Table 5: the base, three alternatives, relations without and with reweighting. Figure 9: 10, 20 and 50
instances. ``--table hosts``: PISR on MaskFormer, UPerNet and Panoptic FPN, each with and without; start them from the
backbone of ``--init-from town``. ``--table scales``: Table 1 and Figure 5 of panoptic segmentation at all scales: whole
images, crops, and crops with the crop-aware box loss, scale-uniform sampling or both. ``--table yolo``: YOLO-based
panoptic segmentation, on a detector that is trained first: semantic heads, mask heads, and all parts trained.

Each row is a recipe of ``panscape.recipes.ablations`` or ``panscape.recipes.pisr_hosts``, trained with every seed; rows
differ only in what their name says.

    python benchmarks/evidence.py --work DIR --out evidence.md

Run directories are in ``--work``. An interrupted call resumes from the last checkpoint when it is repeated; finished
runs are not repeated. ``--minutes`` limits the time of a call. The tables contain the results so far.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
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
from panscape.labels import LabelSpace
from panscape.metrics import InstanceAP, match_segments
from panscape.metrics.object_sizes import PERCENTILES
from panscape.models import PanopticModel
from panscape.models.base import in_eval_mode
from panscape.recipes import get_recipe
from panscape.recipes.data_options import TownData
from panscape.training.config import ModelOptions, Recipe
from panscape.training.run import run
from panscape.training.run_folder import recipe_to_dict
from panscape.training.run_options import RunOptions

_ENDLESS = 10**7  # scenes; more than any training here uses
EDGES = (16, 32, 64, 128)  # between size classes: square root of the area, pixels


class QualityBySize:
    """PQ of things by size: a match counts at the size of its ground truth, a false positive at its own size."""

    def __init__(self) -> None:
        self.counts = [[0.0, 0, 0, 0] for _ in range(len(EDGES) + 1)]  # sum of IoU, tp, fp, fn

    def update(self, prediction: PanopticMap, truth: PanopticMap, labels: LabelSpace) -> None:
        """Add one image."""
        is_thing = [c.is_thing for c in labels]
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

    def scores(self) -> list[float]:
        """Return PQ for each size, pooled over categories."""
        return [iou / max(tp + fp / 2 + fn / 2, 1) for iou, tp, fp, fn in self.counts]

    def objects(self) -> dict[str, int]:
        """Return the number of ground-truth objects of each size."""
        names = [f"below {EDGES[0]} px", *(f"{a} to {b} px" for a, b in pairwise(EDGES)), f"above {EDGES[-1]} px"]
        return {name: tp + fn for name, (_, tp, _, fn) in zip(names, self.counts, strict=True)}


class PrecisionBySize:
    """AP of the objects of the maps by size: between percentiles of the areas of all true objects."""

    def __init__(self, labels: LabelSpace) -> None:
        self.metric = InstanceAP(labels, percentiles=PERCENTILES, sizes={})

    def update(self, prediction: PanopticMap, truth: PanopticMap, labels: LabelSpace) -> None:
        """Add one image."""
        self.metric.update(prediction, truth)

    def scores(self) -> list[float]:
        """Return AP for each size."""
        return [size.ap for size in self.metric.compute().by_size.values()]

    def objects(self) -> dict[str, int]:
        """Return the number of ground-truth objects of each size."""
        return {name: size.num_objects for name, size in self.metric.compute().by_size.items()}


@dataclass(frozen=True)
class KeptTownData(TownData):
    """The scenes of :class:`TownData`, rendered once for all runs of this process."""

    def load(self, root: Path | None, split: Literal["train", "val"]) -> PanopticDataset:
        """See :func:`panscape.datasets.town`."""
        return _kept(split, self.length if split == "train" else self.val_length, self.size, self.view)


@functools.cache
def _kept(split: str, length: int, size: tuple[int, int], view: Literal["street", "above", "both"]) -> InMemoryDataset:
    return InMemoryDataset(town(split, length, size, view))


def widths_of(model: ModelOptions) -> dict[str, int]:
    """Return the options that set numbers of channels."""
    return {f.name: getattr(model, f.name) for f in fields(cast(Any, model)) if f.name.endswith("width")}


def of_width(model: ModelOptions, factor: float) -> ModelOptions:
    """Return options with all numbers of channels scaled by ``factor``, rounded to multiples of 8."""
    found: Any = model
    widths = {name: max(round(v * factor / 8), 1) * 8 for name, v in widths_of(model).items()}
    changed: ModelOptions = replace(found, **widths)
    relations = getattr(found, "relations", None)
    if hasattr(relations, "key_width"):
        key_width = max(round(relations.key_width * factor / 8), 1) * 8
        changed = replace(cast(Any, changed), relations=replace(relations, key_width=key_width))
    return changed


def recipe_of(row: str, args: argparse.Namespace) -> Recipe:
    """Return the recipe of a row, changed by the command-line options."""
    recipe = get_recipe(EVIDENCE[args.table].prefix + row)
    data = cast(TownData, recipe.data)
    val_length = args.val_scenes or data.val_length
    kept: TownData = KeptTownData(data.size, data.view, args.scenes or data.length, val_length)
    if args.fresh:
        kept = TownData(data.size, data.view, _ENDLESS, val_length)
    model = recipe.model
    if args.width:
        # One factor for all rows keeps their ratios: a narrower row stays narrower.
        names = [EVIDENCE[args.table].prefix + name for name in EVIDENCE[args.table].names]
        model = of_width(model, args.width / max(max(widths_of(get_recipe(name).model).values()) for name in names))
    steps, batch_size = args.steps or recipe.steps, args.batch_size or recipe.batch_size
    return replace(recipe, model=model, data=kept, steps=steps, batch_size=batch_size)


@torch.inference_mode()
def by_size(
    model: PanopticModel, val: PanopticDataset, precision: str, *, percentiles: bool
) -> QualityBySize | PrecisionBySize:
    """Evaluate every scene in the precision of the training."""
    sizes = PrecisionBySize(val.labels) if percentiles else QualityBySize()
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    with in_eval_mode(model), torch.autocast(model.mean.device.type, dtype, enabled=precision != "fp32"):
        for i in range(len(val)):
            sizes.update(model.predict(val[i].image), val[i].truth, val.labels)
    return sizes


def trained(row: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate a row with a seed, or load its earlier result."""
    recipe, folder = recipe_of(row, args), args.work / f"{row}_seed{seed}"
    kept = args.work / f"{row}_seed{seed}.json"
    if kept.is_file():
        result: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if result["recipe"] != recipe_to_dict(recipe):
            raise SystemExit(f"{kept} is a result with other options; use another --work, or the same options")
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
        init_from=_start_of(row, seed, args),
    )
    found = run(recipe, options)
    model = panscape.load(folder / "model.safetensors").to(args.device)
    val = recipe.data.load(None, "val")
    sizes = by_size(model, val, args.precision, percentiles=EVIDENCE[args.table].by_percentile)
    whole, things, stuff = found.panoptic.all, found.panoptic.things, found.panoptic.stuff
    result = {
        "recipe": recipe_to_dict(recipe),
        "minutes of the last start": round((time.time() - started) / 60, 1),
        "scores": [
            *(whole.pq, things.pq, stuff.pq, whole.sq, whole.rq, found.semantic.mean_iou, found.covering.all.covering),
            *sizes.scores(),
        ],
        "objects": sizes.objects(),
    }
    write_json(kept, result)
    return result


def _start_of(row: str, seed: int, args: argparse.Namespace) -> str | None:
    start = EVIDENCE[args.table].start
    if args.init_from is not None or start is None or row == start:
        return cast("str | None", args.init_from)
    trained(start, seed, args)
    return str(args.work / f"{start}_seed{seed}" / "model.safetensors")


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the run directories")
    parser.add_argument("--out", type=Path, help="Markdown file for the tables")
    parser.add_argument("--table", choices=list(EVIDENCE), default="centers", help="tables of which system")
    parser.add_argument("--rows", nargs="*", help="rows of the table to train; all by default")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1], help="random seeds; each trains every row")
    parser.add_argument("--steps", type=int, help="training steps; by default, as all sizes, those of the recipe")
    parser.add_argument("--batch-size", type=int, help="scenes per step")
    parser.add_argument("--width", type=int, help="channels of the widest row; all others in proportion")
    parser.add_argument("--scenes", type=int, help="number of training scenes, cached in memory: 0.5 MB each")
    parser.add_argument("--fresh", action="store_true", help="render new training scenes all the time instead")
    parser.add_argument("--val-scenes", type=int, help="number of evaluation scenes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--init-from", help="model whose backbone all rows start from, such as town")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0, help="time limit of this call; 0 for none")
    args = parser.parse_args(arguments)
    known = list(EVIDENCE[args.table].names)
    args.rows = known if args.rows is None else args.rows
    if not set(args.rows) <= set(known):
        parser.error(f"expected rows of {', '.join(known)}, got {', '.join(args.rows)}")
    return args


def main(arguments: Sequence[str] | None = None) -> bool:
    """Train the missing runs, and print the tables after each one; return whether all are done."""
    args = parsed(arguments)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {row: [] for row in args.rows}
    runs = [(seed, row) for seed in args.seeds for row in args.rows]  # seed by seed: full tables early
    with time_limit(args.minutes) as is_over:
        try:
            for seed, row in runs:
                if is_over.is_set():
                    break
                results[row].append(trained(row, seed, args))
                _show(results, args)
        except KeyboardInterrupt:
            pass  # the checkpoint is written
    done = sum(len(found) for found in results.values())
    print(f"{done} of {len(runs)} runs are done" + ("" if done == len(runs) else "; repeat the command to resume"))
    return done == len(runs)


def _show(results: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> None:
    done = {row: found for row, found in results.items() if found}
    first = next(iter(done.values()))[0]
    facts = first["recipe"]
    widths = [f"{name.replace('_', ' ')} {value}" for name, value in facts["model"].items() if name.endswith("width")]
    text = (
        f"{machine()}, {args.precision}; {facts['steps']} steps of {facts['batch_size']} scenes, "
        f"{facts['data']['length']:,} training scenes, {facts['data']['val_length']} evaluation scenes; "
        f"{', '.join(widths)}{'' if args.init_from is None else f'; started from {args.init_from}'}\n\n"
        + report(
            EVIDENCE[args.table],
            {row: [r["scores"] for r in found] for row, found in done.items()},
            first["objects"],
        )
    )
    print(text, flush=True)
    if args.out is not None:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
