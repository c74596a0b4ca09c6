"""Leave one drive of CamVid out: train recipes on the others, and evaluate on the drive and on photos of Cityscapes.

::

    python benchmarks/unseen_drives.py CAMVID --work DIR --steps 400 --rows street street@town street_lite0 \\
        --backbone-weights efficientnet-lite0-57934424.pth --photos CITYSCAPES --out table.md

CamVid's val images are of the same drive as most of its train images, so that choices by them serve no other drive.
The train images are of three drives, by the first letters of their names. A row is a recipe, or ``RECIPE@MODEL`` to
start from the weights of a model. ``--backbone-weights`` is for recipes that start from ImageNet features. All rows
get the same number of steps. An interrupted call resumes when it is repeated; finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from reporting import machine, table
from unseen_photos import confusion, mean_iou

import panscape
from panscape.atomic_io import write_json
from panscape.evaluation.evaluate_model import evaluate
from panscape.recipes import get_recipe
from panscape.training.run import run
from panscape.training.run_options import RunOptions

DRIVES = ("0001TP", "0006R0", "0016E5")
SCORES = ("PQ", "things", "stuff", "mIoU")


def fold(camvid: Path, drive: str, work: Path) -> Path:
    """Return a folder in the layout of CamVid: as train all train images but those of the drive, as val the latter."""
    folder = work / f"without_{drive}"
    for kind in ("images", "labels"):
        for file in sorted((camvid / kind / "train").iterdir()):
            link = folder / kind / ("val" if file.name.startswith(drive) else "train") / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    return folder


def trained(row: str, drive: str, args: argparse.Namespace) -> dict[str, float]:
    """Train a row without a drive and return its scores in percent, or return its earlier ones."""
    name = f"{row.replace('@', '_from_')}_{args.steps}_without_{drive}"
    kept = args.work / f"{name}.json"
    if kept.is_file():
        scores: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
        return scores
    recipe_name, _, start = row.partition("@")
    recipe = get_recipe(recipe_name)
    schedule = replace(recipe.schedule, warmup_steps=min(recipe.schedule.warmup_steps, args.steps // 8))
    recipe = replace(recipe, steps=args.steps, eval_every=0, schedule=schedule)
    data = fold(args.camvid, drive, args.work)
    has_features = getattr(recipe.model, "pretrained", False) and not start
    run(
        recipe,
        RunOptions(
            args.work / name,
            data=data,
            resume=True,
            seed=args.seed,
            init_from=start or None,
            backbone_weights=args.backbone_weights if has_features else None,
            precision="bf16",
            workers=1,
            threads=args.threads,
            checkpoint_every=100,
            image_every=0,
            log_every=50,
        ),
    )
    model = panscape.load(args.work / name / "model.safetensors")
    report = evaluate(model, recipe.data.load(data, "val"), workers=0)
    groups = report.panoptic
    scores = dict(
        zip(SCORES, (groups.all.pq, groups.things.pq, groups.stuff.pq, report.semantic.mean_iou), strict=True)
    )
    if args.photos is not None:
        scores["photos"] = mean_iou(confusion(model, args.photos))
    write_json(kept, {score: 100 * value for score, value in scores.items()})
    return trained(row, drive, args)


def report_of(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a table with a line for each row and drive, and the means of rows with all drives."""
    lines = []
    for row, drives in results.items():
        of_row = dict(drives)
        if len(drives) == len(DRIVES):
            names = next(iter(drives.values()))
            of_row["mean"] = {name: mean(scores[name] for scores in drives.values()) for name in names}
        lines += [[row, drive, *(f"{v:.1f}" for v in scores.values())] for drive, scores in of_row.items()]
    header = list(next(iter(next(iter(results.values())).values())))
    return table(["recipe", "drive", *header], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the missing runs, and print the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of the run directories")
    parser.add_argument("--rows", nargs="+", default=["street", "street_lite0"])
    parser.add_argument("--drives", nargs="+", choices=DRIVES, default=list(DRIVES))
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone-weights", type=Path, help="ImageNet weights of EfficientNet-Lite0")
    parser.add_argument("--photos", type=Path, help="Cityscapes; see unseen_photos.py")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for drive in args.drives:
        for row in args.rows:
            results.setdefault(row, {})[drive] = trained(row, drive, args)
            text = f"{machine()}, bf16; {args.steps} steps, seed {args.seed}\n\n{report_of(results)}"
            print(text, flush=True)
            if args.out is not None:
                args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
