"""`panscape tune MODEL --recipe NAME`: chooses post-processing options on the dataset of a recipe."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from panscape import load, zoo
from panscape.cli.decode_arguments import parse_grid
from panscape.datasets.load import OnError, SkippedSample
from panscape.errors import InvalidArgumentError
from panscape.evaluation.files_command import require_places
from panscape.evaluation.tune import Metric, Sweep, TuningReport, tune
from panscape.inference.device import choose_device
from panscape.metrics.tables import format_percent, format_table
from panscape.precision import Precision
from panscape.progress import ProgressBar
from panscape.recipes import get_recipe, resolve_recipe_name

_TITLES: Mapping[str, str] = {"pq": "PQ", "things-pq": "PQ things", "stuff-pq": "PQ stuff", "miou": "mIoU"}


def tune_model(
    name: str,
    recipe: str,
    *,
    data: Path | None,
    split: str,
    limit: int,
    metric: Metric,
    decode: Sequence[str],
    rounds: int,
    out: Path | None,
    protocol: str,
    device: str,
    precision: Precision,
    on_error: OnError,
    as_json: bool,
) -> int:
    """Tune a model; print a table or JSON, and optionally save the model with the chosen values.

    Args:
        name: bundled model or path, see :func:`panscape.load`.
        recipe: name of the recipe that defines the dataset.
        data: folder of the dataset; None for synthetic datasets.
        split: name of the split.
        limit: maximum number of images; 0 for all.
        metric: metric to maximise.
        decode: values to try, in the format of :mod:`panscape.cli.decode_arguments`; empty for the default grid.
        rounds: maximum number of passes over the options.
        out: file for the model with the chosen values.
        protocol: name of the evaluation protocol of panoptic quality.
        device: device to predict on.
        precision: numeric precision of the forward pass.
        on_error: whether to raise an error or skip an image that cannot be used.
        as_json: print one JSON object instead of tables.

    Returns:
        0, or 1 if images were skipped.
    """
    if out is not None and out.suffix != ".safetensors":
        raise InvalidArgumentError(f"expected --out to end in .safetensors, got {out}")
    require_places(out)
    recipe = resolve_recipe_name(recipe)
    chosen_device = choose_device(device)
    dataset = get_recipe(recipe).data.load(data, split)
    model = load(name, labels=dataset.labels).to(chosen_device)
    grid = parse_grid(model, decode, "panscape tune")
    if split != "train":
        print(
            f"panscape: options are chosen on {split}; scores of the tuned model on {split} are biased",
            file=sys.stderr,
        )
    bad: list[SkippedSample] = []
    with ProgressBar("images") as bar:
        found = tune(
            model,
            dataset,
            grid=grid or None,
            metric=metric,
            rounds=rounds,
            limit=limit,
            protocol=protocol,
            precision=precision,
            on_error=on_error,
            skipped=bad.append,
            progress=bar.update,
        )
    facts = {
        "recipe": recipe,
        "split": split,
        "images": found.num_images,
        "metric": metric,
        "protocol": protocol,
        "before": round(found.before, 6),
        "after": round(found.after, 6),
        "changes": {option: list(values) for option, values in found.changes.items()},
    }
    if as_json:
        skipped = [{"image": image, "error": error} for image, error in bad]
        print(json.dumps({"model": name, **facts, "sweeps": _plain(found.sweeps), "skipped": skipped}))
    else:
        images = f"{found.num_images} image{'' if found.num_images == 1 else 's'} of {recipe} {split}"
        print(f"{name} on {images} (of {len(dataset)}), protocol {protocol}\n\n{tables(found)}")
    if bad:
        print(f"panscape: {len(bad)} images could not be used:", file=sys.stderr)
        for _, error in bad:
            print(f"  {error}", file=sys.stderr)
    if out is not None:
        model.replace_decoding(found.decoding)
        zoo.save(model, out, {**zoo.read_card(name), "decoding": _note(facts, found)})
        if not as_json:
            print(f"\nsaved: {out}")
    return 1 if bad else 0


def tables(found: TuningReport) -> str:
    """Return a table of values and scores in percent for each option, and a summary of the changes.

    An asterisk marks the chosen value. The table of an option shows its last sweep, made with the best values of the
    other options.
    """
    title = _TITLES[found.metric]
    blocks = [_table(sweep, title) for sweep in found.last_sweeps]
    result = [
        f"{title} {format_percent(found.before)} with the model's own values, "
        f"{format_percent(found.after)} with the chosen values "
        f"({100 * (found.after - found.before):+.1f}); measured on the images they were chosen on"
    ]
    for option, (before, after) in found.changes.items():
        gain = f"{100 * found.gains[option]:+.2f}"
        result.append(f"  --decode.{option.replace('_', '-')} {after}  (was {before}; {gain} on its own)")
    if not found.changes:
        result.append("  no value is better than the model's own")
    edges = [sweep for sweep in found.last_sweeps if sweep.is_at_edge]
    for sweep in edges:
        side = "lower" if sweep.chosen == sweep.values[0] else "higher"
        option = sweep.option.replace("_", "-")
        result.append(
            f"  {option} {sweep.chosen} is at the edge of the tried values; try {side} ones: --decode.{option}"
        )
    return "\n\n".join([*blocks, "\n".join(result)])


def _table(sweep: Sweep, title: str) -> str:
    values = [f"{value}{'*' if value == sweep.chosen else ''}" for value in sweep.values]
    return format_table([[sweep.option, *values], [title, *map(format_percent, sweep.scores)]])


def _plain(sweeps: Sequence[Sweep]) -> list[dict[str, Any]]:
    return [
        {
            "option": sweep.option,
            "values": list(sweep.values),
            "scores": [None if math.isnan(score) else score for score in sweep.scores],
            "before": sweep.before,
            "chosen": sweep.chosen,
            "at_edge": sweep.is_at_edge,
        }
        for sweep in sweeps
    ]


def _note(facts: Mapping[str, Any], found: TuningReport) -> str:
    """Return a line for the model card."""
    changes = ", ".join(f"{option} {after} (was {before})" for option, (before, after) in found.changes.items())
    title = _TITLES[found.metric]
    return (
        f"{changes or 'unchanged'}; chosen by panscape tune for {title} on {facts['images']} images of "
        f"{facts['recipe']} {facts['split']}, where {title} went from {format_percent(found.before)} to "
        f"{format_percent(found.after)}. Other numbers on this card were measured with the previous values"
    )
