"""`panscape tune MODEL --recipe NAME`: options of post-processing chosen on the data of a recipe."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from panscape import load, zoo
from panscape.cli.console import progress_bar
from panscape.cli.decode_arguments import parse_grid
from panscape.datasets.load import OnError, SkippedSample
from panscape.errors import InvalidArgumentError
from panscape.evaluation.files_command import require_places
from panscape.evaluation.tune import Metric, Sweep, TuningReport, tune
from panscape.inference.device import choose_device
from panscape.metrics.tables import format_percent, format_table
from panscape.precision import Precision
from panscape.recipes import get_recipe

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
    """Tune a model; print a table or JSON, and save the model with the chosen values if asked for.

    Args:
        name: of a bundled model, or a path, see :func:`panscape.load`.
        recipe: whose data to take.
        data: their folder; drawn data need none.
        split: which part of them.
        limit: of images; 0 for all.
        metric: what is to become high.
        decode: values to try, as :mod:`panscape.cli.decode_arguments` takes them; without any, the default grid.
        rounds: how often to go through the options.
        out: where to save the model with the chosen values.
        protocol: name of those of panoptic quality.
        device: where to predict.
        precision: of the numbers inside the network.
        on_error: what to do at an image that cannot be used.
        as_json: print one JSON object in place of tables.

    Returns:
        0, or 1 if images were left out.
    """
    if out is not None and out.suffix != ".safetensors":
        raise InvalidArgumentError(f"expected --out to end in .safetensors, got {out}")
    require_places(out)
    chosen_device = choose_device(device)
    dataset = get_recipe(recipe).data.load(data, split)
    model = load(name, labels=dataset.labels).to(chosen_device)
    grid = parse_grid(model, decode, "panscape tune")
    if split != "train":
        print(
            f"panscape: options are chosen on {split}; what the tuned model reaches on {split} is no fair estimate of "
            "its quality any more",
            file=sys.stderr,
        )
    bad: list[SkippedSample] = []
    with progress_bar("images") as progress:
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
            progress=progress,
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
    """Return the values of each option with their scores in percent, and what came of it.

    An asterisk marks the chosen value. Each option's last sweep is shown, which had the best values of the others.
    """
    title = _TITLES[found.metric]
    blocks = [_table(sweep, title) for sweep in found.last_sweeps]
    result = [
        f"{title} {format_percent(found.before)} with the model's own values, "
        f"{format_percent(found.after)} with those chosen "
        f"({100 * (found.after - found.before):+.1f}); on these images, which they were chosen on"
    ]
    for option, (before, after) in found.changes.items():
        gain = f"{100 * found.gains[option]:+.2f}"
        result.append(f"  --decode.{option.replace('_', '-')} {after}  (was {before}; alone worth {gain})")
    if not found.changes:
        result.append("  no value is better than the model's own")
    edges = [sweep for sweep in found.last_sweeps if sweep.is_at_edge]
    for sweep in edges:
        side = "lower" if sweep.chosen == sweep.values[0] else "higher"
        option = sweep.option.replace("_", "-")
        result.append(f"  {option} {sweep.chosen} is at the edge of what was tried; try {side} ones: --decode.{option}")
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
    """Return a line for the card."""
    changes = ", ".join(f"{option} {after} (was {before})" for option, (before, after) in found.changes.items())
    title = _TITLES[found.metric]
    return (
        f"{changes or 'unchanged'}; chosen by panscape tune for {title} on {facts['images']} images of "
        f"{facts['recipe']} {facts['split']}, where {title} went from {format_percent(found.before)} to "
        f"{format_percent(found.after)}. Other numbers on this card are of the values before"
    )
