"""Train a small network, or a SwiftNet recipe at full width (ResNet-18, 256 channels), in short slots.

A repeated call with the same options resumes from the checkpoint. After the last step, the model and its evaluation are
in ``--out``.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import queue_options
from time_limit import time_limit

from panscape.recipes import get_recipe
from panscape.recipes.data_options import TownData
from panscape.training.config import Recipe
from panscape.training.run import run
from panscape.training.run_options import RunOptions

CENTERS = ("town", "street", "aerial")
DEEPLAB = ("town_deeplab", "town_deeplab_relations", "street_deeplab", "street_deeplab_relations")
RECIPES = (*CENTERS, *(f"{name}_{kind}" for kind in ("boxes", "scales") for name in CENTERS), *DEEPLAB)


def recipe_of(args: Any) -> Recipe:
    """Return the recipe, changed by the command-line options."""
    recipe = get_recipe(args.recipe)
    if args.full:
        recipe = replace(
            recipe,
            name=f"{recipe.name}_full",
            model=replace(cast(Any, recipe.model), backbone="resnet18", width=256),
            optimizer=replace(recipe.optimizer, learning_rate=1e-3),
        )
    if args.quick:
        recipe = replace(
            recipe,
            augmentation=replace(recipe.augmentation, crop=(64, 64)),
            data=replace(recipe.data, val_length=2) if isinstance(recipe.data, TownData) else recipe.data,
            eval_every=0,
        )
    steps, batch_size = (2, 2) if args.quick else (args.steps, args.batch_size)
    return replace(recipe, steps=steps or recipe.steps, batch_size=batch_size or recipe.batch_size)


def main() -> None:
    """Train for one slot."""
    parser = queue_options.slot_parser(__doc__)
    parser.add_argument("recipe", choices=RECIPES, help="name of the recipe")
    parser.add_argument("--data", type=Path, help="dataset: CamVid for street..., the satellite images for aerial...")
    parser.add_argument("--full", action="store_true", help=f"train at full width; only for {', '.join(CENTERS)}")
    parser.add_argument("--steps", type=int, help="training steps; by default as the recipe, like the batch size")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16")
    args = parser.parse_args()
    if args.full and args.recipe not in CENTERS:
        parser.error(f"--full is for {', '.join(CENTERS)}")
    recipe = recipe_of(args)
    name = f"{recipe.name}_seed{args.seed}"
    folder = args.work / name
    queue_options.unpack(args.carried, folder)
    options = RunOptions(
        folder,
        data=args.data,
        resume=True,
        seed=args.seed,
        device=args.device,
        precision=args.precision,
        workers=0 if args.quick else args.workers,
        threads=1 if args.quick else 0,
        image_every=0,
    )
    with time_limit(args.minutes):
        try:
            report = run(recipe, options)
        except KeyboardInterrupt:  # the checkpoint is written
            queue_options.pack(folder, args.out)
            print("stopped; repeat the command to resume", flush=True)
            raise SystemExit(queue_options.UNFINISHED) from None
    queue_options.write(args.out, name, f"{name}: {recipe.steps} steps\n\n{report}", report.to_dict())
    _export(folder / "model.safetensors", args.out / f"{name}.safetensors")


def _export(model: Path, target: Path) -> None:
    """Copy a model; a large one is split into parts that ``cat`` joins."""
    content = model.read_bytes()
    if len(content) <= queue_options.PART:
        shutil.copyfile(model, target)
        return
    for number, start in enumerate(range(0, len(content), queue_options.PART)):
        Path(f"{target}.{number}").write_bytes(content[start : start + queue_options.PART])


if __name__ == "__main__":
    main()
